//! What goes over the connection: commands out, messages in, and the books that are kept of both.

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, ConnectionError, EventLoop, Outgoing, Packet, QoS, StateError};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    Event, Topics, Via,
    broker::words,
    budget::Budgets,
    codec::MAX_PAYLOAD,
    decode,
    encode::payload,
    open,
    outbox::{Outbox, Published},
};
use crate::{
    domain::{BaseId, Command, printable},
    metrics::Metrics,
};

/// The engine is sent this at most this often: that something arrives at all.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Why a connection ended.
pub(super) enum End {
    /// The engine is gone: nobody needs it.
    Closed,
    /// It is lost.
    Lost {
        /// For people.
        why: String,
        /// The other side ended it; it did not just fall silent.
        closed: bool,
    },
}

impl End {
    /// It never came to be, or ended while nothing was under way.
    pub(super) fn lost(why: &dyn std::fmt::Display) -> Self {
        Self::Lost { why: why.to_string(), closed: false }
    }

    fn of(error: &ConnectionError) -> Self {
        let silent = matches!(
            error,
            ConnectionError::NetworkTimeout
                | ConnectionError::FlushTimeout
                | ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout)
        );
        Self::Lost { why: words(error), closed: !silent }
    }
}

/// What is remembered over connections.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) outbox: Mutex<Outbox>,
    budgets: Mutex<Budgets>,
    /// Somebody of our environment was heard, whatever was said.
    heard: AtomicBool,
}

impl Books {
    /// Whether anybody of our environment was heard since the start.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

/// What goes over one connection.
pub(super) struct Traffic<'t> {
    pub(super) topics: &'t Topics,
    pub(super) events: &'t mpsc::Sender<Event>,
    pub(super) metrics: &'t Metrics,
    pub(super) books: &'t Books,
}

impl Traffic<'_> {
    /// Publishes with `QoS` 1 and never retained: a retained command would be executed at each reconnect. Ends with its
    /// connection; what was not acknowledged then is the engine's to send again.
    pub(super) async fn publish(&self, client: &AsyncClient, queue: &mut mpsc::Receiver<(BaseId, Command)>) {
        while let Some((base, command)) = queue.recv().await {
            let topic = self.topics.command(&base, &command);
            match self.prepare(&base, &command) {
                Ok(payload) => {
                    debug!(%base, command = command.name(), bytes = payload.len(), "sending");
                    self.metrics.command_sent(command.name());
                    if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                        return; // the connection is gone
                    }
                }
                Err(why) => {
                    warn!(%base, command = command.name(), why, "a command is not sent");
                    if self.events.send(Event::Undeliverable { base, command, why }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The command's payload, which is in the books from now on; or why it is not sent.
    fn prepare(&self, base: &BaseId, command: &Command) -> Result<Vec<u8>, String> {
        let (payload, now) = (payload(command)?, Instant::now());
        let what = Published::new(base, command, payload.len());
        let mut outbox = open(&self.books.outbox);
        outbox.admits(&what, now).map_err(|refusal| refusal.to_string())?;
        outbox.handed(what, now);
        open(&self.books.budgets).asked(base, command, now);
        Ok(payload)
    }

    /// Reads until the connection ends.
    pub(super) async fn read(&self, eventloop: &mut EventLoop) -> Result<Infallible, End> {
        let mut reported = Instant::now();
        loop {
            let packet = match eventloop.poll().await {
                Ok(rumqttc::Event::Incoming(packet)) => packet,
                Ok(rumqttc::Event::Outgoing(Outgoing::Publish(packet))) => {
                    open(&self.books.outbox).written(packet);
                    continue;
                }
                Ok(rumqttc::Event::Outgoing(_)) => continue,
                Err(error) => return Err(End::of(&error)),
            };
            let event = match packet {
                // What a broker keeps is from some other time: no sign of life.
                Packet::Publish(message) if message.retain => {
                    self.metrics.message_refused("retained");
                    None
                }
                Packet::Publish(message) => self.message(&message.topic, &message.payload, Instant::now()),
                Packet::PubAck(ack) => {
                    open(&self.books.outbox).acknowledged(ack.pkid, Instant::now());
                    None
                }
                _ => None,
            };
            if reported.elapsed() >= ALIVE_EVERY {
                reported = Instant::now();
                self.events.send(Event::Alive).await.map_err(|_| End::Closed)?;
            }
            if let Some(event) = event {
                self.events.send(event).await.map_err(|_| End::Closed)?;
            }
        }
    }

    fn message(&self, topic: &str, payload: &[u8], now: Instant) -> Option<Event> {
        let (identity, kind) = self.topics.parse(topic)?;
        self.books.heard.store(true, Ordering::Relaxed);
        let mut budgets = open(&self.books.budgets);
        let base = match self.topics.base(identity) {
            Ok(base) => base,
            Err(error) => {
                self.metrics.message_refused("identity");
                self.metrics.standing.base_refused("identity");
                if budgets.may_log(now) {
                    warn!(identity = &*printable(identity, 80), topic = kind.as_str(), %error, "message refused");
                }
                return None;
            }
        };
        let (reason, error) = if payload.len() > MAX_PAYLOAD {
            ("size", format!("it has {} bytes, more than {MAX_PAYLOAD}", payload.len()))
        } else if !budgets.admits(&base, kind, payload.len(), now) {
            ("rate", "the base says more than is read of one".to_owned())
        } else {
            match decode(identity, kind, payload) {
                Ok(message) => {
                    self.metrics.message_received(kind.as_str());
                    return Some(Event::Message(Via::Mqtt, base, message));
                }
                Err(error) => ("malformed", error.to_string()),
            }
        };
        self.metrics.message_refused(reason);
        if let Some(count) = budgets.logs(&base, now) {
            warn!(%base, topic = kind.as_str(), bytes = payload.len(), count, error, "message refused");
        }
        None
    }
}
