//! Commands to bases, each on a connection of its own.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Bytes;
use http::{Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::contacts::Contacts;
use crate::{
    domain::{BaseId, Command},
    lead::Lead,
    metrics::Metrics,
    tunnel::{
        Event, Via,
        codec::{self, MAX_PAYLOAD},
        encode::payload,
        open,
    },
};

/// A connection is made within this.
const CONNECTS_WITHIN: Duration = Duration::from_secs(3);
/// A base takes connections some moments after its first beat (protocol fact): one that refuses is tried again after
/// each of these.
const REFUSED: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];
/// A question is answered within this, or not at all: it can wait behind installs.
const QUESTION: Duration = Duration::from_secs(15);
/// What happens to modules takes as long as their jars and their start do. Who gives up sooner learns from the list.
const COMMAND: Duration = Duration::from_secs(900);
/// Commands that are under way at a time, to all bases;
const COMMANDS: usize = 4096;
/// and questions, which must not wait for those.
const QUESTIONS: usize = 1024;

type Http = legacy::Client<HttpConnector, Full<Bytes>>;

/// Why an exchange gave no answer.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    /// It never arrived.
    #[error("no connection: {0}")]
    NotSent(String),
    /// It may have arrived, and may still be carried out.
    #[error("{0}")]
    Unanswered(String),
}

/// Sends commands, and passes on what comes back.
pub(super) struct Client {
    contacts: Arc<Contacts>,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    lead: Lead,
    http: Http,
    commands: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    /// Questions that are open: a base is not asked the same twice at a time (bases build their health in one place).
    asked: Mutex<HashSet<(BaseId, &'static str)>>,
}

impl Client {
    pub(super) fn new(contacts: Arc<Contacts>, events: mpsc::Sender<Event>, metrics: Arc<Metrics>, lead: Lead) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECTS_WITHIN));
        connector.set_nodelay(true);
        // Each answer ends with its connection (protocol fact), so none is kept.
        let http = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self {
            contacts,
            events,
            metrics,
            lead,
            http,
            commands: Arc::new(Semaphore::new(COMMANDS)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            asked: Mutex::default(),
        }
    }

    /// Runs until nobody sends commands or wants answers any more. Exchanges are bounded by their permits.
    pub(super) async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<(BaseId, Command)>) {
        let mut exchanges = JoinSet::new();
        loop {
            tokio::select! {
                next = queue.recv() => match next {
                    Some((base, command)) => self.begin(base, command, &mut exchanges).await,
                    None => return,
                },
                Some(_) = exchanges.join_next() => {}
                () = self.events.closed() => return,
            }
        }
    }

    async fn begin(self: &Arc<Self>, base: BaseId, command: Command, exchanges: &mut JoinSet<()>) {
        let payload = match payload(&command) {
            Ok(payload) => payload,
            Err(why) => {
                warn!(%base, command = command.name(), why, "a command is not sent");
                let _ = self.events.send(Event::Undeliverable { base, command, why }).await;
                return;
            }
        };
        if matches!(command, Command::Baseline(_)) {
            // Over HTTP a baseline is the answer to a request: who does not wait for it any more asks again.
            if self.contacts.answer(&base, payload) {
                self.metrics.command_sent(command.name());
            }
            return;
        }
        // One that has not beaten yet is nowhere; its silence is its own.
        let Some(at) = self.contacts.of(&base) else { return };
        let is_question = command.is_question();
        let permits = if is_question { &self.questions } else { &self.commands };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            self.metrics.overflow("exchanges");
            if !is_question {
                let _ = self.events.send(Event::Uncertain(base)).await;
            }
            return;
        };
        let question = is_question.then(|| Open::new(self, &base, command.name()));
        if matches!(question, Some(None)) {
            return; // the answer to the first is on its way
        }
        debug!(%base, %at, command = command.name(), bytes = payload.len(), "sending");
        self.metrics.command_sent(command.name());
        let client = Arc::clone(self);
        exchanges.spawn(async move {
            let (_permit, _question) = (permit, question);
            let answer = client.exchange(at, &command, payload).await;
            if let Some(event) = client.told(&base, &command, answer) {
                let _ = client.events.send(event).await;
            }
        });
    }

    /// What the engine is told of an exchange.
    fn told(&self, base: &BaseId, command: &Command, answer: Result<Bytes, ExchangeError>) -> Option<Event> {
        let name = command.name();
        let uncertain = || (!command.is_question()).then(|| Event::Uncertain(base.clone()));
        match answer {
            Ok(body) => match codec::exchanged(base, command, &body) {
                Ok(message) => {
                    self.metrics.message_received(name);
                    Some(Event::Message(Via::Http, base.clone(), message))
                }
                // A truncated answer is as good as none, and the command may have been carried out.
                Err(error) => {
                    self.metrics.message_refused("malformed");
                    warn!(%base, command = name, %error, "answer refused");
                    uncertain()
                }
            },
            Err(error) => {
                debug!(%base, command = name, %error, "no answer");
                uncertain()
            }
        }
    }

    async fn exchange(&self, at: SocketAddr, command: &Command, payload: Vec<u8>) -> Result<Bytes, ExchangeError> {
        let within = if command.is_question() { QUESTION } else { COMMAND };
        let payload = Bytes::from(payload);
        let tries = async {
            let mut pauses = REFUSED.iter();
            loop {
                // No broker takes this way to a base away from whoever led before.
                if !self.lead.may_act() {
                    return Err(ExchangeError::NotSent("this replica does not lead at the moment".to_owned()));
                }
                match once(&self.http, at, command.name(), payload.clone()).await {
                    Err(ExchangeError::NotSent(why)) => match pauses.next() {
                        Some(pause) => sleep(*pause).await,
                        None => return Err(ExchangeError::NotSent(why)),
                    },
                    other => return other,
                }
            }
        };
        timeout(within, tries)
            .await
            .unwrap_or_else(|_| Err(ExchangeError::Unanswered(format!("no answer within {} s", within.as_secs()))))
    }
}

/// A question that is open, until it is dropped.
struct Open {
    client: Arc<Client>,
    question: (BaseId, &'static str),
}

impl Open {
    /// None if it is open already.
    fn new(client: &Arc<Client>, base: &BaseId, name: &'static str) -> Option<Self> {
        let question = (base.clone(), name);
        let fresh = open(&client.asked).insert(question.clone());
        fresh.then(|| Self { client: Arc::clone(client), question })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        open(&self.client.asked).remove(&self.question);
    }
}

async fn once(http: &Http, at: SocketAddr, path: &str, payload: Bytes) -> Result<Bytes, ExchangeError> {
    let unanswered = |error: &dyn std::fmt::Display| ExchangeError::Unanswered(error.to_string());
    let request = Request::post(format!("http://{at}/{path}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(payload))
        .map_err(|error| ExchangeError::NotSent(error.to_string()))?;
    let response = http.request(request).await.map_err(|error| {
        if error.is_connect() { ExchangeError::NotSent(error.to_string()) } else { unanswered(&error) }
    })?;
    // What is no 200 comes from somebody else, and a redirect is followed nowhere.
    if response.status() != http::StatusCode::OK {
        return Err(unanswered(&format!("status {}", response.status())));
    }
    let body = Limited::new(response.into_body(), MAX_PAYLOAD).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| unanswered(&error))
}
