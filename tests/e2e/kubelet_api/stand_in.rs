//! As much of a kubelet as it takes for the log of one Pod and its ports: a machine whose Pods all write the same lines.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A machine's kubelet. It ends when it is dropped.
pub(super) struct StandIn {
    pub(super) port: u16,
    inside: Arc<Inside>,
    server: JoinHandle<()>,
}

struct Inside {
    lines: watch::Sender<Vec<String>>,
    asked: Mutex<Vec<String>>,
}

struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, from)) = self.0.accept().await
                && let Ok(stream) = self.1.accept(stream).await
            {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl StandIn {
    /// With the certificate and key of these files.
    pub(super) async fn start(certificate: &Path, key: &Path, lines: &[&str]) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificate = CertificateDer::from_pem_slice(&fs::read(certificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?)?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let inside = Arc::new(Inside { lines: watch::Sender::new(lines), asked: Mutex::default() });
        let router = Router::new().route("/portForward/{namespace}/{pod}", any(echo)).fallback(log);
        let router = router.with_state(Arc::clone(&inside));
        let tls = Tls(listener, TlsAcceptor::from(Arc::new(config)));
        let server = tokio::spawn(async move {
            let _ = axum::serve(tls, router).await;
        });
        Ok(Self { port, inside, server })
    }

    /// One more line.
    pub(super) fn writes(&self, line: &str) {
        self.inside.lines.send_modify(|lines| lines.push(line.to_owned()));
    }

    /// What was asked for, path and query, since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.inside.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many follow the log.
    pub(super) fn followers(&self) -> usize {
        self.inside.lines.receiver_count()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Agrees to the protocol that it is asked for, and says everything twice.
async fn echo(State(inside): State<Arc<Inside>>, headers: HeaderMap, mut request: Request) -> Response {
    inside.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.uri().path().to_owned());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        while let Ok(byte) = stream.read_u8().await {
            let _ = stream.write_all(&[byte, byte]).await;
        }
    });
    let agreed = ["connection", "upgrade", "x-stream-protocol-version"];
    let agreed: HeaderMap =
        agreed.into_iter().filter_map(|name| Some((name.parse().ok()?, headers.get(name)?.clone()))).collect();
    (StatusCode::SWITCHING_PROTOCOLS, agreed).into_response()
}

async fn log(State(inside): State<Arc<Inside>>, RawQuery(query): RawQuery, request: Request) -> Body {
    let query = query.unwrap_or_default();
    let asked = format!("{}?{query}", request.uri().path());
    inside.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    let tail = query.split('&').find_map(|pair| pair.strip_prefix("tailLines=")?.parse().ok()).unwrap_or(usize::MAX);
    let begins = inside.lines.borrow().len().saturating_sub(tail);
    if !query.contains("follow=true") {
        return Body::from(text(&inside.lines.borrow(), begins));
    }
    let lines = futures::stream::unfold((inside.lines.subscribe(), begins), |(mut lines, from)| async move {
        let (text, next) = {
            let lines = lines.wait_for(|lines| lines.len() > from).await.ok()?;
            (text(&lines, from), lines.len())
        };
        Some((text, (lines, next)))
    });
    Body::from_stream(lines.map(Ok::<_, io::Error>))
}

fn text(lines: &[String], from: usize) -> String {
    lines.iter().skip(from).flat_map(|line| [line.as_str(), "\n"]).collect()
}
