//! A simulated base on the HTTP tunnel: posts heartbeats, and answers commands as the recorded one does, with no header
//! and the end of the connection behind each answer.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ModuleState,
    answers::{Answer, Response},
    arklet::Arklet,
    command::{self, Command},
    listed,
    module::{BizState, Module},
    options::BaseOptions,
    slot::ReceivedCommand,
    urls::UrlRules,
    wire,
};
use crate::http::post_with;

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
    /// What its heartbeats carry in their header `Authorization`.
    pub authorization: Option<String>,
}

impl HttpOptions {
    /// A base that beats at a controller on this machine.
    pub fn new(port: u16) -> Self {
        Self {
            endpoint: format!("127.0.0.1:{port}"),
            threads: 4,
            opens_after: Duration::from_millis(230),
            heartbeat: Duration::from_secs(12),
            authorization: None,
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
}

#[derive(Debug)]
struct State {
    arklet: Arklet,
    begun: Instant,
    received: Received,
    /// Answers that nobody has fetched yet.
    answers: Vec<Answer>,
    /// Installs and uninstalls under way, and the most there ever were.
    at_work: (usize, usize),
}

/// All that it received, with the time.
#[derive(Debug, Default)]
struct Received(Vec<ReceivedCommand>);

impl Received {
    fn push(&mut self, (command, payload): (String, Value)) {
        self.0.push(ReceivedCommand { at: Instant::now(), command, payload });
    }
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
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let state = Self::fresh(&options);
        let shared = Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            news: watch::channel(0).0,
            beats: AtomicBool::new(true),
            answers: AtomicBool::new(true),
        };
        let base = Self { options, http, port, shared: Arc::new(shared), tasks: Mutex::default() };
        base.run().await?;
        Ok(base)
    }

    fn fresh(options: &BaseOptions) -> State {
        let now = Instant::now();
        // Its threads are its workers.
        let options = BaseOptions { workers: 1000, ..options.clone() };
        let arklet = Arklet::new(&options, now, UrlRules::default());
        State { arklet, begun: now, received: Received::default(), answers: Vec::new(), at_work: (0, 0) }
    }

    async fn run(&self) -> Result<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(beat(Arc::clone(&self.shared), self.options.clone(), self.http.clone(), self.port));
        tasks.spawn(drive(Arc::clone(&self.shared)));
        sleep(self.http.opens_after).await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.context("the base's port")?;
        tasks.spawn(serve(listener, Arc::clone(&self.shared), self.options.clone(), self.http.threads));
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
        self.shared.lock().received.0.iter().filter(|one| one.command == command).count()
    }

    /// All it received but questions, by name, with their bodies; the oldest first.
    pub fn commands(&self) -> Vec<(String, Value)> {
        self.orders().into_iter().map(|one| (one.command, one.payload)).collect()
    }

    /// The same with the times at which they came.
    pub fn orders(&self) -> Vec<ReceivedCommand> {
        let state = self.shared.lock();
        let orders = state.received.0.iter().filter(|one| !matches!(one.command.as_str(), "queryAllBiz" | "health"));
        orders.cloned().collect()
    }

    /// The most installs and uninstalls that it ever had at work at once.
    pub fn busiest(&self) -> usize {
        self.shared.lock().at_work.1
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
        *state = State { received, ..Self::fresh(&self.options) };
    }

    /// A fresh JVM: no modules, beats at once, and says nothing of having restarted.
    ///
    /// # Errors
    /// Its port is taken.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.run().await
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
    loop {
        if shared.beats.load(Ordering::Relaxed) {
            let mut data = wire::heart(&options.id, &options).data;
            data["port"] = json!(port);
            let _ = post_with(&http.endpoint, "/heartbeat", http.authorization.as_deref(), &data).await;
        }
        sleep(http.heartbeat).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, options: BaseOptions, threads: usize) {
    let threads = Arc::new(Semaphore::new(threads));
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (shared, options, threads) = (Arc::clone(&shared), options.clone(), Arc::clone(&threads));
        connections.spawn(async move {
            // A connection belongs to one thread for life.
            let Ok(_thread) = threads.acquire_owned().await else { return };
            let _ = connection(stream, &shared, &options).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared, options: &BaseOptions) -> Result<()> {
    let (path, body) = request(&mut stream).await?;
    let word = path.trim_start_matches('/');
    let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    shared.lock().received.push((word.to_owned(), value));
    shared.tell();
    if !shared.answers.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let answer = match command::read(word, &body) {
        Ok(Command::Baseline(_)) | Err(command::Ignored::Unknown) => {
            json!({"code": "CMD_NOT_FOUND", "message": "please follow the doc"})
        }
        // What it cannot read it never answers.
        Err(command::Ignored::Malformed) => return std::future::pending().await,
        Ok(command) => carry_out(shared, options, word, command).await?,
    };
    stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{answer}").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn carry_out(shared: &Shared, options: &BaseOptions, word: &str, command: Command) -> Result<Value> {
    let asked = command.clone();
    let works = !matches!(command, Command::List | Command::Health);
    {
        let mut state = shared.lock();
        state.arklet.accept(command);
        state.at_work.0 += usize::from(works);
        state.at_work.1 = state.at_work.0.max(state.at_work.1);
    }
    shared.wake.notify_one();
    let mut news = shared.news.subscribe();
    loop {
        let found = {
            let mut state = shared.lock();
            let at = state.answers.iter().position(|answer| answers(answer, word, &asked));
            state.at_work.0 -= usize::from(works && at.is_some());
            at.map(|at| (state.answers.remove(at), state.begun.elapsed()))
        };
        if let Some((answer, uptime)) = found {
            return Ok(told(answer, options, uptime));
        }
        news.changed().await?;
    }
}

/// Whether it is the answer to that command.
fn answers(answer: &Answer, word: &str, asked: &Command) -> bool {
    match (answer, asked) {
        (Answer::List(_), Command::List) | (Answer::Health(_), Command::Health) => true,
        (Answer::Operation { word: of, name, version, .. }, Command::Install(install)) => {
            *of == word && *name == install.name && *version == install.version
        }
        (
            Answer::Operation { word: of, name, version, .. },
            Command::Uninstall { name: n, version: v } | Command::Switch { name: n, version: v },
        ) => *of == word && name == n && version == v,
        _ => false,
    }
}

fn told(answer: Answer, options: &BaseOptions, uptime: Duration) -> Value {
    let mut told = match answer {
        Answer::List(modules) => json!({"code": "SUCCESS", "data": modules.iter().map(entry).collect::<Vec<_>>()}),
        Answer::Health(modules) => wire::health(&modules, options, uptime.as_secs_f64()),
        Answer::Operation { response, .. } | Answer::Batch(response) if response.threw => return thrown(response),
        Answer::Operation { response, .. } | Answer::Batch(response) => response.into_json(),
    };
    told["baseIdentity"] = json!(options.id);
    told
}

/// What was thrown has another code than over MQTT, a trace of its own, and no identity.
fn thrown(response: Response) -> Value {
    let response = response.into_json();
    json!({
        "code": "CMD_PROCESS_INTERNAL_ERROR",
        "message": format!("Internal Error: {}", response["message"].as_str().unwrap_or_default()),
        "errorStackTrace": response["data"]["message"],
    })
}

fn entry(module: &Module) -> Value {
    let records = module.records.iter().map(|record| {
        let mut reason: Vec<char> = record.reason.to_lowercase().chars().collect();
        reason.iter_mut().take(1).for_each(char::make_ascii_uppercase);
        json!({
            "changeTime": record.at_ms, "state": record.state.lower(), "reason": reason.iter().collect::<String>(),
            "message": record.message,
        })
    });
    json!({
        "bizName": module.name, "bizVersion": module.version, "bizState": module.state().lower(),
        "bizStateRecords": records.collect::<Vec<_>>(), "mainClass": format!("e2e.{}.Application", module.name),
        "webContextPath": module.name,
    })
}

/// Path and body.
async fn request(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > 64 * 1024 || stream.read_buf(&mut bytes).await? == 0 {
            bail!("no request");
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).context("no request line")?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_ends + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            bail!("a request that ends early");
        }
    }
    Ok((path, body))
}
