//! Objects as watches read them: what nobody here needs is passed over in the text.
//!
//! Half of a Pod's bytes are managed fields, volumes and mounts, and most Pods of a cluster are not ours.

mod pod;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    api::{
        apps::v1::{
            ControllerRevision, DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet,
        },
        core::v1::{ConfigMap, Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus},
    },
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::k8s::{
    keep_wanted_annotations,
    rollout::{ModuleRollout, ModuleRolloutSpec, ModuleRolloutStatus},
};
use pod::LeanPodSpec;

/// An object of which only what is needed has been read.
#[derive(Clone, Debug)]
pub struct Lean<K>(pub K);

/// What is read of an object.
pub trait Watchable: Resource<DynamicType = ()> {
    /// Its parts.
    type Parts: DeserializeOwned;

    /// The object, with nothing but these.
    fn from_parts(parts: Self::Parts) -> Self;
}

impl<'de, K: Watchable> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::Parts::deserialize(deserializer).map(|parts| Self(K::from_parts(parts)))
    }
}

impl<K: Watchable> Resource for Lean<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Metadata without managed fields and the like.
#[derive(Deserialize)]
#[serde(remote = "ObjectMeta", rename_all = "camelCase")]
struct Meta {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    #[serde(skip)]
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    managed_fields: Option<Vec<ManagedFieldsEntry>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    #[serde(skip)]
    self_link: Option<String>,
    uid: Option<String>,
}

/// Metadata, what is wanted, and what is.
#[derive(Deserialize)]
pub struct Parts<Spec = IgnoredAny, Status = IgnoredAny> {
    #[serde(default, with = "Meta")]
    metadata: ObjectMeta,
    spec: Option<Spec>,
    status: Option<Status>,
}

impl Watchable for Pod {
    type Parts = Parts<LeanPodSpec, PodStatus>;

    fn from_parts(parts: Self::Parts) -> Self {
        let mut pod = Self { metadata: parts.metadata, spec: parts.spec.map(PodSpec::from), status: parts.status };
        keep_wanted_annotations(&mut pod);
        pod
    }
}

impl Watchable for Node {
    type Parts = Parts<NodeSpec, NodeStatus>;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata, spec: parts.spec, status: parts.status }
    }
}

impl Watchable for Deployment {
    type Parts = Parts<DeploymentSpec, DeploymentStatus>;

    fn from_parts(parts: Self::Parts) -> Self {
        let metadata = ObjectMeta { annotations: None, ..parts.metadata };
        let status = parts.status.map(|numbers| DeploymentStatus { conditions: None, ..numbers });
        Self { metadata, spec: parts.spec, status }
    }
}

impl Watchable for DaemonSet {
    type Parts = Parts<DaemonSetSpec>;

    fn from_parts(parts: Self::Parts) -> Self {
        let metadata = ObjectMeta { annotations: None, ..parts.metadata };
        Self { metadata, spec: parts.spec, status: None }
    }
}

impl Watchable for PartialObjectMeta<ReplicaSet> {
    type Parts = Parts;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata, ..Self::default() }
    }
}

impl Watchable for ModuleRollout {
    type Parts = Rollout;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata, spec: parts.spec, status: parts.status }
    }
}

/// A `ModuleRollout`.
#[derive(Deserialize)]
pub struct Rollout {
    #[serde(default, with = "Meta")]
    metadata: ObjectMeta,
    spec: ModuleRolloutSpec,
    status: Option<ModuleRolloutStatus>,
}

/// Of Nodes that are not ours.
impl Watchable for PartialObjectMeta<Node> {
    type Parts = Parts;

    fn from_parts(parts: Self::Parts) -> Self {
        let ObjectMeta { name, labels, resource_version, .. } = parts.metadata;
        Self { metadata: ObjectMeta { name, labels, resource_version, ..ObjectMeta::default() }, ..Self::default() }
    }
}

impl Watchable for ControllerRevision {
    type Parts = Revision;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata, revision: parts.revision, data: None }
    }
}

impl Watchable for ConfigMap {
    type Parts = Data;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata, data: parts.data, ..Self::default() }
    }
}

/// Metadata and entries.
#[derive(Deserialize)]
pub struct Data {
    #[serde(default, with = "Meta")]
    metadata: ObjectMeta,
    data: Option<BTreeMap<String, String>>,
}

/// A revision of a template, without the template.
#[derive(Deserialize)]
pub struct Revision {
    #[serde(default, with = "Meta")]
    metadata: ObjectMeta,
    #[serde(default)]
    revision: i64,
}
