//! Writes to the API server: bounded in number, in order of arrival, each reported back.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use http::{Method, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    domain::{BaseId, PodUid},
    lead::Lead,
    metrics::Metrics,
    tasks::Tasks,
};

/// Our name as a field manager.
const MANAGER: &str = "modulet";
/// A write that takes longer has failed: an API server that hangs must not hold permits for ever.
const TIMEOUT: Duration = Duration::from_secs(15);

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
            Self::PodCost(..) => "pod_cost",
        }
    }
}

/// A request to the API server.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Request {
    /// Creates an object in the collection at `path`.
    pub fn create(path: String, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, path, content_type: "application/json", body: body.to_string().into_bytes() }
    }

    /// Strategic merge patch: lists merge by their keys.
    pub fn strategic_patch(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/strategic-merge-patch+json";
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// Merge patch.
    pub fn merge_patch(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/merge-patch+json";
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// What is sent.
    #[cfg(test)]
    pub(crate) fn body(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// How, and to which object.
    #[cfg(test)]
    pub(crate) fn target(&self) -> (&Method, &str, &'static str) {
        (&self.method, &self.path, self.content_type)
    }

    /// Deletes at once, if the object still is the one with `uid`.
    pub fn delete(path: String, uid: &str) -> Self {
        let body = serde_json::json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": { "uid": uid },
        });
        Self { method: Method::DELETE, path, content_type: "application/json", body: body.to_string().into_bytes() }
    }
}

/// What the API server made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Resource version of the object now; 0 if there is none in the answer.
    pub resource_version: u64,
}

/// Why a write failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused it.
    #[error("{message} ({code})")]
    Refused {
        /// HTTP status.
        code: u16,
        /// For people.
        message: String,
    },
    /// It did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It was not asked: this replica does not lead, or could not renew that.
    #[error("this replica does not lead at the moment")]
    NotLeading,
}

impl WriteError {
    /// The object is not there (any more), or another one has its name.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether the object is there, where the answer tells: not where it was to be changed, or there where it was to be
    /// created.
    pub fn exists(&self) -> Option<bool> {
        if self.is_gone() { Some(false) } else { self.is_conflict().then_some(true) }
    }

    /// The API server was not there, or had no time: another try may do.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NotLeading | Self::Refused { code: 429 | 500..=599, .. })
    }

    /// Somebody else wrote first, or the uid is another one's.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
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
    capacity: usize,
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
        let (writer, requests) = Self::new(name, capacity);
        let open = writer.open.clone();
        // All in one task: a write that panics must not be one that never ends, for then its key waits for ever.
        tasks.spawn(format!("writer of {name}"), async move {
            let requests = futures::stream::unfold(requests, |mut requests| async {
                requests.recv().await.map(|request| (request, requests))
            });
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
        (Self { queue, name, capacity, open: watch::Sender::new(0) }, requests)
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
        self.capacity - self.queue.capacity()
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

/// A client that writes only while we may.
#[derive(Clone)]
pub struct Gated {
    client: Client,
    lead: Lead,
}

impl Gated {
    /// Asks `lead` before each write.
    pub fn new(client: Client, lead: Lead) -> Self {
        Self { client, lead }
    }

    /// Sends the request and waits for the answer, but not for ever. A request that is given up takes its connection
    /// along.
    pub(super) async fn perform(&self, request: Request) -> Result<Outcome, WriteError> {
        if !self.lead.may_act() {
            return Err(WriteError::NotLeading);
        }
        let late = |_| WriteError::Unreachable(format!("no answer in {TIMEOUT:?}"));
        timeout(TIMEOUT, send(&self.client, request)).await.map_err(late)?
    }
}

/// Sends the request and reads no more of the answer than is needed.
async fn send(client: &Client, request: Request) -> Result<Outcome, WriteError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Meta {
        resource_version: Option<String>,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metadata: Meta,
        message: Option<String>,
    }
    let unreachable = |error: &dyn std::fmt::Display| WriteError::Unreachable(error.to_string());
    // Who wrote it, for `kubectl get --show-managed-fields` (Kubernetes convention).
    let named = request.method == Method::POST || request.method == Method::PATCH;
    let uri = if named { format!("{}?fieldManager={MANAGER}", request.path) } else { request.path };
    let http = http::Request::builder()
        .method(request.method)
        .uri(uri)
        .header(CONTENT_TYPE, request.content_type)
        .body(Body::from(request.body))
        .map_err(|e| unreachable(&e))?;
    let response = client.send(http).await.map_err(|e| unreachable(&e))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
    let answer: Option<Answer> = serde_json::from_slice(&body).ok();
    if status.is_success() {
        let version = answer.and_then(|a| a.metadata.resource_version).and_then(|v| v.parse().ok());
        return Ok(Outcome { resource_version: version.unwrap_or(0) });
    }
    let message = answer.and_then(|a| a.message).unwrap_or_else(|| status.to_string());
    Err(WriteError::Refused { code: status.as_u16(), message })
}
