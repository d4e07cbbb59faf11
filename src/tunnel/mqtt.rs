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

use super::{
    Event, Kind, Topics,
    traffic::{Books, End, MAX_COMMAND, Traffic},
};
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
/// The largest packet that is read, in bytes. The client library ends the connection at a larger one, so it is far
/// above what is understood (`codec::MAX_PAYLOAD`): one such message must not keep us from all bases.
const MAX_PACKET: usize = 256 * 1024 * 1024;
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
    let options = options(config)?;
    let (commands, queue) = Sender::new();
    let broker = format!("{}:{}", config.host, config.port);
    let tunnel = Tunnel { options, topics, events, metrics, broker, queue, connected: false, complaint: None };
    tasks.spawn("tunnel", tunnel.run());
    Ok(commands)
}

/// What the client library needs to know.
///
/// # Errors
/// A TLS file can't be read.
pub(super) fn options(config: &MqttConfig) -> Result<MqttOptions, MqttError> {
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
    Ok(options)
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
        let (books, mut failures) = (Books::default(), 0);
        while !self.events.is_closed() {
            let (why, closed) = match self.connection(&books).await {
                End::Closed => return,
                End::Lost { why, closed } => (why, closed),
            };
            if self.connected {
                books.outbox().lost(closed, Instant::now());
            } else {
                books.outbox().broker_was_away();
            }
            self.drain();
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

    /// What waits was meant for a connection that is gone: the engine takes it as lost with it, and orders anew. It must
    /// not arrive beside that.
    fn drain(&mut self) {
        let mut dropped = 0_usize;
        while self.queue.try_recv().is_ok() {
            dropped += 1;
        }
        if dropped > 0 {
            debug!(dropped, "commands that waited for the lost connection are dropped");
        }
    }

    async fn connection(&mut self, books: &Books) -> End {
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
        self.drain();
        if self.events.send(Event::Connected).await.is_err() {
            return End::Closed;
        }
        let traffic = Traffic { topics: &self.topics, events: &self.events, metrics: &self.metrics, books };
        tokio::select! {
            end = traffic.read(&mut eventloop) => end,
            () = traffic.publish(&client, &mut self.queue) => End::Closed,
        }
    }

    /// Connects and subscribes: without its subscriptions a connection hears nobody, however well it is.
    async fn subscribe(&self, client: &AsyncClient, eventloop: &mut EventLoop) -> Result<(), End> {
        let filters = self.topics.filters();
        let asked = filters.iter().map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
        let lost = |error: &dyn std::fmt::Display| End::lost(error);
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
