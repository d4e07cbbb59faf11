//! Plans for the Node of a base.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tracing::info;

use super::jitter;
use crate::{
    api::{Key, Request},
    domain::{BaseId, BaseInfo, Later, Reachability},
    engine::{
        known::{BaseState, NodeWrite},
        record::mark,
        state::State,
    },
    k8s::{NodeWriter, Ready, names},
    planning::{Effect, Lane},
};

/// A status that has not changed is written this often, like a kubelet's `nodeStatusReportFrequency`.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// A new base's Node waits this long for its health, so that it is born with its capacity.
const WAIT_FOR_HEALTH: Duration = Duration::from_millis(500);
/// A base that answers but sends no heartbeat (real ones stop after a broker outage) gets its Node from
/// what its health says.
const WAIT_FOR_HEARTBEAT: Duration = Duration::from_secs(11);

impl BaseState {
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
    pub(super) fn plan_node(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        let config = &self.config;
        let Some(state) = self.bases.get_mut(id) else { return };
        let reachability = state.base.reachability(now);
        if let Some(at) = state.info_from_health(now) {
            self.schedule.wake_base(id, at);
        }
        let Some(info) = state.base.info.as_ref() else {
            if reachability == Reachability::Dead && !state.is_looked_for(now) {
                self.forget_base(id, now);
            }
            return;
        };
        let Some(at) = state.node.object.next_write(now) else { return };
        if at > now {
            return self.schedule.wake_base(id, at);
        }
        let says = mark(&(info, &state.health, &state.node.pressure, reachability));
        if let Some(at) = state.node.refresh_at.filter(|at| *at > now)
            && state.node.said == Some(says)
        {
            self.schedule.wake_base_about(id, at, now);
            return;
        }
        let health = state.health.as_ref();
        let writes = NodeWriter {
            name: &state.node.name,
            env: &config.env,
            info,
            max_metaspace: health.and_then(|h| h.max_metaspace),
            pressure: state.node.pressure.as_ref(),
            java_version: health.and_then(|h| h.java_version.as_deref()),
            max_pods: config.max_pods,
            kubelet_version: self.surroundings.kubelet_version.as_deref().unwrap_or_default(),
            kubelet: config.kubelet.as_ref().map(|kubelet| &kubelet.endpoint),
            zone_per_base: self.surroundings.has_zone_per_base(),
            env_taint: config.env_taint,
            now: Timestamp::now(),
        };
        let next_refresh = now.later(STATUS_EVERY.saturating_add(jitter(id)));
        let (what, request) = match (state.node.shown(), reachability) {
            (None, Reachability::Online) if state.node.adopts => {
                let labels = json!({ "metadata": { "labels": writes.labels() } });
                (NodeWrite::Patch, Request::strategic_patch(state.node.path(), &labels))
            }
            (None, Reachability::Online) => {
                let from = state.created.later(WAIT_FOR_HEALTH);
                if health.is_none() && now < from {
                    return self.schedule.wake_base(id, from);
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
                let patches = writes.patches(&node, Ready::from(reachability), health.is_some());
                let status = |status: serde_json::Value| {
                    Request::strategic_patch(format!("{}/status", state.node.path()), &status)
                };
                let request = match (patches.metadata, patches.status) {
                    (Some(metadata), _) => Some(Request::strategic_patch(state.node.path(), &metadata)),
                    (None, Some(changed)) => Some(status(changed)),
                    (None, None) => refresh_due.then(|| status(writes.heartbeat(&node))),
                };
                if refresh_due || request.is_some() {
                    state.node.refresh_at = Some(next_refresh);
                }
                let Some(request) = request else {
                    state.node.said = Some(says);
                    let at = state.node.refresh_at.unwrap_or(next_refresh);
                    return self.schedule.wake_base(id, at);
                };
                (NodeWrite::Patch, request)
            }
        };
        state.node.object.write(what, now);
        out.push(Effect::Write(Lane::Status, Key::Node(id.clone()), request));
    }
}
