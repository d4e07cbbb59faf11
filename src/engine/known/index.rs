//! Which Pods are whose: looked up, since a search through all of them for each base would be a search through a fleet
//! for each of its bases.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use crate::domain::{BaseId, PodUid};

/// Pods by what they belong to.
#[derive(Debug, Default)]
pub(in crate::engine) struct PodIndex {
    by_workload: HashMap<Arc<str>, BTreeSet<PodUid>>,
    /// Pods of Nodes whose base is not known.
    homeless: HashMap<BaseId, BTreeSet<PodUid>>,
}

impl PodIndex {
    /// The Pod is of this workload.
    pub(in crate::engine) fn joins(&mut self, uid: &PodUid, workload: &Arc<str>) {
        self.by_workload.entry(Arc::clone(workload)).or_default().insert(Arc::clone(uid));
    }

    /// It is not, any more.
    pub(in crate::engine) fn leaves(&mut self, uid: &PodUid, workload: &Arc<str>) {
        take(&mut self.by_workload, workload, uid);
    }

    /// It was of one workload, and is of another one now.
    pub(in crate::engine) fn moves(&mut self, uid: &PodUid, from: &Arc<str>, to: &Arc<str>) {
        if from != to {
            self.leaves(uid, from);
            self.joins(uid, to);
        }
    }

    /// The workload's Pods.
    pub(in crate::engine) fn of_workload(&self, workload: &str) -> impl Iterator<Item = &PodUid> {
        self.by_workload.get(workload).into_iter().flatten()
    }

    /// The Pod's Node is of a base that is not known.
    pub(in crate::engine) fn is_homeless(&mut self, base: &BaseId, uid: &PodUid) {
        self.homeless.entry(base.clone()).or_default().insert(Arc::clone(uid));
    }

    /// It is gone.
    pub(in crate::engine) fn homeless_gone(&mut self, base: &BaseId, uid: &PodUid) {
        take(&mut self.homeless, base, uid);
    }

    /// Those of this base.
    pub(in crate::engine) fn homeless_of(&self, base: &BaseId) -> impl Iterator<Item = &PodUid> {
        self.homeless.get(base).into_iter().flatten()
    }

    /// Bases that are not known, and that have Pods.
    pub(in crate::engine) fn homeless(&self) -> impl Iterator<Item = &BaseId> {
        self.homeless.keys()
    }

    /// The base is known from now on, with these Pods.
    pub(in crate::engine) fn comes_home(&mut self, base: &BaseId) -> BTreeSet<PodUid> {
        self.homeless.remove(base).unwrap_or_default()
    }

    /// The base is not known any more.
    pub(in crate::engine) fn loses_home(&mut self, base: &BaseId, pods: BTreeSet<PodUid>) {
        if !pods.is_empty() {
            self.homeless.insert(base.clone(), pods);
        }
    }

    /// Nothing is kept of Pods that are gone.
    #[cfg(test)]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.by_workload.is_empty() && self.homeless.is_empty()
    }
}

fn take<K: Eq + Hash>(from: &mut HashMap<K, BTreeSet<PodUid>>, key: &K, uid: &PodUid) {
    if let Some(pods) = from.get_mut(key) {
        pods.remove(uid);
        if pods.is_empty() {
            from.remove(key);
        }
    }
}
