//! Kubernetes Events: the story in `kubectl describe`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use super::writer::{Request, perform};
use crate::metrics::Metrics;

/// Events that wait for the API server. They are for people: when this is full, the newest is dropped and counted.
const QUEUE: usize = 4096;
/// Requests at a time; statuses come first.
const PERMITS: usize = 2;

/// What an Event is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A Pod: namespace, name, uid.
    Pod(String, String, String),
    /// A Deployment: namespace, name, uid.
    Deployment(String, String, String),
    /// A Node, by name: as a kubelet's, its Events have the name as uid.
    Node(String),
}

/// An Event to write.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it is about.
    pub subject: Subject,
    /// Something is wrong.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people; cut to the API's 1 kB.
    pub message: String,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub struct EventSink {
    queue: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
}

impl EventSink {
    /// Starts writing Events. Each is an object of its own: the engine tells each change once, so there
    /// is nothing to count up, and no memory of Events has to be kept.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let publisher =
            Arc::new(Publisher { client, instance, serial: AtomicU64::new(0), metrics: Arc::clone(&metrics) });
        tokio::spawn(async move {
            let notes = futures::stream::unfold(notes, |mut rx| async { rx.recv().await.map(|n| (n, rx)) });
            notes.for_each_concurrent(PERMITS, |note| publisher.publish(note)).await;
        });
        Self { queue, metrics }
    }

    /// Writes an Event some time soon.
    pub fn note(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.metrics.overflow("events");
        }
    }

    /// Events waiting.
    pub fn depth(&self) -> usize {
        QUEUE - self.queue.capacity()
    }
}

struct Publisher {
    client: Client,
    instance: String,
    serial: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Publisher {
    async fn publish(&self, note: Note) {
        // Events about Nodes are kept in the namespace default (Kubernetes convention).
        let (namespace, name, regarding) = match note.subject {
            Subject::Pod(namespace, name, uid) => {
                let regarding =
                    json!({ "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid });
                (namespace, name, regarding)
            }
            Subject::Deployment(namespace, name, uid) => {
                let regarding = json!({
                    "apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": name, "uid": uid,
                });
                (namespace, name, regarding)
            }
            Subject::Node(name) => {
                let regarding = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": name });
                ("default".to_owned(), name, regarding)
            }
        };
        let now = Timestamp::now();
        // Names of objects have up to 253 characters.
        let of: String = name.chars().take(220).collect();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": format!("{}.{:x}{serial:04x}", of.trim_end_matches(['.', '-']), now.as_millisecond()), "namespace": namespace },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if note.warning { "Warning" } else { "Normal" },
            "reason": note.reason,
            "action": note.reason,
            "note": note.message.chars().take(1000).collect::<String>(),
            "regarding": regarding,
            "reportingController": "modulet",
            "reportingInstance": self.instance.chars().take(128).collect::<String>(),
        });
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        match perform(&self.client, Request::create(path, &event)).await {
            Ok(_) => self.metrics.written("event", "ok"),
            Err(error) => {
                self.metrics.written("event", "failed");
                debug!(%error, reason = note.reason, "cannot write an Event");
            }
        }
    }
}
