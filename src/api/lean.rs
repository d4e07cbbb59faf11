//! Objects as watches read them: what nobody here needs is passed over in the text.
//!
//! Half of a Pod's bytes are managed fields, volumes and mounts, and most Pods of a cluster are not ours.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, ReplicaSet},
        core::v1::{
            ConfigMap, Container, EnvFromSource, EnvVar, EphemeralContainer, Lifecycle, Node, NodeSpec, NodeStatus,
            Pod, PodReadinessGate, PodSpec, PodStatus, Probe, Volume,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::k8s::keep_wanted_annotations;

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

/// Metadata without managed fields, finalizers and the like.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        Self {
            annotations: meta.annotations,
            creation_timestamp: meta.creation_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            deletion_timestamp: meta.deletion_timestamp,
            generation: meta.generation,
            labels: meta.labels,
            name: meta.name,
            namespace: meta.namespace,
            owner_references: meta.owner_references,
            resource_version: meta.resource_version,
            uid: meta.uid,
            ..Self::default()
        }
    }
}

/// Metadata, what is wanted, and what is.
#[derive(Deserialize)]
pub struct Parts<Spec = IgnoredAny, Status = IgnoredAny> {
    #[serde(default)]
    metadata: Meta,
    spec: Option<Spec>,
    status: Option<Status>,
}

/// What is read of a Pod's spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeanPodSpec {
    active_deadline_seconds: Option<i64>,
    ephemeral_containers: Option<Vec<Named>>,
    restart_policy: Option<String>,
    volumes: Option<Vec<Named>>,
    containers: Option<Vec<LeanContainer>>,
    init_containers: Option<Vec<LeanContainer>>,
    node_name: Option<String>,
    readiness_gates: Option<Vec<PodReadinessGate>>,
    service_account_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
}

/// Of things that a base does not have, the names are enough.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanContainer {
    liveness_probe: Option<IgnoredAny>,
    readiness_probe: Option<IgnoredAny>,
    startup_probe: Option<IgnoredAny>,
    #[serde(default)]
    name: String,
    image: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<EnvVar>>,
    env_from: Option<Vec<EnvFromSource>>,
    lifecycle: Option<Lifecycle>,
}

impl From<LeanContainer> for Container {
    fn from(container: LeanContainer) -> Self {
        let probe = |there: Option<IgnoredAny>| there.map(|_| Probe::default());
        Self {
            liveness_probe: probe(container.liveness_probe),
            readiness_probe: probe(container.readiness_probe),
            startup_probe: probe(container.startup_probe),
            name: container.name,
            image: container.image,
            args: container.args,
            env: container.env,
            env_from: container.env_from,
            lifecycle: container.lifecycle,
            ..Self::default()
        }
    }
}

/// Every Pod has one of the API server's making.
fn is_token(volume: &Volume) -> bool {
    volume.name.starts_with("kube-api-access-")
}

impl From<LeanPodSpec> for PodSpec {
    fn from(spec: LeanPodSpec) -> Self {
        let containers = |some: Vec<LeanContainer>| some.into_iter().map(Container::from).collect();
        let volume = |v: Named| Volume { name: v.name, ..Volume::default() };
        let ephemeral = |c: Named| EphemeralContainer { name: c.name, ..EphemeralContainer::default() };
        Self {
            active_deadline_seconds: spec.active_deadline_seconds,
            ephemeral_containers: spec.ephemeral_containers.map(|all| all.into_iter().map(ephemeral).collect()),
            restart_policy: spec.restart_policy.filter(|policy| policy != "Always"),
            volumes: spec.volumes.map(|all| all.into_iter().map(volume).filter(|v| !is_token(v)).collect()),
            containers: spec.containers.map(containers).unwrap_or_default(),
            init_containers: spec.init_containers.map(containers),
            node_name: spec.node_name,
            readiness_gates: spec.readiness_gates,
            service_account_name: spec.service_account_name,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            ..Self::default()
        }
    }
}

impl Watchable for Pod {
    type Parts = Parts<LeanPodSpec, PodStatus>;

    fn from_parts(parts: Self::Parts) -> Self {
        let mut pod =
            Self { metadata: parts.metadata.into(), spec: parts.spec.map(PodSpec::from), status: parts.status };
        keep_wanted_annotations(&mut pod);
        pod
    }
}

impl Watchable for Node {
    type Parts = Parts<NodeSpec, NodeStatus>;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata.into(), spec: parts.spec, status: parts.status }
    }
}

impl Watchable for Deployment {
    type Parts = Parts<DeploymentSpec>;

    fn from_parts(parts: Self::Parts) -> Self {
        let metadata = ObjectMeta { annotations: None, ..parts.metadata.into() };
        Self { metadata, spec: parts.spec, status: None }
    }
}

impl Watchable for DaemonSet {
    type Parts = Parts<DaemonSetSpec>;

    fn from_parts(parts: Self::Parts) -> Self {
        let metadata = ObjectMeta { annotations: None, ..parts.metadata.into() };
        Self { metadata, spec: parts.spec, status: None }
    }
}

impl Watchable for PartialObjectMeta<ReplicaSet> {
    type Parts = Parts;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata.into(), ..Self::default() }
    }
}

impl Watchable for ControllerRevision {
    type Parts = Revision;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata.into(), revision: parts.revision, data: None }
    }
}

impl Watchable for ConfigMap {
    type Parts = Data;

    fn from_parts(parts: Self::Parts) -> Self {
        Self { metadata: parts.metadata.into(), data: parts.data, ..Self::default() }
    }
}

/// Metadata and entries.
#[derive(Deserialize)]
pub struct Data {
    #[serde(default)]
    metadata: Meta,
    data: Option<BTreeMap<String, String>>,
}

/// A revision of a template, without the template.
#[derive(Deserialize)]
pub struct Revision {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    revision: i64,
}
