//! The HTTP tunnel: bases post heartbeats to us, and we post commands to them.
//!
//! Protocol facts that shape it (bases of 2.1.11): each answer ends with its connection and has no headers; what a base
//! cannot read it never answers; commands run on its few I/O threads, so a question can wait behind an install; a
//! request that we give up goes on there; a base takes connections only some moments after its first beat. It beats
//! with the JVM's own client: `https:` and its key store work, an `Authenticator` answers when it is asked, and the
//! endpoint and the metadata are in its log at each beat, so no secret may be in them.

mod client;
mod contacts;
mod door;
mod secret;
mod server;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, sync::mpsc};

use super::{AddressRanges, Event, Sender, Topics};
use crate::{lead::Lead, metrics::Metrics, tasks::Tasks, tls::TlsError};
use client::Client;
use contacts::Contacts;
use door::Door;
pub use door::Tls;
use server::Server;

/// How the HTTP tunnel is set up.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The port that bases post to, on all addresses.
    pub port: u16,
    /// Where bases are: where there are ranges, only those in them may beat, and may say an address that is not the one
    /// they speak from.
    pub ranges: AddressRanges,
    /// File with the secrets of which bases must carry one.
    pub secret: Option<PathBuf>,
    /// TLS, if so.
    pub tls: Option<Tls>,
}

/// Why bases cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port cannot be used.
    #[error("cannot listen on port {port} for heartbeats of bases (HTTP_TUNNEL_LISTEN_PORT): {source}")]
    Port {
        /// Which one.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error("cannot listen for heartbeats of bases: {0}")]
    File(#[from] TlsError),
}

/// The port is open.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    ranges: AddressRanges,
    door: Door,
}

/// Reads the files and opens the port: what is wrong with them is told at the start.
///
/// # Errors
/// The port is in use, or a file is no good.
pub async fn listen(config: &HttpConfig) -> Result<Listener, HttpError> {
    let (port, ranges) = (config.port, config.ranges.clone());
    let door = Door::new(ranges.clone(), config.secret.clone(), config.tls.clone())?;
    let socket = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await;
    let socket = socket.map_err(|source| HttpError::Port { port, source })?;
    Ok(Listener { socket, ranges, door })
}

/// Hears bases and sends commands to them, until `events` is closed.
pub fn start(
    tasks: &mut Tasks,
    listener: Listener,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    lead: Lead,
) -> Sender {
    let contacts = Arc::new(Contacts::new(listener.ranges));
    let (commands, queue) = Sender::new();
    let client = Client::new(Arc::clone(&contacts), events.clone(), Arc::clone(&metrics), lead);
    let server = Server { topics, contacts, door: listener.door, events, metrics, budgets: Mutex::default() };
    tasks.spawn("HTTP tunnel, commands", Arc::new(client).run(queue));
    tasks.spawn("HTTP tunnel, heartbeats", server.run(listener.socket));
    commands
}
