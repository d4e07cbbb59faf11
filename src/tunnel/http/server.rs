//! What bases post: heartbeats, and the question for the baseline.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::contacts::Contacts;
use crate::{
    domain::{BaseId, printable},
    metrics::Metrics,
    tunnel::{Event, Kind, Message, Topics, Via, budget::Budgets, codec, open},
};

/// Bytes of a request's body: a real heartbeat has 200.
const MAX_BODY: usize = 64 * 1024;
/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// A connection sends its request's head within this, and lives no longer than the other.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const CONNECTION_FOR: Duration = Duration::from_secs(60);
/// The baseline is known within this, or the base is told none: it gets its modules one by one then.
const BASELINE_WITHIN: Duration = Duration::from_secs(5);
/// After an error of the listener (no file descriptors) it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// Listens.
pub(super) struct Server {
    topics: Topics,
    contacts: Arc<Contacts>,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    budgets: Mutex<Budgets>,
}

impl Server {
    pub(super) fn new(
        topics: Topics,
        contacts: Arc<Contacts>,
        events: mpsc::Sender<Event>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { topics, contacts, events, metrics, budgets: Mutex::default() }
    }

    /// Serves until nobody wants events any more.
    pub(super) async fn run(self, listener: TcpListener) {
        let (events, permits) = (self.events.clone(), Arc::new(Semaphore::new(CONNECTIONS)));
        let router = Router::new()
            .route("/heartbeat", post(heartbeat))
            .route("/queryBaseline", post(query_baseline))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::new(self));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = events.closed() => return,
            };
            match accepted {
                Ok((stream, from)) => {
                    let service = TowerToHyperService::new(router.clone().layer(axum::Extension(ConnectInfo(from))));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_WITHIN)
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(async move {
                        let _permit = permit;
                        match timeout(CONNECTION_FOR, connection).await {
                            Ok(Ok(())) | Err(_) => {}
                            Ok(Err(error)) => debug!(%from, %error, "a connection ended"),
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "no connection of a base can be taken");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// What a base says, if it may be believed; or how it is answered at once.
    fn read(&self, kind: Kind, from: SocketAddr, body: &[u8]) -> Result<(BaseId, Message), StatusCode> {
        let now = Instant::now();
        let refused = |reason: &'static str, status: StatusCode, error: &dyn std::fmt::Display| {
            self.metrics.message_refused(reason);
            if open(&self.budgets).may_log(now) {
                warn!(%from, path = kind.as_str(), error = &*printable(&error.to_string(), 300), "message refused");
            }
            status
        };
        let said = codec::posted(kind, body).map_err(|error| refused("malformed", StatusCode::BAD_REQUEST, &error))?;
        let base = self.topics.base(&said.identity);
        let base = base.map_err(|error| refused("identity", StatusCode::BAD_REQUEST, &error))?;
        if !open(&self.budgets).admits(&base, kind, body.len(), now) {
            return Err(refused("rate", StatusCode::TOO_MANY_REQUESTS, &"the base says more than is read of one"));
        }
        let ip = self.contacts.place(from.ip(), said.address);
        let ip = ip.map_err(|error| refused("address", StatusCode::FORBIDDEN, &error))?;
        let mut message = said.message;
        if let (Message::Heartbeat(beat), Some(port)) = (&mut message, said.port) {
            let heard = self.contacts.beat(&base, SocketAddr::new(ip, port), now);
            beat.out_of_turn = heard.out_of_turn;
            if let Some(other) = heard.alternates {
                warn!(
                    %base, port, other,
                    "two ports say that they are this base: each needs an identity of its own (an implementation of \
                     the metadata hook)"
                );
            }
        }
        self.metrics.message_received(kind.as_str());
        Ok((base, message))
    }
}

async fn heartbeat(
    State(server): State<Arc<Server>>,
    axum::Extension(ConnectInfo(from)): axum::Extension<ConnectInfo<SocketAddr>>,
    body: Bytes,
) -> Response {
    match server.read(Kind::Heart, from, &body) {
        Ok((base, message)) => match server.events.send(Event::Message(Via::Http, base, message)).await {
            Ok(()) => "SUCCESS".into_response(),
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
        Err(status) => status.into_response(),
    }
}

async fn query_baseline(
    State(server): State<Arc<Server>>,
    axum::Extension(ConnectInfo(from)): axum::Extension<ConnectInfo<SocketAddr>>,
    body: Bytes,
) -> Response {
    let (base, message) = match server.read(Kind::QueryBaseline, from, &body) {
        Ok(read) => read,
        Err(status) => return status.into_response(),
    };
    let waits = server.contacts.waits(&base);
    if server.events.send(Event::Message(Via::Http, base, message)).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let baseline = match timeout(BASELINE_WITHIN, waits).await {
        Ok(Ok(baseline)) => baseline,
        _ => b"[]".to_vec(),
    };
    ([(axum::http::header::CONTENT_TYPE, "application/json")], baseline).into_response()
}
