//! Kubernetes Events: the story in `kubectl describe`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tracing::debug;

use super::writer::{Request, perform};
use crate::{domain::printable_bytes, metrics::Metrics, tasks::Tasks};

/// Events that wait for the API server. They are for people: when this is full, the newest is dropped and counted.
const QUEUE: usize = 16 * 1024;
/// Requests at a time.
const PERMITS: usize = 2;
/// Bytes of a note (limit of the API).
const NOTE_MAX: usize = 1024;
/// Bytes of an instance's name (limit of the API).
const INSTANCE_MAX: usize = 128;
/// Statuses come first, but an Event waits no longer for them than this.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// For people. What the API does not take is cut, and what a terminal would act on is replaced.
    pub message: String,
}

/// An Event that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    note: Note,
    at: Timestamp,
    since: Instant,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub struct EventSink {
    queue: mpsc::Sender<Queued>,
    metrics: Arc<Metrics>,
}

impl EventSink {
    /// Starts writing Events. Each is an object of its own: the engine tells each change once, so there
    /// is nothing to count up, and no memory of Events has to be kept.
    /// They wait while `statuses` has some open.
    pub fn start(
        tasks: &mut Tasks,
        client: Client,
        instance: String,
        statuses: watch::Receiver<usize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (sink, notes) = Self::new(Arc::clone(&metrics));
        let publisher = Arc::new(Publisher { client, instance, serial: AtomicU64::new(0), metrics });
        tasks.spawn("writer of events", async move {
            let notes = futures::stream::unfold((notes, statuses), |(mut notes, mut statuses)| async {
                let next: Queued = notes.recv().await?;
                let _ = timeout_at(next.since + PATIENCE, statuses.wait_for(|open| *open == 0)).await;
                Some((next, (notes, statuses)))
            });
            notes.for_each_concurrent(PERMITS, |queued| publisher.publish(queued)).await;
        });
        sink
    }

    /// A sink, and the end at which its Events come out.
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Queued>) {
        let (queue, notes) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, notes)
    }

    /// Writes an Event some time soon.
    pub fn note(&self, note: Note) {
        if self.queue.try_send(Queued { note, at: Timestamp::now(), since: Instant::now() }).is_err() {
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
    async fn publish(&self, Queued { note, at, .. }: Queued) {
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
        // Names of objects have up to 253 characters.
        let of: String = name.chars().take(220).collect();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": format!("{}.{:x}{serial:04x}", of.trim_end_matches(['.', '-']), at.as_millisecond()), "namespace": namespace },
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if note.warning { "Warning" } else { "Normal" },
            "reason": note.reason,
            "action": note.reason,
            "note": printable_bytes(&note.message, NOTE_MAX),
            "regarding": regarding,
            "reportingController": "modulet",
            "reportingInstance": printable_bytes(&self.instance, INSTANCE_MAX),
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
