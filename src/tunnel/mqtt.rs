//! The MQTT connection: one task that polls, one that publishes.
//!
//! Traps of the client library that shape it: its packet limit is 10 KiB by default, it does not
//! subscribe again after a reconnect, and publishing from the polling task deadlocks on a full queue.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rumqttc::{
    AsyncClient, ConnectReturnCode, EventLoop, Incoming, MqttOptions, Packet, QoS, SubscribeFilter, TlsConfiguration,
    Transport,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info, warn};

use super::{Event, Topics, codec, decode, encode};
use crate::{
    domain::{BaseId, Command},
    metrics::Metrics,
};

/// Pause between attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// Commands waiting to be published. Full: the engine takes them as perhaps lost and asks again.
const QUEUE: usize = 16 * 1024;

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password, where the broker wants them.
    pub credentials: Option<(String, String)>,
    /// Client id, unique on the broker.
    pub client_id: String,
    /// PEM file of the authority that signed the broker's certificate; given: TLS.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why the broker can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// A certificate or key can't be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there, but it is not what it should be.
    #[error("{path} has no PEM certificate in it")]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct Sender(mpsc::Sender<(BaseId, Command)>);

impl Sender {
    /// A sender, and the end at which its commands come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<(BaseId, Command)>) {
        let (sender, commands) = mpsc::channel(QUEUE);
        (Self(sender), commands)
    }

    /// Hands a command over for publishing; false if there is no room, and the command is lost.
    pub fn send(&self, base: BaseId, command: Command) -> bool {
        self.0.try_send((base, command)).is_ok()
    }

    /// Commands waiting.
    pub fn depth(&self) -> usize {
        QUEUE - self.0.capacity()
    }
}

/// Connects, now and whenever the connection is lost, until `events` is closed.
///
/// # Errors
/// A TLS file can't be read.
pub fn start(
    config: &MqttConfig,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
) -> Result<Sender, MqttError> {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(Duration::from_secs(15));
    options.set_clean_session(true);
    options.set_max_packet_size(codec::MAX_PAYLOAD + 64 * 1024, codec::MAX_PAYLOAD + 64 * 1024);
    options.set_inflight(1000);
    if let Some((user, password)) = &config.credentials {
        options.set_credentials(user, password);
    }
    if let Some(ca) = &config.ca {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|source| MqttError::File { path: path.clone(), source });
        let client_auth = match &config.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        let authority = read(ca)?;
        if CertificateDer::pem_slice_iter(&authority).flatten().next().is_none() {
            return Err(MqttError::NoCertificate { path: ca.clone() });
        }
        options.set_transport(Transport::Tls(TlsConfiguration::Simple { ca: authority, alpn: None, client_auth }));
    }
    let (client, mut eventloop) = AsyncClient::new(options, 256);
    // Commands are small and urgent: with Nagle's algorithm each waits 40 ms for the one before.
    let mut network = eventloop.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(5);
    eventloop.set_network_options(network);

    let (commands, queue) = Sender::new();
    let broker = format!("{}:{}", config.host, config.port);
    tokio::spawn(publish(client.clone(), topics.clone(), queue, Arc::clone(&metrics)));
    tokio::spawn(Poller { client, topics, events, metrics, broker }.run(eventloop));
    Ok(commands)
}

/// Publishes with QoS 1 and never retained: a retained command would be executed at each reconnect.
async fn publish(
    client: AsyncClient,
    topics: Topics,
    mut queue: mpsc::Receiver<(BaseId, Command)>,
    metrics: Arc<Metrics>,
) {
    while let Some((base, command)) = queue.recv().await {
        let topic = topics.command(&base, &command);
        match encode(&command) {
            Ok(payload) => {
                debug!(%base, command = command.name(), "sending");
                metrics.command_sent(command.name());
                if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                    return; // the poller is gone: we are shutting down
                }
            }
            Err(error) => warn!(%base, command = command.name(), %error, "cannot write a command"),
        }
    }
}

struct Poller {
    client: AsyncClient,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    broker: String,
}

impl Poller {
    async fn run(self, mut eventloop: EventLoop) {
        let mut connected = false;
        let mut complained = false;
        while !self.events.is_closed() {
            let event = match eventloop.poll().await {
                Ok(rumqttc::Event::Incoming(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                    self.subscribe();
                    None
                }
                Ok(rumqttc::Event::Incoming(Incoming::SubAck(_))) => {
                    info!(broker = self.broker, "connected to the broker");
                    (connected, complained) = (true, false);
                    self.metrics.broker_connected.set(1);
                    Some(Event::Connected)
                }
                Ok(rumqttc::Event::Incoming(Incoming::Publish(message))) => self.read(&message.topic, &message.payload),
                Ok(_) => None,
                Err(error) => {
                    // One line for each outage; the metric tells the rest.
                    if !complained {
                        warn!(broker = self.broker, %error, "no connection to the broker, trying again every second");
                        complained = true;
                    }
                    self.metrics.broker_errors.inc();
                    self.metrics.broker_connected.set(0);
                    if std::mem::take(&mut connected) && self.events.send(Event::Disconnected).await.is_err() {
                        return;
                    }
                    sleep(RECONNECT).await;
                    None
                }
            };
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return;
            }
        }
    }

    /// Subscribes from a task of its own: the queue it waits for is emptied by the polling task.
    fn subscribe(&self) {
        let filters = self.topics.filters().into_iter().map(|f| SubscribeFilter::new(f, QoS::AtLeastOnce));
        let (client, filters): (_, Vec<_>) = (self.client.clone(), filters.collect());
        tokio::spawn(async move {
            if let Err(error) = client.subscribe_many(filters).await {
                warn!(%error, "cannot subscribe");
            }
        });
    }

    fn read(&self, topic: &str, payload: &[u8]) -> Option<Event> {
        let (identity, kind) = self.topics.parse(topic)?;
        let refuse = |reason: &'static str, error: &dyn std::fmt::Display| {
            self.metrics.message_refused(reason);
            // Real bases repeat themselves every 10 s: the level is for people who look for it.
            warn!(identity = identity.chars().take(80).collect::<String>(), topic = kind.as_str(), %error, "message refused");
        };
        let base = match self.topics.base(identity) {
            Ok(base) => base,
            Err(error) => {
                refuse("identity", &error);
                return None;
            }
        };
        match decode(identity, kind, payload) {
            Ok(message) => {
                self.metrics.message_received(kind.as_str());
                Some(Event::Message(base, message))
            }
            Err(error) => {
                refuse("malformed", &error);
                None
            }
        }
    }
}
