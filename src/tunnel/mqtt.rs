//! The MQTT connection.
//!
//! Traps of the client library that shape it: its packet limit is 10 KiB by default and ends the connection, it does
//! not subscribe again after a reconnect, and publishing between polls deadlocks on a full queue.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rumqttc::{
    AsyncClient, EventLoop, MqttOptions, Packet, QoS, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{Event, Kind, Topics, decode, encode};
use crate::{
    domain::{Backoff, BaseId, Command},
    metrics::Metrics,
    tasks::Tasks,
};

/// Between attempts to connect: 1 s, 2 s … 8 s.
const RECONNECT: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(8) };
/// A broker that says nothing for about twice this has hung, and the connection is made anew.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Connecting and subscribing take no longer.
const SUBSCRIBES_WITHIN: Duration = Duration::from_secs(15);
/// The engine is told at most this often that something arrives at all.
const PROVEN_EVERY: Duration = Duration::from_secs(1);
/// The largest packet that is read, in bytes. The client library ends the connection at a larger one, so it is far
/// above what is understood (`codec::MAX_PAYLOAD`): one such message must not keep us from all bases.
const MAX_PACKET: usize = 256 * 1024 * 1024;
/// The largest command that is sent, in bytes.
const MAX_COMMAND: usize = 1024 * 1024;
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
    tasks: &mut Tasks,
    config: &MqttConfig,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
) -> Result<Sender, MqttError> {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_session(true);
    options.set_max_packet_size(MAX_PACKET, MAX_COMMAND + 64 * 1024);
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
    let (commands, queue) = Sender::new();
    let broker = format!("{}:{}", config.host, config.port);
    let tunnel = Tunnel { options, topics, events, metrics, broker, queue, connected: false, complaint: None };
    tasks.spawn("tunnel", tunnel.run());
    Ok(commands)
}

/// Publishes with QoS 1 and never retained: a retained command would be executed at each reconnect. Ends with its
/// connection; what was not acknowledged then is the engine's to send again.
async fn publish(
    client: &AsyncClient,
    topics: &Topics,
    queue: &mut mpsc::Receiver<(BaseId, Command)>,
    events: &mpsc::Sender<Event>,
    metrics: &Metrics,
) {
    while let Some((base, command)) = queue.recv().await {
        let topic = topics.command(&base, &command);
        let why = match encode(&command) {
            Ok(payload) if payload.len() <= MAX_COMMAND => {
                debug!(%base, command = command.name(), "sending");
                metrics.command_sent(command.name());
                if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                    return; // the connection is gone
                }
                continue;
            }
            Ok(payload) => {
                format!("the command has {} bytes, more than the {MAX_COMMAND} that are sent", payload.len())
            }
            Err(error) => format!("the command cannot be written: {error}"),
        };
        warn!(%base, command = command.name(), why, "a command is not sent");
        if events.send(Event::Undeliverable { base, command, why }).await.is_err() {
            return;
        }
    }
}

/// Why a connection ended.
enum End {
    /// The engine is gone: nobody needs it.
    Closed,
    /// For people.
    Lost(String),
}

/// One connection after the other, each with a client of its own: the library's keeps packet ids and what it had not
/// delivered over a loss, can wait for ever for an acknowledgement that was lost, and does not subscribe again.
struct Tunnel {
    options: MqttOptions,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    broker: String,
    queue: mpsc::Receiver<(BaseId, Command)>,
    connected: bool,
    /// What was said of the present outage.
    complaint: Option<String>,
}

impl Tunnel {
    async fn run(mut self) {
        let mut failures = 0;
        while !self.events.is_closed() {
            let why = match self.connection().await {
                End::Closed => return,
                End::Lost(why) => why,
            };
            // One line for each cause; the metric tells the rest.
            if self.complaint.as_ref() != Some(&why) {
                warn!(broker = self.broker, error = why, "no connection to the broker, trying again");
                self.complaint = Some(why);
            }
            self.metrics.broker_errors.inc();
            self.metrics.broker_connected.set(0);
            failures = if self.connected { 1 } else { failures + 1 };
            if std::mem::take(&mut self.connected) && self.events.send(Event::Disconnected).await.is_err() {
                return;
            }
            sleep(RECONNECT.delay(failures)).await;
        }
    }

    async fn connection(&mut self) -> End {
        let (client, mut eventloop) = AsyncClient::new(self.options.clone(), 256);
        // Commands are small and urgent: with Nagle's algorithm each waits 40 ms for the one before.
        let mut network = eventloop.network_options();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(5);
        eventloop.set_network_options(network);
        if let Err(end) = self.subscribe(&client, &mut eventloop).await {
            return end;
        }
        info!(broker = self.broker, "connected to the broker");
        (self.connected, self.complaint) = (true, None);
        self.metrics.broker_connected.set(1);
        if self.events.send(Event::Connected).await.is_err() {
            return End::Closed;
        }
        let reader = Reader { topics: &self.topics, events: &self.events, metrics: &self.metrics };
        tokio::select! {
            end = reader.run(&mut eventloop) => end,
            () = publish(&client, &self.topics, &mut self.queue, &self.events, &self.metrics) => End::Closed,
        }
    }

    /// Connects and subscribes: without its subscriptions a connection hears nobody, however well it is.
    async fn subscribe(&self, client: &AsyncClient, eventloop: &mut EventLoop) -> Result<(), End> {
        let filters = self.topics.filters();
        let asked = filters.iter().map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
        let lost = |error: &dyn std::fmt::Display| End::Lost(error.to_string());
        client.try_subscribe_many(asked).map_err(|error| lost(&error))?;
        let acknowledged = async {
            loop {
                if let rumqttc::Event::Incoming(Packet::SubAck(ack)) = eventloop.poll().await? {
                    return Ok::<_, rumqttc::ConnectionError>(ack);
                }
            }
        };
        let ack = timeout(SUBSCRIBES_WITHIN, acknowledged).await;
        let ack = ack.map_err(|_| lost(&format!("no answer to the subscription within {SUBSCRIBES_WITHIN:?}")))?;
        let ack = ack.map_err(|error| lost(&error))?;
        // The last two filters only serve to warn.
        let refused = filters.iter().zip(&ack.return_codes).take(Kind::ALL.len());
        let refused: Vec<_> =
            refused.filter(|(_, code)| **code == SubscribeReasonCode::Failure).map(|(f, _)| f.as_str()).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(lost(&format!(
            "the broker refuses the subscription to {}: grant it to modulet's user in the broker's access list",
            refused.join(", ")
        )))
    }
}

/// What comes in over one connection.
struct Reader<'t> {
    topics: &'t Topics,
    events: &'t mpsc::Sender<Event>,
    metrics: &'t Metrics,
}

impl Reader<'_> {
    async fn run(&self, eventloop: &mut EventLoop) -> End {
        let mut proven = Instant::now();
        loop {
            let packet = match eventloop.poll().await {
                Ok(rumqttc::Event::Incoming(packet)) => packet,
                Ok(rumqttc::Event::Outgoing(_)) => continue,
                Err(error) => return End::Lost(error.to_string()),
            };
            let event = match packet {
                // What a broker keeps is from some other time: no sign of life.
                Packet::Publish(message) if message.retain => {
                    self.metrics.message_refused("retained");
                    None
                }
                Packet::Publish(message) => self.read(&message.topic, &message.payload),
                _ => None,
            };
            if proven.elapsed() >= PROVEN_EVERY {
                proven = Instant::now();
                if self.events.send(Event::Proven).await.is_err() {
                    return End::Closed;
                }
            }
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return End::Closed;
            }
        }
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
