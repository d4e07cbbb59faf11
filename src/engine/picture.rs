//! What others may see of the engine's state, without asking it: one picture of each base in a concurrent map.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use dashmap::DashMap;
use serde::Serialize;

use super::{bases::BaseState, state::State};
use crate::domain::{BaseId, Reachability};

/// All bases as they were some seconds ago at most.
pub type Picture = Arc<DashMap<BaseId, BasePicture>>;

/// What is known of a base.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BasePicture {
    /// Its Node.
    pub node: String,
    /// Whether it can be reached.
    pub reachability: &'static str,
    /// Seconds for which it has been so, when the picture was taken.
    pub reachability_for_seconds: u64,
    /// Seconds since it was last heard.
    pub silent_for_seconds: u64,
    /// Its application's name and version, where known.
    pub application: Option<String>,
    /// Its address, where known.
    pub address: Option<String>,
    /// Modules as it listed them last, with their states; none if it has not since modulet started.
    pub modules: Option<BTreeMap<String, String>>,
    /// Commands that it has not answered yet.
    pub commands: usize,
    /// What modulet installed there.
    pub installed: Vec<String>,
    /// The ledger is on record as it is.
    pub recorded: bool,
    /// Its Pods that wait, with the reason and the words of their status.
    pub waiting: BTreeMap<String, String>,
}

fn word(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Unknown => "Unknown",
        Reachability::Online => "Online",
        Reachability::Unreachable => "Unreachable",
        Reachability::Stopped => "Stopped",
        Reachability::Dead => "Dead",
    }
}

impl State {
    /// Takes the pictures that are old.
    pub(super) fn take_pictures(&mut self, picture: &Picture, now: Instant) {
        picture.retain(|id, _| self.bases.contains_key(id));
        let old: Vec<_> = self.bases.iter().filter(|(_, s)| s.picture_is_old).map(|(id, _)| id.clone()).collect();
        for id in old {
            let Some(state) = self.bases.get(&id) else { continue };
            let new = self.picture_of(&id, state, now);
            picture.insert(id.clone(), new);
            if let Some(state) = self.bases.get_mut(&id) {
                state.picture_is_old = false;
            }
        }
    }

    fn picture_of(&self, id: &BaseId, state: &BaseState, now: Instant) -> BasePicture {
        let modules =
            state.base.modules().map(|list| list.map(|m| (m.id.to_string(), format!("{:?}", m.state))).collect());
        let mut waiting = BTreeMap::new();
        for pod in self.pods_of(id) {
            let status = pod.object.object().and_then(|object| object.status.as_ref());
            let statuses = status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            for wait in statuses.filter_map(|c| c.state.as_ref()?.waiting.as_ref()) {
                let words = [wait.reason.as_deref(), wait.message.as_deref()];
                let words: Vec<_> = words.into_iter().flatten().collect();
                waiting.insert(pod.pod.name.clone(), words.join(": "));
            }
        }
        let info = state.base.info.as_ref();
        BasePicture {
            node: state.node.name.clone(),
            reachability: word(state.base.reachability(now)),
            reachability_for_seconds: now.saturating_duration_since(state.reachability_since).as_secs(),
            silent_for_seconds: state.base.liveness.silence(now).as_secs(),
            application: info.map(|info| format!("{} {}", info.name, info.version)),
            address: info.and_then(|info| info.ip.clone()),
            modules,
            commands: state.base.in_flight(),
            installed: state.base.ledger.all_installed().map(|id| id.to_string()).collect(),
            recorded: super::record::mark(&state.base.ledger) == state.saved_mark,
            waiting,
        }
    }
}
