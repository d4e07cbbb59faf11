//! `DaemonSet`s whose Pods are modules.

use k8s_openapi::api::apps::v1::DaemonSet;

use crate::{api::Seen, k8s::is_module, planning::Listing};

/// `DaemonSet`s whose Pods are modules.
#[derive(Debug, Default)]
pub(super) struct DaemonSets {
    all: Vec<DaemonSet>,
    listing: Listing<Option<String>>,
}

impl DaemonSets {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &DaemonSet> {
        self.all.iter()
    }

    /// A fact from the watch.
    pub(super) fn seen(&mut self, seen: Seen<DaemonSet>) {
        let known = || self.all.iter().map(|set| set.metadata.uid.clone());
        let gone = self.listing.gone(&seen, |set| Some(set.metadata.uid.clone()), known);
        self.all.retain(|set| !gone.contains(&set.metadata.uid));
        let Seen::Applied(set) = seen else { return };
        self.all.retain(|known| known.metadata.uid != set.metadata.uid);
        let modules = set.spec.as_ref().is_some_and(|spec| is_module(&spec.template));
        if modules && set.metadata.deletion_timestamp.is_none() {
            self.all.push(set);
        }
    }
}
