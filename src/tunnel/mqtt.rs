//! The MQTT connections: one reads what bases say; the leader has another one for commands.
//!
//! The one for commands has one client id for each environment. A broker ends a session when another connects with its
//! id (MQTT-3.1.4-2), so whoever takes the lead over takes it away with what still waits in it.
//!
//! Traps of the client library that shape it: its packet limit is 10 KiB by default and ends the connection, it does
//! not subscribe again after a reconnect, and publishing between polls deadlocks on a full queue.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rumqttc::{AsyncClient, EventLoop, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Event, Kind, Sender, Topics,
    broker::{answer, client, connected, granted, words},
    elsewhere::{Elsewhere, Looks},
    open,
    traffic::{Books, End, Traffic},
};
pub use super::{
    broker::{MqttConfig, MqttError, Secret},
    trust::Tls,
};
use crate::{
    domain::{Backoff, BaseId, Command},
    lead::Lead,
    metrics::Metrics,
    said::Said,
    tasks::Tasks,
};

/// Between attempts to connect: 1 s, 2 s … 8 s.
const RECONNECT: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(8) };
/// Connecting and subscribing take no longer, nor does connecting for commands.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Whether we may use the broker, and whether it is there.
#[derive(Clone, Debug)]
pub struct Way {
    /// Only the leader commands.
    pub lead: Lead,
    /// Told whether it is there.
    pub broker: watch::Sender<bool>,
}

/// Connects, now and whenever the connection is lost, until `events` is closed.
///
/// # Errors
/// A file can't be used that is there to log in with, or to know the broker by. Later it is tried again.
pub fn start(
    tasks: &mut Tasks,
    config: &MqttConfig,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    way: Way,
) -> Result<Sender, MqttError> {
    config.options()?;
    let (commands, queue) = Sender::new();
    let broker = format!("{}:{}", config.host, config.port);
    let config = config.clone();
    let (said, looks) = (Said::default(), Looks::default());
    let tunnel = Tunnel { config, topics, events, metrics, broker, queue, way, connected: false, said, looks };
    tasks.spawn("tunnel", tunnel.run());
    Ok(commands)
}

/// One connection after the other, each with a client of its own: the library's keeps packet ids and what it had not
/// delivered over a loss, can wait for ever for an acknowledgement that was lost, and does not subscribe again.
struct Tunnel {
    config: MqttConfig,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    broker: String,
    queue: mpsc::Receiver<(BaseId, Command)>,
    way: Way,
    connected: bool,
    /// Of the present outage.
    said: Said,
    looks: Looks,
}

impl Tunnel {
    async fn run(mut self) {
        let (books, mut failures) = (Books::default(), 0);
        while !self.events.is_closed() {
            let (why, closed) = match self.connection(&books).await {
                Err(End::Closed) => return,
                Err(End::Lost { why, closed }) => (why, closed),
            };
            if self.connected {
                open(&books.outbox).lost(closed, Instant::now());
            } else {
                open(&books.outbox).broker_was_away();
            }
            self.drain();
            // One line for each cause; the metric tells the rest.
            if self.said.is_new(&why) {
                warn!(broker = self.broker, error = why, "no connection to the broker, trying again");
            }
            self.metrics.broker_errors.inc();
            self.metrics.broker_connected.set(0);
            self.way.broker.send_replace(false);
            failures = if self.connected { 1 } else { failures + 1 };
            if std::mem::take(&mut self.connected) && self.events.send(Event::Disconnected).await.is_err() {
                return;
            }
            sleep(RECONNECT.delay(failures)).await;
        }
    }

    /// What waits was meant for a connection that is gone: the engine takes it as lost with it, and orders anew. It must
    /// not arrive beside that.
    fn drain(&mut self) {
        let dropped = std::iter::from_fn(|| self.queue.try_recv().ok()).count();
        if dropped > 0 {
            debug!(dropped, "commands that waited for the lost connection are dropped");
        }
    }

    async fn connection(&mut self, books: &Books) -> Result<Infallible, End> {
        // Who leads hears and commands, or neither.
        let leads = self.way.lead.leads();
        if leads {
            self.way.lead.acts().await;
        }
        let options = self.config.options().map_err(|error| End::lost(&error))?;
        let (reader, mut said) = client(options.clone());
        self.subscribe(&reader, &mut said).await?;
        // Who does not lead may have to later.
        let session = if leads { Some(gain(&self.config, &self.way.lead).await?) } else { None };
        info!(broker = self.broker, "connected to the broker");
        self.connected = true;
        self.said.clear();
        self.metrics.broker_connected.set(1);
        self.way.broker.send_replace(true);
        self.drain();
        self.events.send(Event::Connected).await.map_err(|_| End::Closed)?;
        let traffic = Traffic { topics: &self.topics, events: &self.events, metrics: &self.metrics, books };
        let (topics, metrics) = (&self.topics, &self.metrics);
        let elsewhere = Elsewhere { topics, metrics, books, options, looks: &mut self.looks };
        let (config, lead, queue) = (&self.config, &self.way.lead, &mut self.queue);
        let command = async {
            let (client, mut acknowledged) = match session {
                Some(session) => session,
                None => gain(config, lead).await?,
            };
            tokio::select! {
                end = traffic.read(&mut acknowledged) => end,
                () = traffic.publish(&client, queue) => Err(End::Closed),
            }
        };
        let look = async {
            elsewhere.look().await; // until somebody is heard
            std::future::pending().await
        };
        // Each is woken for itself: what bases say all the time does not look at the commands' connection, too.
        let ways: [BoxFuture<'_, _>; 3] = [Box::pin(traffic.read(&mut said)), Box::pin(command), Box::pin(look)];
        FuturesUnordered::from_iter(ways).next().await.unwrap_or(Err(End::Closed))
    }

    /// Connects and subscribes: without its subscriptions a connection hears nobody, however well it is.
    async fn subscribe(&self, client: &AsyncClient, eventloop: &mut EventLoop) -> Result<(), End> {
        let filters = self.topics.filters();
        let asked = filters.iter().map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
        client.try_subscribe_many(asked).map_err(|error| End::lost(&error))?;
        let granted = acknowledged(eventloop, "the subscription", granted).await?;
        // The last two filters only serve to warn.
        let refused = filters.iter().zip(&granted).take(Kind::ALL.len());
        let refused: Vec<_> =
            refused.filter(|(_, code)| **code == SubscribeReasonCode::Failure).map(|(f, _)| f.as_str()).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(End::lost(&format!(
            "the broker refuses the subscription to {}: grant it to modulet's user in the broker's access list",
            refused.join(", ")
        )))
    }
}

/// The session for commands, which takes it away from whoever had it. Only who has the lead at that moment may: it was
/// renewed lately before, and still is once the broker has answered.
async fn gain(config: &MqttConfig, lead: &Lead) -> Result<(AsyncClient, EventLoop), End> {
    lead.acts().await;
    let mut options = config.options().map_err(|error| End::lost(&error))?;
    options.set_client_id(config.commands_id(lead.is_alone()));
    let (client, mut eventloop) = client(options);
    acknowledged(&mut eventloop, "the connection for commands", connected).await?;
    if lead.may_act() {
        Ok((client, eventloop))
    } else {
        Err(End::lost(&"the lead was not renewed while it connected"))
    }
}

/// Waits for the broker's answer, but not for ever.
async fn acknowledged<T>(eventloop: &mut EventLoop, what: &str, said: impl Fn(Packet) -> Option<T>) -> Result<T, End> {
    match timeout(ANSWERS_WITHIN, answer(eventloop, said)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(End::lost(&words(&error))),
        Err(_) => Err(End::lost(&format!("no answer to {what} within {ANSWERS_WITHIN:?}"))),
    }
}
