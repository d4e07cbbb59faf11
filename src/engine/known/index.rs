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
    by_base: HashMap<BaseId, BTreeSet<PodUid>>,
    by_workload: HashMap<Arc<str>, BTreeSet<PodUid>>,
}

impl PodIndex {
    /// The Pod is on the Node of this base, which need not be known, and of this workload.
    pub(in crate::engine) fn comes(&mut self, uid: &PodUid, base: &BaseId, workload: &Arc<str>) {
        put(&mut self.by_base, base, uid);
        put(&mut self.by_workload, workload, uid);
    }

    /// It is gone.
    pub(in crate::engine) fn goes(&mut self, uid: &PodUid, base: &BaseId, workload: &Arc<str>) {
        take(&mut self.by_base, base, uid);
        take(&mut self.by_workload, workload, uid);
    }

    /// It was of one workload, and is of another one now.
    pub(in crate::engine) fn moves(&mut self, uid: &PodUid, from: &Arc<str>, to: &Arc<str>) {
        if from != to {
            take(&mut self.by_workload, from, uid);
            put(&mut self.by_workload, to, uid);
        }
    }

    /// The workload's Pods.
    pub(in crate::engine) fn of_workload(&self, workload: &str) -> impl Iterator<Item = &PodUid> {
        self.by_workload.get(workload).into_iter().flatten()
    }

    /// The base's Pods.
    pub(in crate::engine) fn of_base(&self, base: &BaseId) -> impl Iterator<Item = &PodUid> {
        self.by_base.get(base).into_iter().flatten()
    }

    /// Bases that have Pods.
    pub(in crate::engine) fn bases(&self) -> impl Iterator<Item = &BaseId> {
        self.by_base.keys()
    }

    /// Nothing is kept of Pods that are gone.
    #[cfg(test)]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.by_base.is_empty() && self.by_workload.is_empty()
    }
}

fn put<K: Clone + Eq + Hash>(into: &mut HashMap<K, BTreeSet<PodUid>>, key: &K, uid: &PodUid) {
    into.entry(key.clone()).or_default().insert(Arc::clone(uid));
}

fn take<K: Eq + Hash>(from: &mut HashMap<K, BTreeSet<PodUid>>, key: &K, uid: &PodUid) {
    if let Some(pods) = from.get_mut(key) {
        pods.remove(uid);
        if pods.is_empty() {
            from.remove(key);
        }
    }
}
