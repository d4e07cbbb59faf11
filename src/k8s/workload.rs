//! Which workload a Pod belongs to, and which revision of its template it was made from.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::domain::Workload;

/// Kubernetes convention: the Deployment controller gives the replica set of the current template the highest one.
const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
/// The same of Argo Rollouts, whose Rollout takes the place of a Deployment.
const ROLLOUT_REVISION: &str = "rollout.argoproj.io/revision";
const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";

/// Revisions of templates, as replica sets and controller revisions tell them.
#[derive(Debug, Default)]
pub struct Revisions {
    replica_sets: HashMap<String, Workload>,
    /// (uid of the owner, what the Pod's label says) → revision.
    controller_revisions: HashMap<(String, String), i64>,
}

impl Revisions {
    /// A replica set was seen. Returns whether it changes what [`Self::workload`] says.
    pub fn replica_set(&mut self, meta: &ObjectMeta) -> bool {
        let Some(uid) = meta.uid.clone() else { return false };
        let annotation = |key| meta.annotations.as_ref().and_then(|a| a.get(key)).and_then(|r| r.parse().ok());
        let revision = annotation(DEPLOYMENT_REVISION).or_else(|| annotation(ROLLOUT_REVISION));
        let owner = controller_of(meta).map_or(uid.as_str(), |o| o.uid.as_str());
        let workload = Workload { uid: Arc::from(owner), revision: revision.unwrap_or(0) };
        self.replica_sets.insert(uid, workload.clone()) != Some(workload)
    }

    /// A replica set is gone.
    pub fn replica_set_gone(&mut self, meta: &ObjectMeta) {
        if let Some(uid) = &meta.uid {
            self.replica_sets.remove(uid);
        }
    }

    /// A controller revision (of a `DaemonSet` or `StatefulSet`) was seen. Returns whether that is news.
    pub fn controller_revision(&mut self, object: &ControllerRevision) -> bool {
        let keys = revision_keys(&object.metadata);
        let mut news = false;
        for key in keys {
            news |= self.controller_revisions.insert(key, object.revision) != Some(object.revision);
        }
        news
    }

    /// A controller revision is gone.
    pub fn controller_revision_gone(&mut self, object: &ControllerRevision) {
        for key in revision_keys(&object.metadata) {
            self.controller_revisions.remove(&key);
        }
    }

    /// The workload and revision of a Pod.
    pub fn workload(&self, pod: &ObjectMeta) -> Workload {
        let own_uid = pod.uid.as_deref().unwrap_or_default();
        let Some(owner) = controller_of(pod) else { return Workload { uid: Arc::from(own_uid), revision: 0 } };
        if owner.kind == "ReplicaSet" {
            let unknown = || Workload { uid: Arc::from(owner.uid.as_str()), revision: 0 };
            return self.replica_sets.get(&owner.uid).cloned().unwrap_or_else(unknown);
        }
        let hash = pod.labels.as_ref().and_then(|l| l.get(CONTROLLER_REVISION_HASH));
        let revision = hash.and_then(|h| self.controller_revisions.get(&(owner.uid.clone(), h.clone()))).copied();
        Workload { uid: Arc::from(owner.uid.as_str()), revision: revision.unwrap_or(0) }
    }
}

pub(super) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// A `DaemonSet`'s Pods carry the revision's hash, a `StatefulSet`'s the revision's name.
fn revision_keys(meta: &ObjectMeta) -> Vec<(String, String)> {
    let Some(owner) = controller_of(meta) else { return Vec::new() };
    let hash = meta.labels.as_ref().and_then(|l| l.get(CONTROLLER_REVISION_HASH)).cloned();
    [hash, meta.name.clone()].into_iter().flatten().map(|key| (owner.uid.clone(), key)).collect()
}
