//! Connections to the kubelet API: with TLS, bounded in number, and with the user that each has by its certificate.

use std::{net::SocketAddr, sync::Arc};

use axum::Extension;
use rustls::server::{ResolvesServerCert, danger::ClientCertVerifier};
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
use crate::serving::{self, ACCEPT_AGAIN, HEAD_WITHIN};

/// Connections at a time; more wait in the system's queue.
pub(super) const CONNECTIONS: usize = 512;

/// Serves for ever, at most so many connections at a time.
pub(super) async fn run(
    most: usize,
    socket: TcpListener,
    certificate: Certificate,
    authorities: Authorities,
    kubelet: Arc<Kubelet>,
) {
    let permits = Arc::new(Semaphore::new(most));
    let (router, mut tls) = (router(kubelet), Tls::default());
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match socket.accept().await {
            Ok((stream, from)) => {
                let (tls, router) = (tls.with(certificate.now(), authorities.now()), router.clone());
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

/// What connections are accepted with: made once for each certificate and authorities.
#[derive(Default)]
struct Tls(Option<Made>);

struct Made {
    own: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// With those that there are now.
    fn with(&mut self, own: Arc<dyn ResolvesServerCert>, clients: Arc<dyn ClientCertVerifier>) -> TlsAcceptor {
        let same = |made: &&Made| Arc::ptr_eq(&made.own, &own) && Arc::ptr_eq(&made.clients, &clients);
        if let Some(made) = self.0.as_ref().filter(same) {
            return made.acceptor.clone();
        }
        let acceptor = TlsAcceptor::from(Arc::new(serving::tls(Arc::clone(&own), Arc::clone(&clients))));
        self.0 = Some(Made { own, clients, acceptor: acceptor.clone() });
        acceptor
    }
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
    if let Err(error) = serving::serve(stream, router).await {
        debug!(%from, %error, "a connection to the kubelet API ended");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;
    use crate::{
        api::{Clients, Proxies},
        kubelet::certificate::Source,
        metrics::Metrics,
        tunnel::Topics,
    };

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name)
    }

    fn certificate() -> Certificate {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Certificate::new([127, 0, 0, 1].into(), &Source::Files(fixture("good.crt"), fixture("good.key"))).unwrap()
    }

    async fn connects(to: SocketAddr) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fixture("authority.crt")).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// One request and its answer. The connection stays.
    async fn asks(stream: &mut TlsStream<TcpStream>) {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"bearer token") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
    }

    #[tokio::test]
    async fn a_connection_beyond_those_there_may_be_waits_until_one_ends() {
        assert_eq!(CONNECTIONS, 512);
        let (certificate, socket) = (certificate(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let to = socket.local_addr().unwrap();
        let cluster = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let clients = Clients::new(cluster, &Proxies::default()).unwrap();
        let (authorities, _reads) = Authorities::new(clients.requests.clone());
        let kubelet = Kubelet::new(clients, Topics::new("dev"), Vec::new(), Arc::new(Metrics::new()));
        let server = tokio::spawn(run(3, socket, certificate, authorities, Arc::new(kubelet)));
        let mut open = [connects(to).await, connects(to).await, connects(to).await];
        let waits = tokio::spawn(connects(to));
        // It would have been served long since: all this is done by one thread.
        for _ in 0..20 {
            for stream in &mut open {
                asks(stream).await;
            }
        }
        assert!(!waits.is_finished(), "a fourth is served");
        let [ends, ..] = open;
        drop(ends);
        asks(&mut waits.await.unwrap()).await;
        server.abort();
    }

    #[tokio::test]
    async fn what_connections_are_accepted_with_is_made_once_for_each_certificate() {
        let mut tls = Tls::default();
        let clients = rustls::server::WebPkiClientVerifier::no_client_auth;
        let (first, second, nobody) = (certificate().now(), certificate().now(), clients());
        let mut with =
            |own: &Arc<_>, clients: &Arc<_>| Arc::clone(tls.with(Arc::clone(own), Arc::clone(clients)).config());
        let made = with(&first, &nobody);
        assert!(Arc::ptr_eq(&made, &with(&first, &nobody)));
        let renewed = with(&second, &nobody);
        assert!(!Arc::ptr_eq(&made, &renewed));
        assert!(Arc::ptr_eq(&renewed, &with(&second, &nobody)));
        assert!(!Arc::ptr_eq(&renewed, &with(&second, &clients())));
    }
}
