//! Kubernetes Events: the story in `kubectl describe`.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tracing::debug;

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
    /// Starts writing Events; the recorder counts repeated ones up instead of adding new.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: "modulet".to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        let counted = Arc::clone(&metrics);
        tokio::spawn(async move {
            let notes = futures::stream::unfold(notes, |mut rx| async { rx.recv().await.map(|n| (n, rx)) });
            notes
                .for_each_concurrent(PERMITS, |note| {
                    let (recorder, metrics) = (recorder.clone(), Arc::clone(&counted));
                    async move { publish(&recorder, &metrics, note).await }
                })
                .await;
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

async fn publish(recorder: &Recorder, metrics: &Metrics, note: Note) {
    let reference = match note.subject {
        Subject::Pod(namespace, name, uid) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        },
        Subject::Deployment(namespace, name, uid) => ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        },
        Subject::Node(name) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            uid: Some(name.clone()),
            name: Some(name),
            ..ObjectReference::default()
        },
    };
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.to_owned(),
        note: Some(note.message.chars().take(1000).collect()),
        action: note.reason.to_owned(),
        secondary: None,
    };
    match recorder.publish(&event, &reference).await {
        Ok(()) => metrics.written("event", "ok"),
        Err(error) => {
            metrics.written("event", "failed");
            debug!(%error, reason = event.reason, "cannot write an Event");
        }
    }
}
