//! Which Pods of a peer Deployment go first when it gets fewer: those on bases that count no longer. Its
//! `ReplicaSet` chooses by the Pods' deletion cost; without one it would take the youngest, wherever it runs.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::json;
use tracing::warn;

use super::{Edges, world::World};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, PodUid},
    k8s::names,
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
}

impl World {
    /// Marks the Pods of a Deployment on bases that do not count, and takes back the marks of those that do.
    /// Returns whether the Deployment may be scaled.
    pub(super) fn mark_surplus(
        &mut self,
        deployment: &str,
        counted: &HashSet<BaseId>,
        edges: &Edges,
        now: Instant,
    ) -> bool {
        let mut wrong = Vec::new();
        for record in self.pods.values().filter(|p| &*p.pod.workload.uid == deployment && p.pod.is_live()) {
            let annotations = record.object.metadata.annotations.as_ref();
            let cost = annotations.and_then(|a| a.get(names::DELETION_COST)).map(String::as_str);
            match (counted.contains(&record.base), cost) {
                (false, None) => wrong.push((&record.pod, Some(names::GOES_FIRST))),
                (true, Some(names::GOES_FIRST)) => wrong.push((&record.pod, None)),
                _ => {} // as it should be, or a person's own cost
            }
        }
        let Some(marks) = self.peers.marks(deployment) else { return true };
        for (pod, cost) in &wrong {
            let Some((namespace, name)) = pod.name.split_once('/') else { continue };
            if !marks.in_flight.insert(pod.uid.clone()) {
                continue;
            }
            // By way of the status, which we may write: no right to change Pods is needed for it.
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
            let metadata = json!({ "uid": &*pod.uid, "annotations": { names::DELETION_COST: cost } });
            let request = Request::merge_patch(path, &json!({ "metadata": metadata }));
            let key = Key::PodCost(deployment.to_owned(), pod.uid.clone());
            if !edges.writer.submit(key, request) {
                self.metrics.overflow(edges.writer.name());
                marks.in_flight.remove(&pod.uid);
            }
        }
        wrong.is_empty() || *marks.since.get_or_insert(now) + PATIENCE <= now
    }

    /// A mark was written, or not.
    pub(super) fn marked(&mut self, deployment: &str, pod: &PodUid, result: Result<Outcome, WriteError>) {
        if let Some(marks) = self.peers.marks(deployment) {
            marks.in_flight.remove(pod);
        }
        if let Err(error) = result
            && !error.is_gone()
            && !error.is_conflict()
        {
            warn!(%pod, %error, "cannot mark a Pod as surplus");
        }
    }
}
