//! Which Pods of a peer Deployment go first when it gets fewer: those on bases that count no longer. Its
//! `ReplicaSet` chooses by the Pods' deletion cost; without one it would take the youngest, wherever it runs.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::json;

use super::facts::PeerPod;
use crate::{
    api::{Key, Request},
    domain::{BaseId, PodUid},
    k8s::names,
    planning::{Effect, Lane},
};

/// Scaling waits this long for the marks.
const PATIENCE: Duration = Duration::from_secs(1);

/// Marks on their way, for one Deployment.
#[derive(Debug, Default)]
pub(super) struct Marks {
    since: Option<Instant>,
    in_flight: HashSet<PodUid>,
}

impl Marks {
    /// Scaling is over.
    pub(super) fn done(&mut self) {
        self.since = None;
    }

    /// A mark was written, or not.
    pub(super) fn ended(&mut self, pod: &PodUid) {
        self.in_flight.remove(pod);
    }

    /// Marks the Pods of the Deployment on bases that do not count, and takes back the marks of those that do.
    /// Returns whether the Deployment may be scaled.
    pub(super) fn plan(
        &mut self,
        deployment: &str,
        pods: &[PeerPod<'_>],
        counted: &HashSet<BaseId>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> bool {
        let mut right = true;
        for pod in pods {
            let cost = match (counted.contains(pod.base), pod.deletion_cost) {
                (false, None) => Some(names::GOES_FIRST),
                (true, Some(names::GOES_FIRST)) => None,
                _ => continue, // as it should be, or a person's own cost
            };
            right = false;
            let Some(path) = pod.path() else { continue };
            if !self.in_flight.insert(pod.uid.clone()) {
                continue;
            }
            // By way of the status, which we may write: no right to change Pods is needed for it.
            let metadata = json!({ "uid": &**pod.uid, "annotations": { names::DELETION_COST: cost } });
            let request = Request::merge_patch(format!("{path}/status"), &json!({ "metadata": metadata }));
            out.push(Effect::Write(Lane::Status, Key::PodCost(deployment.to_owned(), pod.uid.clone()), request));
        }
        let since = *self.since.get_or_insert(now);
        right || now.saturating_duration_since(since) >= PATIENCE
    }
}
