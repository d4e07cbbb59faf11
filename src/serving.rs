//! Connections of HTTP, as our servers for others treat them: who does not send a request's head in time is let go.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection has made its TLS handshake within this, and sends each request's head within this.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// After an error of the listener (no file descriptors) it is tried again.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// How TLS is spoken. A session that goes on would outlive the certificates that it began with, so none does.
pub fn tls(own: Arc<dyn ResolvesServerCert>, clients: Arc<dyn ClientCertVerifier>) -> ServerConfig {
    let mut config = ServerConfig::builder().with_client_cert_verifier(clients).with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Serves one until it ends.
///
/// # Errors
/// How it ended, if not in order.
pub async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, router: Router) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await
}
