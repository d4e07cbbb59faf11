//! Which workload a Pod belongs to, and which revision of its template it was made from.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::names;
use crate::domain::Workload;

/// Kubernetes convention: the Deployment controller gives the replica set of the current template the highest one.
const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
/// The same of Argo Rollouts, whose Rollout takes the place of a Deployment.
const ROLLOUT_REVISION: &str = "rollout.argoproj.io/revision";

/// Whose it is, the name of its Deployment, and the hash of its template.
type ReplicaSet = (Workload, Option<Arc<str>>, Option<Arc<str>>);

/// Revisions of templates, as replica sets and controller revisions tell them.
#[derive(Debug, Default)]
pub struct Revisions {
    /// With the name of its Deployment and the hash of its template.
    pub replica_sets: Listed<String, ReplicaSet>,
    /// (uid of the owner, what the Pod's label says) → revision.
    pub controller_revisions: Listed<(String, String), i64>,
}

/// What several watches of one kind show. What is not in a new list of its watch is gone.
#[derive(Debug)]
pub struct Listed<K, V> {
    by_watch: BTreeMap<usize, HashMap<K, V>>,
    listing: BTreeMap<usize, HashMap<K, V>>,
}

impl<K, V> Default for Listed<K, V> {
    fn default() -> Self {
        Self { by_watch: BTreeMap::new(), listing: BTreeMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone + PartialEq> Listed<K, V> {
    /// Returns whether that is news.
    fn insert(&mut self, watch: usize, key: K, value: V) -> bool {
        if let Some(listing) = self.listing.get_mut(&watch) {
            listing.insert(key.clone(), value.clone());
        }
        let before = self.by_watch.entry(watch).or_default().insert(key, value.clone());
        before != Some(value)
    }

    fn remove(&mut self, watch: usize, key: &K) {
        for all in [&mut self.by_watch, &mut self.listing] {
            if let Some(all) = all.get_mut(&watch) {
                all.remove(key);
            }
        }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.by_watch.values().find_map(|all| all.get(key))
    }

    /// The watch with this number lists all of them anew.
    pub fn begin(&mut self, watch: usize) {
        self.listing.insert(watch, HashMap::new());
    }

    /// It has: those that were not among them are gone.
    pub fn end(&mut self, watch: usize) {
        if let Some(listed) = self.listing.remove(&watch) {
            self.by_watch.insert(watch, listed);
        }
    }
}

impl Revisions {
    /// A replica set was seen. Returns whether it changes what [`Self::workload`] says.
    pub fn replica_set(&mut self, watch: usize, meta: &ObjectMeta) -> bool {
        let Some(uid) = meta.uid.clone() else { return false };
        let annotation = |key| meta.annotations.as_ref().and_then(|a| a.get(key)).and_then(|r| r.parse().ok());
        let revision = annotation(DEPLOYMENT_REVISION).or_else(|| annotation(ROLLOUT_REVISION));
        let owner = controller_of(meta);
        let deployment = owner.filter(|o| o.kind == "Deployment").map(|o| Arc::from(o.name.as_str()));
        let owner = owner.map_or(uid.as_str(), |o| o.uid.as_str());
        let workload = Workload { uid: Arc::from(owner), revision: revision.unwrap_or(0) };
        let hash = meta.labels.as_ref().and_then(|l| l.get(names::TEMPLATE_HASH)).map(|hash| Arc::from(hash.as_str()));
        self.replica_sets.insert(watch, uid, (workload, deployment, hash))
    }

    /// The name of the Deployment that a Pod is of, if it is of one.
    pub fn deployment(&self, pod: &Owner) -> Option<Arc<str>> {
        self.replica_sets.get(&*pod.uid).filter(|_| pod.is_replica_set)?.1.clone()
    }

    /// Hashes of the templates that a Deployment or `DaemonSet` of that name had and has, the current one last.
    pub fn of_workload(&self, uid: &str, name: &str) -> Vec<Arc<str>> {
        let sets = self.replica_sets.by_watch.values().flat_map(HashMap::values);
        let sets = sets.filter(|(workload, ..)| *workload.uid == *uid);
        let of_sets = sets.filter_map(|(workload, _, hash)| Some((workload.revision, hash.clone()?)));
        let controlled = self.controller_revisions.by_watch.values().flatten();
        // They are known by the hash and by their own name, which begins with their owner's.
        let by_hash = controlled.filter(|((owner, key), _)| {
            owner == uid && !key.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        });
        let mut all: Vec<_> =
            of_sets.chain(by_hash.map(|((_, key), revision)| (*revision, key.as_str().into()))).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(|(_, hash)| hash).collect()
    }

    /// A replica set is gone.
    pub fn replica_set_gone(&mut self, watch: usize, meta: &ObjectMeta) {
        if let Some(uid) = &meta.uid {
            self.replica_sets.remove(watch, uid);
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let count = |all: usize, one: usize| all + one;
        let sets = self.replica_sets.by_watch.values().map(HashMap::len).fold(0, count);
        self.controller_revisions.by_watch.values().map(HashMap::len).fold(sets, count)
    }

    /// A controller revision (of a `DaemonSet` or `StatefulSet`) was seen. Returns whether that is news.
    pub fn controller_revision(&mut self, watch: usize, object: &ControllerRevision) -> bool {
        let mut news = false;
        for key in revision_keys(&object.metadata) {
            news |= self.controller_revisions.insert(watch, key, object.revision);
        }
        news
    }

    /// A controller revision is gone.
    pub fn controller_revision_gone(&mut self, watch: usize, object: &ControllerRevision) {
        for key in revision_keys(&object.metadata) {
            self.controller_revisions.remove(watch, &key);
        }
    }

    /// The workload and revision of a Pod.
    pub fn workload(&self, pod: &Owner) -> Workload {
        let unknown = || Workload { uid: Arc::clone(&pod.uid), revision: 0 };
        if pod.is_replica_set {
            return self.replica_sets.get(&*pod.uid).map_or_else(unknown, |(workload, ..)| workload.clone());
        }
        let hash = pod.revision_hash.as_ref();
        let revision = hash.and_then(|h| self.controller_revisions.get(&(pod.uid.to_string(), h.to_string()))).copied();
        Workload { revision: revision.unwrap_or(0), ..unknown() }
    }
}

/// Whose a Pod is, as its metadata says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    is_replica_set: bool,
    /// A Pod of nobody is a workload of its own.
    uid: Arc<str>,
    revision_hash: Option<Box<str>>,
}

impl Owner {
    /// Whose Pod this is.
    pub fn of(pod: &ObjectMeta) -> Self {
        let owner = controller_of(pod);
        let hash = pod.labels.as_ref().and_then(|l| l.get(names::REVISION_HASH)).filter(|_| owner.is_some());
        Self {
            is_replica_set: owner.is_some_and(|o| o.kind == "ReplicaSet"),
            uid: Arc::from(owner.map_or(pod.uid.as_deref().unwrap_or_default(), |o| o.uid.as_str())),
            revision_hash: hash.map(|hash| hash.as_str().into()),
        }
    }
}

pub(super) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// The kind and name of the workload that a Pod is of, and the hash of the template that it was made from; as its own
/// metadata says (Kubernetes convention: a Deployment's `ReplicaSet` has the Deployment's name and the hash as its own).
pub fn made_by(pod: &ObjectMeta) -> Option<(&str, &str, &str)> {
    let owner = controller_of(pod)?;
    let label = |key| pod.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = label(names::TEMPLATE_HASH)?;
            Some(("Deployment", owner.name.strip_suffix(hash)?.strip_suffix('-')?, hash))
        }
        "DaemonSet" => Some(("DaemonSet", &owner.name, label(names::REVISION_HASH)?)),
        _ => None,
    }
}

/// A `DaemonSet`'s Pods carry the revision's hash, a `StatefulSet`'s the revision's name.
fn revision_keys(meta: &ObjectMeta) -> Vec<(String, String)> {
    let Some(owner) = controller_of(meta) else { return Vec::new() };
    let hash = meta.labels.as_ref().and_then(|l| l.get(names::REVISION_HASH)).cloned();
    [hash, meta.name.clone()].into_iter().flatten().map(|key| (owner.uid.clone(), key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uid: &str) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn what_a_new_list_does_not_have_is_forgotten_and_what_another_watch_shows_is_not() {
        let mut revisions = Revisions::default();
        for uid in ["a", "b", "both"] {
            assert!(revisions.replica_set(0, &set(uid)));
        }
        assert!(revisions.replica_set(1, &set("both")));
        assert!(!revisions.replica_set(1, &set("both")), "no news");
        for _ in 0..3 {
            revisions.replica_sets.begin(0);
            assert_eq!(revisions.len(), 4, "until the list is complete");
            revisions.replica_set(0, &set("b"));
            revisions.replica_sets.end(0);
            assert_eq!(revisions.len(), 2);
            assert!(revisions.replica_sets.get("both").is_some());
            for uid in ["a", "both"] {
                revisions.replica_set(0, &set(uid));
            }
        }
        revisions.replica_set_gone(1, &set("both"));
        revisions.replica_set_gone(0, &set("both"));
        assert!(revisions.replica_sets.get("both").is_none());
    }
}
