//! What is known of a base's Node.

use std::time::Instant;

use k8s_openapi::api::core::v1::Node;

use crate::{
    domain::Ledger,
    k8s::{MemoryPressure, names},
    planning::{Packed, Tracked},
};

/// What a write of a Node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum NodeWrite {
    Create,
    Patch,
    Delete,
}

/// What is known about a Node.
#[derive(Debug, Default)]
pub(in crate::engine) struct NodeState {
    pub(in crate::engine) name: String,
    pub(in crate::engine) object: Tracked<Packed<Node>, NodeWrite>,
    /// What was taken from the cluster's pool for its Pods.
    pub(in crate::engine) pod_cidr: Option<Box<str>>,
    /// That it has one was told.
    pub(in crate::engine) told_pod_cidr: bool,
    /// A Node of that name is there, but without our labels: it is given them.
    pub(in crate::engine) adopts: bool,
    /// When its status is written again, though nothing has changed.
    pub(in crate::engine) refresh_at: Option<Instant>,
    /// The mark of what the Node was last found to say already; none after any change of it.
    pub(in crate::engine) said: Option<u64>,
    /// What there is to say of the base's metaspace: the condition `MemoryPressure`.
    pub(in crate::engine) pressure: Option<MemoryPressure>,
    /// That it has too little was told in Events.
    pub(in crate::engine) reported_metaspace: bool,
    /// Since when its Ready condition is not True, as far as this process saw.
    pub(in crate::engine) not_ready_since: Option<Instant>,
}

impl NodeState {
    /// The base has too little metaspace.
    pub(in crate::engine) fn has_low_metaspace(&self) -> bool {
        self.pressure.as_ref().is_some_and(|said| said.low)
    }

    /// The object as the watch showed it.
    pub(in crate::engine) fn shown(&self) -> Option<Node> {
        self.object.object()?.unpack()
    }

    /// The ledger in the Node's annotation, where an older version left one.
    pub(in crate::engine) fn former_ledger(&self) -> Option<Ledger> {
        let annotations = self.shown()?.metadata.annotations?;
        serde_json::from_str(annotations.get(names::LEDGER)?).ok().filter(|ledger| *ledger != Ledger::default())
    }

    /// Where it is.
    pub(in crate::engine) fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.name)
    }
}
