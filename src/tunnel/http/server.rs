//! What bases post: heartbeats, and the question for the baseline.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State},
    http::{
        StatusCode,
        header::{CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{contacts::Contacts, door::Door};
use crate::{
    domain::{BaseId, printable},
    metrics::Metrics,
    serving::{self, ACCEPT_AGAIN, HEAD_WITHIN},
    tunnel::{Event, Kind, Message, Topics, Via, budget::Budgets, codec, open},
};

/// Bytes of a request's body: a real heartbeat has 200.
const MAX_BODY: usize = 64 * 1024;
/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// A connection lives no longer.
const CONNECTION_FOR: Duration = Duration::from_secs(60);
/// The baseline is known within this, or the base is told none: it gets its modules one by one then.
const BASELINE_WITHIN: Duration = Duration::from_secs(5);
/// A base that takes connections takes one within this; who waits for it gives up after 10 s (protocol fact).
const OPENS_WITHIN: Duration = Duration::from_secs(3);

/// Listens.
pub(super) struct Server {
    pub(super) topics: Topics,
    pub(super) contacts: Arc<Contacts>,
    pub(super) door: Door,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budgets: Mutex<Budgets>,
}

impl Server {
    /// Serves until nobody wants events any more.
    pub(super) async fn run(self, listener: TcpListener) {
        let (events, permits, server) = (self.events.clone(), Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(self));
        let router = Router::new()
            .route("/heartbeat", post(heartbeat))
            .route("/queryBaseline", post(query_baseline))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&server));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = events.closed() => return,
            };
            match accepted {
                Ok((stream, from)) => match server.door.place(from.ip()) {
                    Ok(place) => {
                        let router = router.clone().layer(axum::Extension(from));
                        let server = Arc::clone(&server);
                        tokio::spawn(async move {
                            let _inside = (permit, place);
                            // Ends with its time at the latest.
                            let _ = timeout(CONNECTION_FOR, server.connection(stream, from, router)).await;
                        });
                    }
                    Err(why) => server.refuse(why.reason(), from, &why),
                },
                Err(error) => {
                    warn!(%error, "no connection of a base can be taken");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, from: SocketAddr, router: Router) {
        let Some(tls) = self.door.tls() else { return serve(stream, from, router).await };
        match timeout(HEAD_WITHIN, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, from, router).await,
            Ok(Err(error)) => match error.get_ref().and_then(|inside| inside.downcast_ref()) {
                Some(why @ rustls::Error::InvalidMessage(_)) => {
                    self.refuse(
                        "tls",
                        from,
                        &format!("it does not speak TLS, as http:// instead of https:// does ({why})"),
                    );
                }
                Some(why) => self.refuse("tls", from, &format!("no TLS: {why}")),
                // Somebody looked whether the port is open.
                None => debug!(%from, %error, "a connection ended"),
            },
            Err(_) => self.refuse("tls", from, &"no TLS handshake in time"),
        }
    }

    /// Counts what is refused, and logs it as long as the log does not fill up with it.
    fn refuse(&self, reason: &'static str, from: SocketAddr, why: &dyn Display) {
        self.metrics.message_refused(reason);
        if reason == "identity" {
            self.metrics.standing.base_refused(reason);
        }
        if open(&self.budgets).may_log(Instant::now()) {
            warn!(%from, reason, error = &*printable(&why.to_string(), 300), "message refused");
        }
    }

    /// What a base says, if it may be believed; or how it is answered at once.
    async fn read(&self, kind: Kind, from: SocketAddr, body: &[u8]) -> Result<(BaseId, Message), StatusCode> {
        let refused = |reason: &'static str, status: StatusCode, why: &dyn Display| {
            self.refuse(reason, from, why);
            status
        };
        let said = codec::posted(kind, body).map_err(|error| refused("malformed", StatusCode::BAD_REQUEST, &error))?;
        let base = self.topics.base(&said.identity);
        let base = base.map_err(|error| refused("identity", StatusCode::BAD_REQUEST, &error))?;
        let ip = self.contacts.place(from.ip(), said.address);
        let ip = ip.map_err(|error| refused("address", StatusCode::FORBIDDEN, &error))?;
        if let Err(taken) = self.contacts.believes(&base, ip, Instant::now()) {
            let gone = taken.look && !is_open(taken.at).await && self.contacts.give_up(&taken);
            if !gone {
                return Err(refused("taken", StatusCode::CONFLICT, &taken));
            }
        }
        let now = Instant::now();
        // Others take nothing of what a base may say: they are refused before.
        if !open(&self.budgets).admits(&base, kind, body.len(), now) {
            return Err(refused("rate", StatusCode::TOO_MANY_REQUESTS, &"the base says more than is read of one"));
        }
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

    async fn tell(&self, base: BaseId, message: Message) -> Result<(), StatusCode> {
        let told = self.events.send(Event::Message(Via::Http, base, message)).await;
        told.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Whether somebody takes connections there.
async fn is_open(at: SocketAddr) -> bool {
    matches!(timeout(OPENS_WITHIN, TcpStream::connect(at)).await, Ok(Ok(_)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, from: SocketAddr, router: Router) {
    if let Err(error) = serving::serve(stream, router).await {
        debug!(%from, %error, "a connection ended");
    }
}

/// Who asks, and may. It is taken from the head of a request, before its body is read.
struct Caller(SocketAddr);

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Response> {
        let from: Option<&SocketAddr> = parts.extensions.get();
        let from = *from.ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        server.door.admits(&parts.headers).map(|()| Self(from)).map_err(|why| {
            server.refuse(why.reason(), from, &why);
            // A JVM that has an answer to this gives it at once.
            let ask = [(WWW_AUTHENTICATE, "Basic realm=\"modulet\""), (CONNECTION, "close")];
            (StatusCode::UNAUTHORIZED, ask).into_response()
        })
    }
}

async fn heartbeat(
    State(server): State<Arc<Server>>,
    Caller(from): Caller,
    body: Bytes,
) -> Result<&'static str, StatusCode> {
    let (base, message) = server.read(Kind::Heart, from, &body).await?;
    server.tell(base, message).await?;
    Ok("SUCCESS")
}

async fn query_baseline(
    State(server): State<Arc<Server>>,
    Caller(from): Caller,
    body: Bytes,
) -> Result<impl IntoResponse, StatusCode> {
    let (base, message) = server.read(Kind::QueryBaseline, from, &body).await?;
    let waits = server.contacts.waits(&base);
    server.tell(base, message).await?;
    let baseline = match timeout(BASELINE_WITHIN, waits).await {
        Ok(Ok(baseline)) => baseline,
        _ => b"[]".to_vec(),
    };
    Ok(([(CONTENT_TYPE, "application/json")], baseline))
}
