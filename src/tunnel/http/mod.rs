//! The HTTP tunnel: bases post heartbeats to us, and we post commands to them.
//!
//! Protocol facts that shape it (bases of 2.1.11): each answer ends with its connection and has no headers; what a base
//! cannot read it never answers; commands run on its few I/O threads, so a question can wait behind an install; a
//! request that we give up goes on there; a base takes connections only some moments after its first beat.

mod client;
mod contacts;
mod server;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::mpsc};

use super::{AddressRanges, Event, Sender, Topics};
use crate::{metrics::Metrics, tasks::Tasks};
use client::Client;
use contacts::Contacts;
use server::Server;

/// How the HTTP tunnel is set up.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The port that bases post to, on all addresses.
    pub port: u16,
    /// Where bases are: those in them may say an address that is not the one they speak from.
    pub ranges: AddressRanges,
}

/// The port cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port} for heartbeats of bases (HTTP_TUNNEL_LISTEN_PORT): {source}")]
pub struct HttpError {
    port: u16,
    source: std::io::Error,
}

/// The port is open.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    ranges: AddressRanges,
}

/// Opens the port; one in use is told at the start.
///
/// # Errors
/// The port is in use.
pub async fn listen(config: &HttpConfig) -> Result<Listener, HttpError> {
    let port = config.port;
    let socket = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await;
    let socket = socket.map_err(|source| HttpError { port, source })?;
    Ok(Listener { socket, ranges: config.ranges.clone() })
}

/// Hears bases and sends commands to them, until `events` is closed.
pub fn start(
    tasks: &mut Tasks,
    listener: Listener,
    topics: Topics,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
) -> Sender {
    let contacts = Arc::new(Contacts::new(listener.ranges));
    let (commands, queue) = Sender::new();
    let client = Client::new(Arc::clone(&contacts), events.clone(), Arc::clone(&metrics));
    tasks.spawn("HTTP tunnel, commands", client.run(queue));
    tasks.spawn("HTTP tunnel, heartbeats", Server::new(topics, contacts, events, metrics).run(listener.socket));
    commands
}
