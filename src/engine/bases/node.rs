//! The Node of a base.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tracing::{info, warn};

use super::{super::state::State, BaseState, spread};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, BaseInfo, Later, Ledger, Reachability},
    k8s::{NodeWriter, Ready, names, node_says_metaspace_low, node_says_ready},
    planning::{Effect, Lane, MayWrite, Task, Tracked, version},
    tunnel::{AddressRanges, Health},
};

/// A status that has not changed is written this often, like a kubelet's `nodeStatusReportFrequency`.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// A new base's Node waits this long for its health, so that it is born with its capacity.
const WAIT_FOR_HEALTH: Duration = Duration::from_millis(500);
/// A base that answers but sends no heartbeat (real ones stop after a broker outage) gets its Node from
/// what its health says.
const WAIT_FOR_HEARTBEAT: Duration = Duration::from_secs(11);

/// What a write of a Node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum NodeWrite {
    Create,
    Patch,
    Delete,
}

/// What is known about a Node.
#[derive(Debug)]
pub(in crate::engine) struct NodeState {
    pub(in crate::engine) name: String,
    pub(in crate::engine) object: Tracked<Node, NodeWrite>,
    /// A Node of that name is there, but without our labels: it is given them.
    adopts: bool,
    refresh_at: Option<Instant>,
    /// What the Node was last found to say already; none after any change of it.
    said: Option<(BaseInfo, Option<Health>, Option<String>, Reachability)>,
    /// Since when its Ready condition is not True, as far as this process saw.
    pub(in crate::engine) not_ready_since: Option<Instant>,
}

impl NodeState {
    pub(in crate::engine) fn new(name: String) -> Self {
        Self { name, object: Tracked::default(), adopts: false, refresh_at: None, said: None, not_ready_since: None }
    }

    /// The ledger in the Node's annotation, where an older version left one.
    pub(in crate::engine) fn former_ledger(&self) -> Option<Ledger> {
        let annotations = self.object.object()?.metadata.annotations.as_ref()?;
        serde_json::from_str(annotations.get(names::LEDGER)?).ok().filter(|ledger| *ledger != Ledger::default())
    }

    /// What it should say may be something else now.
    pub(in crate::engine) fn look_again(&mut self) {
        self.said = None;
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.name)
    }
}

impl BaseState {
    /// The watch shows the Node.
    pub(in crate::engine) fn node_shown(&mut self, mut object: Node, addresses: &AddressRanges, now: Instant) {
        if self.node.object.is_outdated(version(&object.metadata)) {
            return;
        }
        if self.base.info.is_none() {
            self.base.info = info_from(&object, addresses);
        }
        if self.health.is_none() && !self.node.object.exists() {
            self.low_metaspace.found(node_says_metaspace_low(&object));
        }
        if node_says_ready(&object) {
            self.node.not_ready_since = None;
        } else {
            self.node.not_ready_since.get_or_insert(now);
        }
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|key, _| key == names::LEDGER);
        }
        let shown = version(&object.metadata);
        self.node.object.shown(object, shown);
        self.node.said = None;
    }

    /// The Node is gone.
    pub(in crate::engine) fn node_gone(&mut self) {
        self.node.object.gone();
        self.node.said = None;
        self.node.not_ready_since = None;
        self.lease.gone();
        self.lease_due = None;
    }

    pub(in crate::engine) fn node_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
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
                } else if !error.is_conflict() && self.node.object.tells_failure() {
                    // A conflict means that the watch is about to deliver something newer.
                    warn!(node = self.node.name, %error, "cannot write the Node, trying again");
                }
            }
        }
    }

    /// A base that sends no heartbeats tells its name and version in its health. Returns when to look again.
    fn info_from_health(&mut self, now: Instant) -> Option<Instant> {
        if self.base.info.is_some() {
            return None;
        }
        let from = self.created.later(WAIT_FOR_HEARTBEAT);
        if now < from {
            return Some(from);
        }
        if let Some((name, version)) = self.health.as_ref().and_then(|h| h.master.clone()) {
            let fits = names::is_label_value(&name) && names::is_label_value(&version);
            self.base.info = fits.then(|| BaseInfo { name, version, ..BaseInfo::default() });
        }
        None
    }
}

impl State {
    /// Plans what the base's Node needs next.
    pub(super) fn plan_node(&mut self, id: &BaseId, task: &Task, now: Instant, out: &mut Vec<Effect>) {
        let config = std::sync::Arc::clone(&self.config);
        let Some(state) = self.bases.get_mut(id) else { return };
        let reachability = state.base.reachability(now);
        if let Some(at) = state.info_from_health(now) {
            self.schedule.wake(task, at);
        }
        let Some(info) = state.base.info.clone() else {
            if reachability == Reachability::Dead && !state.is_looked_for(now) {
                self.forget_base(id, now);
            }
            return;
        };
        match state.node.object.may_write(now) {
            MayWrite::Now => {}
            MayWrite::At(at) => return self.schedule.wake(task, at),
            MayWrite::WhenEnded => return,
        }
        let low_metaspace = state.low_metaspace.says.clone();
        let says = (info.clone(), state.health.clone(), low_metaspace, reachability);
        if let Some(at) = state.node.refresh_at.filter(|at| *at > now)
            && state.node.said.as_ref() == Some(&says)
        {
            return self.schedule.wake(task, at);
        }
        let health = state.health.as_ref();
        let writes = NodeWriter {
            name: &state.node.name,
            env: &config.env,
            info: &info,
            max_metaspace: health.and_then(|h| h.max_metaspace),
            low_metaspace: state.low_metaspace.says.as_deref(),
            java_version: health.and_then(|h| h.java_version.as_deref()),
            max_pods: config.max_pods,
            kubelet_version: self.surroundings.kubelet_version(),
            zone_per_base: self.surroundings.has_zone_per_base(),
            env_taint: config.env_taint,
            now: Timestamp::now(),
        };
        let next_refresh = now.later(STATUS_EVERY.saturating_add(spread(id)));
        let (what, request) = match (state.node.object.object(), reachability) {
            (None, Reachability::Online) if state.node.adopts => {
                state.node.adopts = false;
                let labels = json!({ "metadata": { "labels": writes.labels() } });
                (NodeWrite::Patch, Request::strategic_patch(state.node.path(), &labels))
            }
            (None, Reachability::Online) => {
                let from = state.created.later(WAIT_FOR_HEALTH);
                if health.is_none() && now < from {
                    return self.schedule.wake(task, from);
                }
                let Some(ready) = Ready::from(reachability) else { return };
                info!(node = state.node.name, "creating the Node");
                state.node.refresh_at = Some(next_refresh);
                (NodeWrite::Create, Request::create("/api/v1/nodes".to_owned(), &writes.create(ready)))
            }
            (None, Reachability::Dead) if !state.is_looked_for(now) => return self.forget_base(id, now),
            (None, _) if state.base.is_forgotten(now) => return self.forget_base(id, now),
            // A base that is away without a Node is looked for, by asking it now and then.
            (None, _) => return,
            (Some(node), Reachability::Dead) => {
                info!(node = state.node.name, "the base is gone for good, deleting the Node");
                let uid = node.metadata.uid.as_deref().unwrap_or_default();
                (NodeWrite::Delete, Request::delete(state.node.path(), uid))
            }
            (Some(node), _) => {
                let refresh_due = *state.node.refresh_at.get_or_insert(next_refresh) <= now;
                // After a restart the capacity is not known before the base has been asked again.
                let patches = writes.patches(node, Ready::from(reachability), health.is_some());
                let status = |status: serde_json::Value| {
                    Request::strategic_patch(format!("{}/status", state.node.path()), &status)
                };
                let request = match (patches.metadata, patches.status) {
                    (Some(metadata), _) => Some(Request::strategic_patch(state.node.path(), &metadata)),
                    (None, Some(changed)) => Some(status(changed)),
                    (None, None) => refresh_due.then(|| status(writes.heartbeat(node))),
                };
                if refresh_due || request.is_some() {
                    state.node.refresh_at = Some(next_refresh);
                }
                let Some(request) = request else {
                    state.node.said = Some(says);
                    let at = state.node.refresh_at.unwrap_or(next_refresh);
                    return self.schedule.wake(task, at);
                };
                (NodeWrite::Patch, request)
            }
        };
        state.node.object.write(what, now);
        out.push(Effect::Write(Lane::Status, Key::Node(id.clone()), request));
    }
}

/// What a Node tells of its base: all there is after a restart, until the base is heard.
fn info_from(node: &Node, ranges: &AddressRanges) -> Option<BaseInfo> {
    let labels = node.metadata.labels.as_ref()?;
    let label = |key: &str| labels.get(key).cloned();
    let addresses = node.status.iter().filter_map(|s| s.addresses.as_ref()).flatten();
    let of_type = |type_: &str| addresses.clone().find(|a| a.type_ == type_).map(|a| a.address.clone());
    Some(BaseInfo {
        name: label(names::BASE_NAME)?,
        version: label(names::BASE_VERSION)?,
        cluster: label(names::BASE_CLUSTER),
        ip: of_type("InternalIP").and_then(|ip| ranges.address(&ip).ok()),
        host_name: label(names::BASE_HOST),
    })
}
