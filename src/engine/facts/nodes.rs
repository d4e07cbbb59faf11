//! Nodes and their Leases: what watches show of them, and the ends of their writes.

use std::time::Instant;

use k8s_openapi::api::core::v1::Node;
use tracing::warn;

use crate::{
    api::{Outcome, Seen, WriteError},
    domain::{BaseId, BaseInfo},
    engine::{
        known::{BaseState, NodeWrite},
        state::State,
    },
    k8s::{base_address, is_by_modulet, names, node_says_of_metaspace, node_says_ready},
    planning::{Packed, version},
    tunnel::AddressRanges,
};

impl BaseState {
    /// The watch shows the Node.
    fn node_observed(&mut self, mut object: Node, ranges: &AddressRanges, now: Instant) {
        if self.node.object.is_outdated(version(&object.metadata)) {
            return;
        }
        if self.base.info.is_none() {
            self.base.info = info_from(&object, ranges);
        }
        if self.health.is_none() && !self.node.object.exists() {
            // The process before this one found it, and Events told it.
            self.node.pressure = node_says_of_metaspace(&object);
            self.node.reported_metaspace = self.node.has_low_metaspace();
        }
        if node_says_ready(&object) {
            self.node.not_ready_since = None;
        } else {
            self.node.not_ready_since.get_or_insert(now);
        }
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|key, _| key == names::LEDGER || key == names::BASE_ADDRESS);
        }
        self.node.pod_cidr = object.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()).map(Box::from);
        self.node.object.observed(Packed::new(&object), version(&object.metadata));
        self.node.said = None;
        self.node.adopts = false;
    }

    /// The Node is gone.
    fn node_gone(&mut self) {
        self.node.object.gone();
        self.node.adopts = false;
        self.node.pod_cidr = None;
        self.node.said = None;
        self.node.not_ready_since = None;
        self.lease.gone();
        self.lease_due = None;
    }

    pub(super) fn node_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        let what = self.node.object.writing().copied();
        self.node.said = None;
        match result {
            Ok(outcome) => {
                let version = if what == Some(NodeWrite::Delete) { 0 } else { outcome.resource_version };
                self.node.object.succeeded(version);
                if what == Some(NodeWrite::Delete) {
                    self.node_gone();
                } else {
                    self.node.object.await_echo(now);
                }
            }
            Err(error) => {
                self.node.object.failed(now);
                if error.is_gone() {
                    // The watch is about to say so, or has already. Made again if the base lives.
                    self.node_gone();
                    self.node.object.at_once();
                } else if error.is_conflict() && what == Some(NodeWrite::Create) {
                    warn!(node = self.node.name, "a Node of this name is there without our labels; it is taken over");
                    self.node.adopts = true;
                } else if !error.is_conflict() && error.is_about_it() && self.node.object.reports_failure() {
                    // A conflict means that the watch is about to deliver something newer.
                    warn!(node = self.node.name, %error, "cannot write the Node, trying again");
                }
            }
        }
    }

    /// The Lease was written, or not. Where it is not as it was thought to be, it is renewed or created at once, but
    /// spaced out if that is not true either.
    pub(super) fn lease_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        let Err(error) = result else {
            self.lease.created_or_updated(0);
            self.lease_renewed = Some(now);
            return;
        };
        self.lease.failed_with(error.exists(), now);
        self.lease_due = Some(now);
        if error.exists().is_none() && error.is_about_it() && self.lease.reports_failure() {
            warn!(node = self.node.name, %error, "cannot renew the Lease, trying again");
        }
    }
}

impl State {
    pub(super) fn node_seen(&mut self, seen: Seen<Node>, now: Instant) {
        let id_of = |object: &Node| self.topics.base_of(object.metadata.name.as_deref()?);
        let known = || {
            let with_node = self.bases.iter().filter(|(_, state)| state.node.object.exists());
            with_node.map(|(id, _)| id.clone())
        };
        for id in self.listing_nodes.gone(&seen, id_of, known) {
            self.node_gone(&id);
        }
        let Seen::Applied(object) = seen else { return };
        let name = object.metadata.name.clone().unwrap_or_default();
        let Some(id) = self.topics.base_of(&name) else { return };
        let ranges = self.config.base_addresses.clone();
        let known = self.bases.get(&id).is_some_and(|s| s.node.object.exists() || s.node.adopts);
        if self.begun.is_some() && !known && !is_by_modulet(&object) {
            self.record.made_by_another(&name);
        }
        if let Some(state) = self.base_mut(&id, now) {
            state.node_observed(object, &ranges, now);
        }
        self.view_pods_of(&id);
        self.dirty.insert(id);
    }

    fn node_gone(&mut self, id: &BaseId) {
        if let Some(state) = self.bases.get_mut(id) {
            state.node_gone();
            self.dirty.insert(id.clone());
        }
    }
}

/// What a Node tells of its base: all there is after a restart, until the base is heard.
fn info_from(node: &Node, ranges: &AddressRanges) -> Option<BaseInfo> {
    let labels = node.metadata.labels.as_ref()?;
    let label = |key: &str| labels.get(key).cloned();
    Some(BaseInfo {
        name: label(names::BASE_NAME)?,
        version: label(names::BASE_VERSION)?,
        cluster: label(names::BASE_CLUSTER),
        ip: base_address(node).and_then(|ip| ranges.address(ip).ok()),
        host_name: label(names::BASE_HOST),
        tunnel_port: label(names::BASE_TUNNEL_PORT).and_then(|port| port.parse().ok()),
    })
}
