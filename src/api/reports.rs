//! Failures of modules, told to hooks: each once, and never in the engine's way.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use http::{Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Proxies,
    client::elsewhere,
    forward::chain,
    hooks::{Form, Hook, HookError, Hooks},
    report::Report,
};
use crate::{domain::Backoff, lead::Lead, metrics::Metrics, said::Said, tasks::Tasks};

/// Reports that wait. When this is full, the newest is dropped and counted.
const QUEUE: usize = 256;
/// So many are told,
const AT_ONCE: usize = 20;
/// in this time: `DingTalk` takes no more.
const IN: Duration = Duration::from_secs(60);
/// A hook answers within this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// It is told so often,
const TRIES: u32 = 3;
/// with these pauses.
const AGAIN: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(5) };
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;

/// Takes reports.
#[derive(Clone, Debug)]
pub struct ReportSink {
    queue: mpsc::Sender<Report>,
    metrics: Arc<Metrics>,
}

impl ReportSink {
    /// Starts telling `hooks`, while `lead` lets us.
    ///
    /// # Errors
    /// The hooks cannot be used.
    pub fn start(
        tasks: &mut Tasks,
        hooks: Hooks,
        env: &str,
        proxies: Proxies,
        lead: Lead,
        metrics: Arc<Metrics>,
    ) -> Result<Self, HookError> {
        hooks.read()?;
        let (queue, reports) = mpsc::channel(QUEUE);
        let sink = Self { queue, metrics: Arc::clone(&metrics) };
        let reporter = Reporter {
            hooks,
            patience: TIMEOUT,
            env: env.to_owned(),
            proxies,
            lead,
            metrics,
            clients: Mutex::default(),
            said: Mutex::default(),
        };
        tasks.spawn("reports", reporter.run(reports));
        Ok(sink)
    }

    /// Has it told some time soon.
    pub fn report(&self, report: Report) {
        if self.queue.try_send(report).is_err() {
            self.metrics.overflow("reports");
        }
    }

    /// Reports that wait.
    pub fn depth(&self) -> usize {
        QUEUE.saturating_sub(self.queue.capacity())
    }
}

/// Why a hook was not told.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("it answers with the error {0}")]
    Error(i64),
}

impl ReportError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Error(_) => false,
        }
    }
}

/// When those were told that count.
#[derive(Default)]
struct Paced(VecDeque<Instant>);

impl Paced {
    /// When the next one may be told: `now`, or later. It is taken as told then.
    fn next(&mut self, now: Instant) -> Instant {
        let first = if self.0.len() < AT_ONCE { None } else { self.0.pop_front() };
        let at = first.and_then(|first| first.checked_add(IN)).map_or(now, |at| at.max(now));
        self.0.push_back(at);
        at
    }
}

struct Reporter {
    hooks: Hooks,
    patience: Duration,
    env: String,
    proxies: Proxies,
    lead: Lead,
    metrics: Arc<Metrics>,
    /// Of those hooks that there are now.
    clients: Mutex<HashMap<Uri, Client>>,
    /// What was logged of each, and of the list itself.
    said: Mutex<HashMap<Option<Uri>, Said>>,
}

impl Reporter {
    async fn run(self, mut reports: mpsc::Receiver<Report>) {
        let mut pace = Paced::default();
        while let Some(report) = reports.recv().await {
            sleep_until(pace.next(Instant::now())).await;
            match self.hooks.read() {
                Ok(hooks) => {
                    self.is_said_no_more(None);
                    let is_there = |origin: &Uri| hooks.iter().any(|hook| hook.origin == *origin);
                    open(&self.clients).retain(|origin, _| is_there(origin));
                    open(&self.said).retain(|origin, _| origin.as_ref().is_none_or(is_there));
                    join_all(hooks.iter().map(|hook| self.tell(hook, &report))).await;
                }
                Err(error) => {
                    self.metrics.standing.reported(false);
                    if self.is_new(None, &error.to_string()) {
                        warn!(%error, "failures cannot be reported");
                    }
                }
            }
        }
    }

    async fn tell(&self, hook: &Hook, report: &Report) {
        let body = report.body(&self.env, hook.form).to_string();
        for attempt in 1..=TRIES {
            if !self.lead.may_act() {
                return; // whoever leads finds it in the Pod's status
            }
            let answered = timeout(self.patience, self.post(hook, body.clone())).await;
            let late = || ReportError::Unreachable(format!("no answer in {:?}", self.patience));
            match answered.unwrap_or_else(|_| Err(late())) {
                Ok(()) => {
                    debug!(?hook, pod = report.pod, reason = report.reason, "failure reported");
                    self.metrics.standing.reported(true);
                    if self.is_said_no_more(Some(&hook.origin)) {
                        info!(?hook, "failures are reported again");
                    }
                    return;
                }
                Err(error) if error.may_pass() && attempt < TRIES => sleep(AGAIN.delay(attempt)).await,
                Err(error) => {
                    self.metrics.standing.reported(false);
                    // Whatever libraries quote: what is behind the host is a secret.
                    let error = error.to_string().replace(&hook.path, "/…");
                    if self.is_new(Some(&hook.origin), &error) {
                        warn!(?hook, error, "a failure could not be reported");
                    }
                    return;
                }
            }
        }
    }

    async fn post(&self, hook: &Hook, body: String) -> Result<(), ReportError> {
        #[derive(Deserialize)]
        struct Answer {
            errcode: i64,
        }
        let unreachable = |error: &dyn std::error::Error| ReportError::Unreachable(chain(error));
        let client = self.client(&hook.origin).map_err(|error| unreachable(&error))?;
        let request = Request::post(hook.path.as_str()).header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.into_bytes())).map_err(|error| unreachable(&error))?;
        let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ReportError::Refused(status));
        }
        if hook.form == Form::DingTalk {
            // A robot refuses with 200 and a number.
            let read = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let read = read.map_err(|error| ReportError::Unreachable(error.to_string()))?.to_bytes();
            let error = serde_json::from_slice(&read).map_or(0, |answer: Answer| answer.errcode);
            return if error == 0 { Ok(()) } else { Err(ReportError::Error(error)) };
        }
        Ok(())
    }

    /// Whether this was not said yet of this hook; now it is.
    fn is_new(&self, hook: Option<&Uri>, error: &str) -> bool {
        open(&self.said).entry(hook.cloned()).or_default().is_new(error)
    }

    /// All is well with it. Says whether something else was said.
    fn is_said_no_more(&self, hook: Option<&Uri>) -> bool {
        open(&self.said).remove(&hook.cloned()).is_some_and(|mut said| said.clear())
    }

    fn client(&self, origin: &Uri) -> Result<Client, super::ClientError> {
        Ok(match open(&self.clients).entry(origin.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(elsewhere(origin.clone(), &self.proxies, self.patience)?).clone(),
        })
    }
}

fn open<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
