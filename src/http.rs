//! Health, readiness and metrics over HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Why the listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for health and metrics: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What `/readyz` asks.
#[derive(Debug, Default)]
pub struct Readiness {
    /// All watches have delivered their first list.
    pub watches: AtomicBool,
    /// The broker is connected, or no tunnel is switched on.
    pub broker: AtomicBool,
}

impl Readiness {
    fn missing(&self) -> Vec<&'static str> {
        let parts = [(&self.watches, "API server watches"), (&self.broker, "MQTT broker")];
        parts.iter().filter(|(is, _)| !is.load(Ordering::Relaxed)).map(|(_, name)| *name).collect()
    }
}

/// Opens the listener; a port in use is told at the start.
///
/// # Errors
/// The address can't be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves until `stop` ends.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router =
        Router::new().route("/healthz", get(async || "ok")).route("/readyz", get(ready)).with_state(readiness).route(
            "/metrics",
            get(async move || {
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(axum::http::header::CONTENT_TYPE, content_type)], metrics.render())
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}", missing.join(", ")))
    }
}
