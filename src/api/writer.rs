//! Writes to the API server: bounded in number, in order of arrival, each reported back.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::sync::{mpsc, watch};

use super::{
    gated::Gated,
    request::{Outcome, Request, WriteError},
};
use crate::{
    domain::{BaseId, PodUid},
    metrics::Metrics,
    tasks::Tasks,
};

/// What a write is about. At most one write for each key is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Status of a Pod.
    PodStatus(PodUid),
    /// Removal of a Pod.
    PodDelete(PodUid),
    /// A base's Node.
    Node(BaseId),
    /// A base's Lease.
    Lease(BaseId),
    /// An object of the record, by its name.
    Record(Arc<str>),
    /// Replicas of a Deployment, by its uid.
    Scale(String),
    /// A `ModuleRollout`, by its uid.
    Rollout(String),
    /// The template of a workload whose `ModuleRollout` has this uid.
    RolledBack(String),
    /// The condition of a base's own Pod.
    BasePod(PodUid),
    /// A Pod that is deleted so that another one comes where it belongs.
    PodMove(PodUid),
    /// Deletion cost of a Pod, with the uid of its Deployment.
    PodCost(String, PodUid),
}

impl Key {
    fn kind(&self) -> &'static str {
        match self {
            Self::PodStatus(_) => "pod_status",
            Self::PodDelete(_) => "pod_delete",
            Self::Node(_) => "node",
            Self::Lease(_) => "lease",
            Self::Record(_) => "record",
            Self::Scale(_) => "scale",
            Self::Rollout(_) => "rollout",
            Self::RolledBack(_) => "roll_back",
            Self::BasePod(_) => "base_pod",
            Self::PodMove(_) => "pod_move",
            Self::PodCost(..) => "pod_cost",
        }
    }
}

/// A write that ended.
#[derive(Debug)]
pub struct Written {
    /// What it was about.
    pub key: Key,
    /// How it ended.
    pub result: Result<Outcome, WriteError>,
}

/// Takes writes.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<(Key, Request)>,
    name: &'static str,
    /// Writes that have not ended.
    open: watch::Sender<usize>,
}

impl Writer {
    /// Starts a writer with `permits` requests at a time and room for `capacity` that wait.
    pub fn start(
        tasks: &mut Tasks,
        name: &'static str,
        client: Gated,
        permits: usize,
        capacity: usize,
        report: mpsc::Sender<Written>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (writer, mut requests) = Self::new(name, capacity);
        let open = writer.open.clone();
        // All in one task: a write that panics must not be one that never ends, for then its key waits for ever.
        tasks.spawn(format!("writer of {name}"), async move {
            let requests = stream::poll_fn(move |cx| requests.poll_recv(cx));
            let (client, open, metrics, report) = (&client, &open, &metrics, &report);
            let write = |(key, request): (Key, Request)| async move {
                let result = client.perform(request).await;
                open.send_modify(|open| *open = open.saturating_sub(1));
                metrics.written(key.kind(), label(&result));
                // The engine is gone only at the end.
                let _ = report.send(Written { key, result }).await;
            };
            requests.for_each_concurrent(permits, write).await;
        });
        writer
    }

    /// A writer with room for `capacity` writes, and the end at which they come out.
    pub(crate) fn new(name: &'static str, capacity: usize) -> (Self, mpsc::Receiver<(Key, Request)>) {
        let (queue, requests) = mpsc::channel(capacity);
        (Self { queue, name, open: watch::Sender::new(0) }, requests)
    }

    /// Hands a write over; false if there is no room, and nothing will come back.
    pub fn submit(&self, key: Key, request: Request) -> bool {
        self.open.send_modify(|open| *open += 1);
        let taken = self.queue.try_send((key, request)).is_ok();
        if !taken {
            self.open.send_modify(|open| *open -= 1);
        }
        taken
    }

    /// Tells how many writes have not ended.
    pub fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Name for metrics.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Writes waiting.
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// How a write ended, in a word.
fn label(result: &Result<Outcome, WriteError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(e) if e.is_gone() => "gone",
        Err(e) if e.is_conflict() => "conflict",
        Err(WriteError::Refused { .. }) => "refused",
        Err(WriteError::Unreachable(_)) => "unreachable",
        Err(WriteError::NotLeading) => "not_leading",
    }
}
