//! Connections to the kubelet API: with TLS, bounded in number, and with the user that each has by its certificate.

use std::{net::SocketAddr, sync::Arc};

use axum::Extension;
use rustls::{ServerConfig, server::NoServerSessionStorage};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    access::{ByCertificate, user_of},
    authorities::Authorities,
    certificate::Certificate,
    routes::router,
    service::Kubelet,
};
use crate::serving::{ACCEPT_AGAIN, HEAD_WITHIN, serve};

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 512;

/// Serves for ever.
pub(super) async fn run(
    socket: TcpListener,
    certificate: Certificate,
    authorities: Authorities,
    kubelet: Arc<Kubelet>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let router = router(kubelet);
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match socket.accept().await {
            Ok((stream, from)) => {
                let (tls, router) = (acceptor(&certificate, &authorities), router.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    connection(tls, stream, from, router).await;
                });
            }
            Err(error) => {
                warn!(%error, "no connection to the kubelet API can be taken");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// With the certificate and the authorities as they are now.
fn acceptor(certificate: &Certificate, authorities: &Authorities) -> TlsAcceptor {
    let builder = ServerConfig::builder().with_client_cert_verifier(authorities.now());
    let mut config = builder.with_cert_resolver(certificate.now());
    // A session that goes on would outlive the certificates that it began with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config))
}

async fn connection(tls: TlsAcceptor, stream: TcpStream, from: SocketAddr, router: axum::Router) {
    let stream = match timeout(HEAD_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%from, %error, "no TLS to the kubelet API"),
        Err(_) => return debug!(%from, "no TLS handshake with the kubelet API in time"),
    };
    // They were verified when the connection was made.
    let user = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(user_of);
    let router = router.layer(Extension(ByCertificate(user)));
    if let Err(error) = serve(stream, router).await {
        debug!(%from, %error, "a connection to the kubelet API ended");
    }
}
