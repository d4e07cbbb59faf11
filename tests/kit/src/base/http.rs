//! A simulated base on the HTTP tunnel: posts heartbeats, and answers commands as the recorded one does, with no header
//! and the end of the connection behind each answer.

mod exchange;
mod told;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    ModuleState,
    answers::Answer,
    arklet::{Arklet, Ticket},
    listed,
    module::BizState,
    options::{BaseOptions, UrlBehaviour},
    slot::ReceivedCommand,
    urls::UrlRules,
    wire,
};
use crate::{http::post_with, ports::free_port};

/// What can be chosen beyond [`BaseOptions`], of which host, port and credentials do not count here.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Where heartbeats go, without a slash at its end.
    pub endpoint: String,
    /// I/O threads, which are its workers too.
    pub threads: usize,
    /// Between the first beat and the first connection that is taken.
    pub opens_after: Duration,
    /// Between beats.
    pub heartbeat: Duration,
    /// How long it waits for the answer to a beat.
    pub patience: Duration,
    /// What its heartbeats carry in their header `Authorization`.
    pub authorization: Option<String>,
    /// Whether it knows `switchBiz`.
    pub switches: bool,
}

impl HttpOptions {
    /// A base that beats at a controller on this machine.
    pub fn new(port: u16) -> Self {
        Self {
            endpoint: format!("127.0.0.1:{port}"),
            threads: 4,
            opens_after: Duration::from_millis(230),
            heartbeat: Duration::from_secs(12),
            patience: Duration::from_secs(10),
            authorization: None,
            switches: true,
        }
    }
}

/// One simulated base. Dropping it is like `kill -9`.
#[derive(Debug)]
pub struct HttpBase {
    options: BaseOptions,
    http: HttpOptions,
    port: u16,
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be done earlier than was known.
    wake: Notify,
    news: watch::Sender<u64>,
    beats: AtomicBool,
    answers: AtomicBool,
    switches: bool,
    /// Answers that are still to be cut off in their middle.
    cut: AtomicUsize,
    /// Installs, uninstalls and switches that are open, and the most there ever were.
    open: (AtomicUsize, AtomicUsize),
}

#[derive(Debug)]
struct State {
    arklet: Arklet,
    begun: Instant,
    received: Vec<ReceivedCommand>,
    /// Answers that nobody has fetched yet.
    answers: Vec<(Ticket, Answer)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl HttpBase {
    /// Starts the JVM, so to say: returns when it takes connections.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(options: BaseOptions, http: HttpOptions) -> Result<Self> {
        // The port is known, and refuses until it opens.
        let port = free_port()?;
        let state = Self::fresh(&options, UrlRules::default());
        let shared = Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            news: watch::channel(0).0,
            beats: AtomicBool::new(true),
            answers: AtomicBool::new(true),
            switches: http.switches,
            cut: AtomicUsize::new(0),
            open: (AtomicUsize::new(0), AtomicUsize::new(0)),
        };
        let base = Self { options, http, port, shared: Arc::new(shared), tasks: Mutex::default() };
        base.run().await?;
        Ok(base)
    }

    fn fresh(options: &BaseOptions, urls: UrlRules) -> State {
        let now = Instant::now();
        // Its threads are its workers.
        let options = BaseOptions { workers: 1000, ..options.clone() };
        let arklet = Arklet::new(&options, now, urls);
        State { arklet, begun: now, received: Vec::new(), answers: Vec::new() }
    }

    async fn run(&self) -> Result<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(beat(Arc::clone(&self.shared), self.options.clone(), self.http.clone(), self.port));
        tasks.spawn(drive(Arc::clone(&self.shared)));
        sleep(self.http.opens_after).await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.context("the base's port")?;
        tasks.spawn(exchange::serve(listener, Arc::clone(&self.shared), self.options.clone(), self.http.threads));
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(())
    }

    /// The port that it takes commands on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its identity.
    pub fn identity(&self) -> &str {
        &self.options.id
    }

    /// Its modules, sorted by name and version.
    pub fn modules(&self) -> Vec<ModuleState> {
        listed(self.shared.lock().arklet.modules())
    }

    /// The state of one module.
    pub fn state_of(&self, name: &str, version: &str) -> Option<BizState> {
        self.modules().into_iter().find(|known| known.0 == name && known.1 == version).map(|known| known.2)
    }

    /// How often it received a command since it was made.
    pub fn received(&self, command: &str) -> usize {
        self.shared.lock().received.iter().filter(|one| one.command == command).count()
    }

    /// All it received but questions, by name, with their bodies; the oldest first.
    pub fn commands(&self) -> Vec<(String, Value)> {
        self.orders().into_iter().map(|one| (one.command, one.payload)).collect()
    }

    /// The same with the times at which they came.
    pub fn orders(&self) -> Vec<ReceivedCommand> {
        let state = self.shared.lock();
        let orders = state.received.iter().filter(|one| !matches!(one.command.as_str(), "queryAllBiz" | "health"));
        orders.cloned().collect()
    }

    /// All it received since it was made, by name, with its bodies; the oldest first.
    pub fn heard(&self) -> Vec<(String, Value)> {
        let all = self.shared.lock().received.clone();
        all.into_iter().map(|one| (one.command, one.payload)).collect()
    }

    /// The most installs, uninstalls and switches that were ever open at once, at work or behind others.
    pub fn busiest(&self) -> usize {
        self.shared.open.1.load(Ordering::Relaxed)
    }

    /// Waits until a module is in a state; `None` means not listed.
    ///
    /// # Errors
    /// It is not within that time.
    pub async fn wait_for_state(
        &self,
        name: &str,
        version: &str,
        state: Option<BizState>,
        limit: Duration,
    ) -> Result<()> {
        let mut news = self.shared.news.subscribe();
        let reached = async {
            while self.state_of(name, version) != state {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        let waited = timeout(limit, reached).await;
        waited.with_context(|| format!("{name}:{version} at {} to be {state:?} within {limit:?}", self.identity()))
    }

    /// `kill -9`: silence, and all modules are gone.
    pub fn kill(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        let mut state = self.shared.lock();
        let received = std::mem::take(&mut state.received);
        // What tests chose about URLs outlives the JVM.
        let urls = state.arklet.urls_clone();
        *state = State { received, ..Self::fresh(&self.options, urls) };
    }

    /// A fresh JVM: no modules, beats at once, and says nothing of having restarted.
    ///
    /// # Errors
    /// Its port is taken.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.run().await
    }

    /// The next `count` answers are cut off in their middle, as by a connection that breaks.
    pub fn cut_answers(&self, count: usize) {
        self.shared.cut.store(count, Ordering::Relaxed);
    }

    /// Chooses what the URLs that contain `pattern` lead to; the latest choice counts.
    pub fn set_url_behaviour(&self, pattern: &str, behaviour: UrlBehaviour) {
        self.shared.lock().arklet.set_url(pattern, behaviour);
    }

    /// Whether it beats.
    pub fn beats(&self, on: bool) {
        self.shared.beats.store(on, Ordering::Relaxed);
    }

    /// Whether it answers at all: connections are taken, and nothing comes.
    pub fn answers(&self, on: bool) {
        self.shared.answers.store(on, Ordering::Relaxed);
    }

    /// A module that somebody else removed; false if it was not there.
    pub fn remove_by_hand(&self, name: &str, version: &str) -> bool {
        self.shared.lock().arklet.remove(name, version)
    }
}

/// Does what is due.
async fn drive(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.lock();
            let answers = state.arklet.tick(Instant::now());
            state.answers.extend(answers);
            state.arklet.next_wake()
        };
        shared.tell();
        let at = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = shared.wake.notified() => {}
        }
    }
}

/// Nothing stops the heartbeats of a base over HTTP, and nothing is tried again between them.
async fn beat(shared: Arc<Shared>, options: BaseOptions, http: HttpOptions, port: u16) {
    let mut due = interval(http.heartbeat);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        due.tick().await;
        if shared.beats.load(Ordering::Relaxed) {
            let mut data = wire::heart(&options.id, &options).data;
            data["port"] = json!(port);
            let sent = post_with(&http.endpoint, "/heartbeat", http.authorization.as_deref(), &data);
            let _ = timeout(http.patience, sent).await;
        }
    }
}
