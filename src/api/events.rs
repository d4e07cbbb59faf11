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
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use super::{
    gated::Gated,
    note::{Note, Subject, shown_trace},
    request::Request,
};
use crate::{
    domain::{Backoff, printable_bytes},
    k8s::names,
    metrics::Metrics,
    tasks::Tasks,
};

/// Events that wait for the API server. They are for people: when this is full, the newest is dropped and counted.
const QUEUE: usize = 16 * 1024;
/// Requests at a time.
const PERMITS: usize = 2;
/// An Event is tried so often,
const TRIES: u32 = 3;
/// with these pauses.
const AGAIN: Backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5) };
/// Bytes of an instance's name (limit of the API).
const INSTANCE_MAX: usize = 128;
/// Statuses come first, but an Event waits no longer for them than this.
const PATIENCE: Duration = Duration::from_secs(3);

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
        client: Gated,
        instance: String,
        statuses: watch::Receiver<usize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (sink, notes) = Self::new(Arc::clone(&metrics));
        let publisher = Publisher { client, instance, serial: AtomicU64::new(0), metrics };
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
    client: Gated,
    instance: String,
    serial: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Publisher {
    async fn publish(&self, Queued { note, at, .. }: Queued) {
        let text = note.text();
        let (version, kind, namespace, name, uid) = match note.subject {
            Subject::Pod(namespace, name, uid) => ("v1", "Pod", Some(namespace), name, Some(uid)),
            Subject::Deployment(namespace, name, uid) => ("apps/v1", "Deployment", Some(namespace), name, Some(uid)),
            Subject::ModuleRollout(namespace, name, uid) => {
                ("modulet.koupleless.io/v1alpha1", "ModuleRollout", Some(namespace), name, Some(uid))
            }
            Subject::Lease(namespace, name, uid) => {
                ("coordination.k8s.io/v1", "Lease", Some(namespace), name, Some(uid))
            }
            Subject::ConfigMap(namespace, name) => ("v1", "ConfigMap", Some(namespace), name, None),
            Subject::CertificateSigningRequest(name) => {
                ("certificates.k8s.io/v1", "CertificateSigningRequest", None, name, None)
            }
            Subject::Node(name) => ("v1", "Node", None, name.clone(), Some(name)),
        };
        let mut regarding = json!({ "apiVersion": version, "kind": kind, "name": name });
        for (field, value) in [("namespace", &namespace), ("uid", &uid)] {
            if let Some(value) = value {
                regarding[field] = json!(value);
            }
        }
        // Events about what has no namespace are kept in the namespace default (Kubernetes convention).
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        // Names of objects have up to 253 characters.
        let of: String = name.chars().take(220).collect();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": format!("{}.{:x}{serial:04x}", of.trim_end_matches(['.', '-']), at.as_millisecond()), "namespace": namespace },
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if note.warning { "Warning" } else { "Normal" },
            "reason": note.reason,
            "action": note.reason,
            "note": text,
            "regarding": regarding,
            "reportingController": "modulet",
            "reportingInstance": printable_bytes(&self.instance, INSTANCE_MAX),
        });
        if let Some(trace) = &note.trace {
            event["metadata"]["annotations"] = json!({ names::TRACE: shown_trace(trace) });
        }
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        self.write(Request::create(path, &event), note.reason).await;
    }

    /// Its name is its own, so what was made of it by a try whose answer was lost is in the way of the next.
    async fn write(&self, request: Request, reason: &'static str) {
        for attempt in 1..=TRIES {
            match self.client.perform(request.clone()).await {
                Err(error) if error.may_pass() && attempt < TRIES => sleep(AGAIN.delay(attempt)).await,
                Err(error) if !(error.is_conflict() && attempt > 1) => {
                    self.metrics.written("event", "failed");
                    debug!(%error, reason, "cannot write an Event");
                    return;
                }
                Ok(_) | Err(_) => {
                    self.metrics.written("event", "ok");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            client::tests::{BUSY, OK, server},
            note::NOTE_MAX,
        },
        *,
    };
    use crate::lead::Lead;

    const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const INVALID: &str = "HTTP/1.1 422 Unprocessable Entity\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

    /// What is asked of an API server that answers so for an Event with this message, and how it is counted.
    async fn asked(answers: &'static [&'static str], message: &str) -> (Vec<serde_json::Value>, String) {
        traced(answers, message, None).await
    }

    async fn traced(
        answers: &'static [&'static str],
        message: &str,
        trace: Option<&str>,
    ) -> (Vec<serde_json::Value>, String) {
        let (clients, mut requests) = server(answers).await;
        let metrics = Arc::new(Metrics::new());
        let instance = "i".repeat(200);
        let publisher = Publisher {
            client: Gated::new(clients.requests, Lead::alone()),
            instance,
            serial: AtomicU64::new(0),
            metrics: Arc::clone(&metrics),
        };
        let subject = Subject::Pod("ns".into(), "biz1".into(), "uid".into());
        let note = Note::of(subject, true, "InstallFailed", message.into());
        let note = Note { trace: trace.map(Arc::from), ..note };
        publisher.publish(Queued { note, at: Timestamp::now(), since: Instant::now() }).await;
        let mut bodies = Vec::new();
        while let Ok(request) = requests.try_recv() {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("POST /apis/events.k8s.io/v1/namespaces/ns/events?fieldManager=modulet "),
                "{head}"
            );
            bodies.push(serde_json::from_str(body).unwrap());
        }
        let counted = metrics.render();
        let counted = counted.lines().find(|line| line.starts_with("modulet_api_writes_total{kind=\"event\"")).unwrap();
        (bodies, counted.to_owned())
    }

    #[tokio::test]
    async fn it_has_as_many_bytes_as_the_api_takes_and_nothing_that_acts_on_a_terminal() {
        let (bodies, counted) = asked(&[OK], &"\u{1b}[31m模块\r\n".repeat(200)).await;
        assert!(counted.ends_with("{kind=\"event\",result=\"ok\"} 1"), "{counted}");
        let note = bodies[0]["note"].as_str().unwrap();
        assert!((1000..=1024).contains(&note.len()), "{}", note.len());
        assert!(note.starts_with("\u{fffd}[31m模块  ") && note.ends_with('…'), "{note}");
        assert!(!note.chars().any(char::is_control), "{note:?}");
        assert_eq!(bodies[0]["reportingInstance"].as_str().unwrap().len(), 128);
    }

    #[tokio::test]
    async fn the_trace_is_told_whatever_the_message_is_and_is_no_longer_than_a_label() {
        for (trace, told) in [("run-42", "run-42".to_owned()), (&"t".repeat(500), format!("{}…", "t".repeat(60)))] {
            for message in ["m", &"模".repeat(2_000)] {
                let (bodies, _) = traced(&[OK], message, Some(trace)).await;
                let note = bodies[0]["note"].as_str().unwrap();
                assert!(note.len() <= NOTE_MAX && note.ends_with(&format!(" (trace {told})")), "{note}");
                assert_eq!(bodies[0]["metadata"]["annotations"]["trace.koupleless.io/id"], told);
            }
        }
        let (bodies, _) = traced(&[OK], "m", Some("\u{1b}[31m\r\n")).await;
        assert!(!bodies[0].to_string().contains("\\u001b"), "{}", bodies[0]);
        let (bodies, _) = asked(&[OK], "m").await;
        assert_eq!((&bodies[0]["note"], &bodies[0]["metadata"]["annotations"]), (&json!("m"), &json!(null)));
    }

    #[tokio::test]
    async fn one_that_is_turned_away_is_tried_again_a_few_times() {
        let (bodies, counted) = asked(&[BUSY, OK], "m").await;
        assert_eq!(bodies.len(), 2);
        assert_eq!(bodies[0], bodies[1]);
        assert!(counted.contains("\"ok\""), "{counted}");
        let (bodies, counted) = asked(&[BUSY], "m").await;
        assert_eq!(bodies.len(), TRIES as usize);
        assert!(counted.contains("\"failed\""), "{counted}");
    }

    #[tokio::test]
    async fn one_that_is_there_after_a_lost_answer_is_written_and_one_that_is_refused_is_not_tried_again() {
        let (bodies, counted) = asked(&["HTTP/1.1 ", CONFLICT], "m").await;
        assert_eq!((bodies.len(), counted.contains("\"ok\"")), (2, true), "{counted}");
        for answer in [&[CONFLICT], &[INVALID]] {
            let (bodies, counted) = asked(answer, "m").await;
            assert_eq!((bodies.len(), counted.contains("\"failed\"")), (1, true), "{counted}");
        }
    }
}
