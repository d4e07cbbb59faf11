//! Runs any number of simulated bases over one connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use rumqttc::{AsyncClient, QoS};
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::link::{Link, LinkEvent};
use super::options::BaseOptions;
use super::slot::Slot;

/// How long a base may take to connect and subscribe.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Bases, their connection and the task that drives them.
#[derive(Debug)]
pub(super) struct Engine {
    shared: Arc<Shared>,
    options: BaseOptions,
    client_id: String,
    events: mpsc::UnboundedSender<(u64, LinkEvent)>,
    link: Mutex<Option<Link>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    prefix: String,
    filters: Vec<String>,
    slots: Vec<Slot>,
    routes: HashMap<String, usize>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    epoch: u64,
    client: Option<AsyncClient>,
    missing_subscriptions: usize,
    connected: bool,
    /// Why the latest attempt to connect failed.
    failure: Option<String>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
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

impl Engine {
    /// Makes the engine; nothing is connected before [`Engine::connect`].
    pub(super) fn new(options: BaseOptions, client_id: String, slots: Vec<Slot>) -> Self {
        let state = State {
            prefix: format!("koupleless_{}/", options.env_in_topics()),
            filters: Vec::new(),
            routes: slots.iter().enumerate().map(|(at, slot)| (slot.identity.clone(), at)).collect(),
            slots,
            due: BinaryHeap::new(),
            epoch: 0,
            client: None,
            missing_subscriptions: 0,
            connected: false,
            failure: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), news: watch::channel(0).0 });
        let (events, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(drive(Arc::clone(&shared), inbox));
        Self { shared, options, client_id, events, link: Mutex::new(None), task }
    }

    /// Connects anew and subscribes; an error if the broker refuses the first attempt.
    pub(super) async fn connect(&self, filters: Vec<String>) -> Result<()> {
        let epoch = {
            let mut state = self.shared.lock();
            state.epoch += 1;
            state.filters = filters;
            state.lose(None);
            state.epoch
        };
        let link = Link::start(&self.options, self.client_id.clone(), epoch, self.events.clone());
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        self.wait(CONNECT_LIMIT, |slots| slots.connected || slots.failure.is_some()).await?;
        let failure = self.shared.lock().failure.clone();
        if let Some(failure) = failure {
            self.disconnect();
            bail!(failure);
        }
        Ok(())
    }

    /// Cuts the connection for good.
    pub(super) fn disconnect(&self) {
        let mut state = self.shared.lock();
        state.epoch += 1;
        state.lose(None);
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Cuts the connection; the client comes back by itself, at the earliest after that time.
    pub(super) fn cut(&self, time: Duration) {
        if let Some(link) = &*self.link.lock().unwrap_or_else(PoisonError::into_inner) {
            link.cut(time);
        }
        self.shared.lock().lose(None);
    }

    pub(super) fn connected(&self) -> bool {
        self.shared.lock().connected
    }

    pub(super) fn len(&self) -> usize {
        self.shared.lock().slots.len()
    }

    /// Looks at or changes one base.
    pub(super) fn with<T>(&self, at: usize, change: impl FnOnce(&mut Slot, Instant) -> T) -> Option<T> {
        let mut state = self.shared.lock();
        let slot = state.slots.get_mut(at)?;
        let before = slot.identity.clone();
        let result = change(slot, Instant::now());
        let after = slot.identity.clone();
        if before != after {
            state.routes.remove(&before);
            state.routes.insert(after, at);
        }
        state.due.push(Reverse((Instant::now(), at)));
        drop(state);
        self.shared.wake.notify_one();
        Some(result)
    }

    /// Looks at one base without waking anything.
    pub(super) fn look<T>(&self, at: usize, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.shared.lock().slots.get(at).map(look)
    }

    /// Waits until a base satisfies the condition.
    pub(super) async fn wait_for<T>(
        &self,
        at: usize,
        limit: Duration,
        mut find: impl FnMut(&Slot) -> Option<T>,
    ) -> Result<T> {
        let mut found = None;
        self.wait(limit, |state| {
            found = state.slots.get(at).and_then(&mut find);
            found.is_some()
        })
        .await?;
        found.ok_or_else(|| anyhow::anyhow!("no such base"))
    }

    async fn wait(&self, limit: Duration, mut condition: impl FnMut(&State) -> bool) -> Result<()> {
        let mut news = self.shared.news.subscribe();
        let waited = tokio::time::timeout(limit, async {
            loop {
                if condition(&self.shared.lock()) {
                    return;
                }
                if news.changed().await.is_err() {
                    return;
                }
            }
        });
        if waited.await.is_err() {
            bail!("waited {limit:?} for a simulated base in vain");
        }
        Ok(())
    }
}

impl State {
    fn lose(&mut self, failure: Option<String>) {
        self.client = None;
        self.connected = false;
        self.failure = failure;
    }

    /// The base a command topic belongs to, and the command.
    fn route<'t>(&self, topic: &'t str) -> Option<(usize, &'t str)> {
        let rest = topic.strip_prefix(&self.prefix)?;
        let (identity, word) = match rest.strip_suffix("/base/baseline") {
            Some(identity) => (identity, "baseline"),
            None => rest.rsplit_once('/')?,
        };
        // A base called "+" gets, and executes, everybody's commands.
        let at = self.routes.get(identity).or_else(|| self.routes.get("+"))?;
        Some((*at, word))
    }

    /// Messages that are due, with their topics.
    fn collect(&mut self, now: Instant) -> Vec<(String, String)> {
        let mut messages = Vec::new();
        while let Some(Reverse((at, index))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            let connected = self.connected;
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            for message in slot.tick(now, connected) {
                let topic = format!("{}{}/{}", self.prefix, slot.identity, message.tail);
                let payload = json!({"publishTimestamp": epoch_ms(), "data": message.data});
                messages.push((topic, payload.to_string()));
            }
            if let Some(next) = slot.next_wake() {
                self.due.push(Reverse((next, index)));
            }
        }
        messages
    }
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn drive(shared: Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<(u64, LinkEvent)>) {
    loop {
        let (messages, client, next) = {
            let mut state = shared.lock();
            let messages = state.collect(Instant::now());
            let next = state.due.peek().map(|Reverse((at, _))| *at);
            (messages, state.client.clone(), next)
        };
        if let Some(client) = client {
            for (topic, payload) in messages {
                // Fails for a topic with a wildcard in it or a lost connection: gone, as in a base.
                let _ = client.publish(topic, QoS::AtLeastOnce, false, payload).await;
            }
        }
        shared.tell();
        let idle = Instant::now() + Duration::from_hours(1);
        tokio::select! {
            event = inbox.recv() => match event {
                Some((epoch, event)) => handle(&shared, epoch, event).await,
                None => return,
            },
            () = tokio::time::sleep_until(next.unwrap_or(idle).into()) => {}
            () = shared.wake.notified() => {}
        }
    }
}

async fn handle(shared: &Shared, epoch: u64, event: LinkEvent) {
    let mut subscribe = None;
    {
        let mut state = shared.lock();
        if state.epoch != epoch {
            return;
        }
        match event {
            LinkEvent::Connected(client) => {
                state.missing_subscriptions = state.filters.len();
                state.client = Some(client.clone());
                subscribe = Some((client, state.filters.clone()));
            }
            LinkEvent::Subscribed => {
                state.missing_subscriptions = state.missing_subscriptions.saturating_sub(1);
                state.connected = state.missing_subscriptions == 0;
            }
            LinkEvent::Down(reason) => state.lose(Some(reason)),
            LinkEvent::Message { topic, payload } => {
                if let Some((at, word)) = state.route(&topic) {
                    let now = Instant::now();
                    if let Some(slot) = state.slots.get_mut(at) {
                        slot.receive(word, &payload, now);
                    }
                    state.due.push(Reverse((now, at)));
                }
            }
        }
    }
    if let Some((client, filters)) = subscribe {
        for filter in filters {
            let _ = client.subscribe(filter, QoS::AtLeastOnce).await;
        }
    }
}
