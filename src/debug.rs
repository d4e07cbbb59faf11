//! `/debug/bases`: what the engine knows of each base, for people on the same machine or behind a port-forward.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, Path, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;

use crate::{domain::BaseId, picture::Pictures};

/// How to get there from elsewhere.
const REFUSED: &str = "/debug is for the loopback address only: kubectl port-forward deployment/modulet 8080:8080, then \
                       curl http://localhost:8080/debug/bases\n";

/// The routes below `/debug`. The server must tell the peer's address.
pub fn routes(pictures: Arc<Pictures>) -> Router {
    Router::new()
        .route("/debug/bases", get(bases))
        .route("/debug/bases/{id}", get(base))
        .layer(middleware::from_fn(from_loopback))
        .with_state(pictures)
}

async fn from_loopback(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if is_loopback(peer.ip()) { next.run(request).await } else { (StatusCode::FORBIDDEN, REFUSED).into_response() }
}

/// A listener on `[::]` shows an IPv4 peer as `::ffff:127.0.0.1`. Others than the one usual address of the loopback are
/// not taken: a mesh's proxy in the Pod hands requests on from 127.0.0.6, whoever sent them.
fn is_loopback(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer == IpAddr::from([127, 0, 0, 1]) || peer == IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
}

async fn bases(State(pictures): State<Arc<Pictures>>) -> Response {
    pictures.summary().await.map_or_else(not_yet, |summary| as_json(&summary))
}

async fn base(State(pictures): State<Arc<Pictures>>, Path(id): Path<String>) -> Response {
    match pictures.of(&BaseId::new(id)).await {
        None => not_yet(),
        Some(None) => (StatusCode::NOT_FOUND, "no such base; /debug/bases lists all\n").into_response(),
        Some(Some(base)) => as_json(&base),
    }
}

fn not_yet() -> Response {
    let text = "the engine has not answered in time: it may still wait for its watches, see /readyz and /healthz\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// For eyes.
fn as_json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::extract::connect_info::MockConnectInfo;
    use modulet_testkit::http::get;
    use tokio::net::TcpListener;

    use super::*;

    /// What a peer with this address gets; the engine knows no base.
    async fn asks(peer: &str, path: &str) -> (u16, String) {
        let pictures = Arc::new(Pictures::default());
        pictures.taken(true);
        let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = axum::serve(listener, routes(pictures).layer(MockConnectInfo(peer)));
        tokio::select! {
            answer = get(&address, path) => answer.unwrap(),
            _ = server.into_future() => panic!("the server ended"),
        }
    }

    #[tokio::test]
    async fn who_is_not_on_the_loopback_is_told_how_to_get_there() {
        for peer in ["192.0.2.7", "10.0.0.1", "0.0.0.0", "2001:db8::1", "::ffff:192.0.2.7", "127.0.0.6"] {
            for path in ["/debug/bases", "/debug/bases/base-1"] {
                assert_eq!(asks(peer, path).await, (403, REFUSED.trim().to_owned()), "{peer} {path}");
            }
        }
        assert!(REFUSED.contains("kubectl port-forward"));
    }

    #[tokio::test]
    async fn who_is_on_the_loopback_is_served() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(asks(peer, "/debug/bases").await, (200, "[]".to_owned()), "{peer}");
            assert_eq!(asks(peer, "/debug/bases/base-1").await.0, 404, "{peer}");
        }
    }
}
