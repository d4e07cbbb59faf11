//! How the API server is reached.
//!
//! Traps of the client library that shape it: it tries what is refused with 429, 503 or 504 again by itself, up to 15
//! times with pauses that double, below our own tries; and it waits for ever on a connection whose other end is gone.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header::USER_AGENT};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::{
        legacy::{
            Client as HttpClient,
            connect::{
                HttpConnector,
                proxy::{SocksV5, Tunnel},
            },
        },
        proxy::matcher::Intercept,
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
};
use rustls::{ClientConfig, pki_types::ServerName, sign::CertifiedKey};
use rustls_platform_verifier::BuilderVerifierExt;
use tower::{
    BoxError,
    util::{MapErrLayer, MapRequest},
};
use tracing::info;

use super::{Proxies, gated::Sent};
use crate::{renewed::Renewed, tls::TlsError};

/// A watch is asked for anew after so many seconds, from where it was. This is also how long it can take to notice that
/// nothing comes any more because the connection is dead; the library then waits 5 s more.
pub(super) const WATCHES_FOR: u32 = 30;
/// On a connection of watches something arrives at least this often: the end of a watch, if nothing else. Whatever was
/// open when the network swallowed it, idle or not, is closed after that time.
const WATCH_SILENCE: Duration = Duration::from_secs(WATCHES_FOR as u64 + 10);
/// The same for other requests, which take no longer than `writer::TIMEOUT`.
const REQUEST_SILENCE: Duration = Duration::from_secs(20);
/// The same where somebody follows a log into which nothing may be written for long: a kubelet's `streamingConnectionIdleTimeout`.
pub const STREAM_SILENCE: Duration = Duration::from_secs(4 * 3600);
/// Making a connection takes no longer.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// Our name in the API server's audit log.
const NAME: &str = concat!("modulet/", env!("CARGO_PKG_VERSION"));

/// One for each way to wait.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watches: Client,
    /// For all else.
    pub requests: Client,
    /// For logs that are followed.
    pub streams: Client,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate, or what makes a token.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// A client certificate in files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A client certificate that the library does not read.
    #[error(
        "the client certificate in the kubeconfig is of X.509 version 1: name it by client-certificate and client-key \
         (files), or have it issued anew as version 3"
    )]
    VersionOne,
    /// A proxy that speaks something else.
    #[error("cannot use the proxy {0}: only http, https and socks5 are known")]
    Proxy(http::Uri),
    /// What TLS to a proxy, or by another name, needs.
    #[error("cannot speak TLS: {0}")]
    Rustls(String),
}

impl Clients {
    /// Clients for the API server that `config` names.
    ///
    /// # Errors
    /// Something in it can't be used: a certificate, or what makes a token.
    pub fn new(mut config: Config, proxies: &Proxies) -> Result<Self, ClientError> {
        config.default_retry = false;
        // Whatever we send, silence counts from what arrived last: so all that was open when the network swallowed it is
        // closed within that time, one after the other tried or not. A request that is cut short by it is tried again.
        config.reset_reader_on_write = false;
        config.connect_timeout = Some(CONNECTS_WITHIN);
        config.headers.retain(|(name, _)| *name != USER_AGENT);
        config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
        let proxy = proxies.to(&config);
        if let Some(proxy) = &proxy {
            info!(proxy = %proxy.uri(), server = %config.cluster_url, "the API server is reached through a proxy");
        }
        let tls = tls(&config)?;
        let client = |silence| {
            let mut config = config.clone();
            (config.read_timeout, config.write_timeout) = (Some(silence), Some(silence));
            through(&config, tls.clone(), proxy.as_ref())
        };
        let streams = client(STREAM_SILENCE)?;
        Ok(Self { watches: client(WATCH_SILENCE)?, requests: client(REQUEST_SILENCE)?, streams })
    }
}

/// A client for something else, which is reached by the same rules: through a proxy where one is set, and with nothing
/// tried again below us.
pub(super) fn elsewhere(url: http::Uri, proxies: &Proxies, silence: Duration) -> Result<Client, ClientError> {
    let mut config = Config::new(url);
    config.default_retry = false;
    config.connect_timeout = Some(CONNECTS_WITHIN);
    (config.read_timeout, config.write_timeout) = (Some(silence), Some(silence));
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    let proxy = proxies.to(&config);
    through(&config, tls(&config)?, proxy.as_ref())
}

/// TLS to the API server. A client certificate in files is read again for each connection, which the library does not.
fn tls(config: &Config) -> Result<ClientConfig, ClientError> {
    let mut config = config.clone();
    let user = &mut config.auth_info;
    let files = match (&user.client_certificate, &user.client_key) {
        (Some(certificate), Some(key)) if user.client_certificate_data.is_none() && user.client_key_data.is_none() => {
            Some(Renewed::<CertifiedKey>::pair("the client certificate", certificate.as_ref(), key.as_ref())?)
        }
        _ => None,
    };
    if files.is_some() {
        (user.client_certificate, user.client_key) = (None, None);
    }
    let mut tls = config.rustls_client_config().map_err(|error| match &error {
        kube::Error::RustlsTls(cause) if cause.to_string().contains("UnsupportedCertVersion") => {
            ClientError::VersionOne
        }
        _ => error.into(),
    })?;
    if let Some(files) = files {
        tls.client_auth_cert_resolver = Arc::new(files);
    }
    Ok(tls)
}

/// A client over connectors of these types, which have no trait in common that can be named here.
macro_rules! client {
    ($config:ident, $tls:ident, $connector:expr) => {{
        let mut https = HttpsConnectorBuilder::new().with_tls_config($tls).https_or_http();
        if let Some(name) = &$config.tls_server_name {
            let name = ServerName::try_from(name.clone()).map_err(|error| ClientError::Rustls(error.to_string()))?;
            https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let mut connector = TimeoutConnector::new(https.enable_http1().wrap_connector($connector));
        connector.set_connect_timeout($config.connect_timeout);
        connector.set_read_timeout($config.read_timeout);
        connector.set_write_timeout($config.write_timeout);
        connector.set_reset_reader_on_write($config.reset_reader_on_write);
        let http = HttpClient::builder(TokioExecutor::new()).build::<_, Sent>(connector);
        let builder = ClientBuilder::new(MapRequest::new(http, Sent::from), $config.default_namespace.clone())
            .with_layer(&MapErrLayer::new(BoxError::from))
            .with_layer(&$config.extra_headers_layer()?);
        match $config.auth_layer()? {
            Some(auth) => builder.with_layer(&auth).with_layer(&$config.base_uri_layer()).build(),
            None => builder.with_layer(&$config.base_uri_layer()).build(),
        }
    }};
}

fn through(config: &Config, tls: ClientConfig, proxy: Option<&Intercept>) -> Result<Client, ClientError> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    let Some(proxy) = proxy else { return Ok(client!(config, tls, direct)) };
    Ok(match proxy.uri().scheme_str() {
        Some("http") => client!(config, tls, tunnel(proxy, direct)),
        Some("https") => {
            let to_proxy = ClientConfig::builder().with_platform_verifier();
            let to_proxy = to_proxy.map_err(|error| ClientError::Rustls(error.to_string()))?.with_no_client_auth();
            let to_proxy = HttpsConnectorBuilder::new().with_tls_config(to_proxy).https_only().enable_http1();
            client!(config, tls, tunnel(proxy, to_proxy.wrap_connector(direct)))
        }
        Some("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(proxy.uri().clone(), direct);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            client!(config, tls, socks)
        }
        _ => return Err(ClientError::Proxy(proxy.uri().clone())),
    })
}

fn tunnel<C>(proxy: &Intercept, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    match proxy.basic_auth() {
        Some(authorization) => tunnel.with_auth(authorization.clone()),
        None => tunnel,
    }
}

/// An API server that gives the answers it was told.
#[cfg(test)]
pub(super) mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
        time::timeout,
    };

    use super::*;

    pub(in crate::api) const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    pub(in crate::api) const BUSY: &str =
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    /// Gives one answer after the other, and the last one for ever. Hands out the requests.
    pub(in crate::api) async fn server(answers: &'static [&'static str]) -> (Clients, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (to, requests) = mpsc::channel(16);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8_lossy(&request).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                request.extend(body);
                to.send(String::from_utf8(request).unwrap()).await.unwrap();
                let answer = answers.get(number).or(answers.last()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::new(address.parse().unwrap());
        config.headers.push((USER_AGENT, HeaderValue::from_static("somebody else")));
        (Clients::new(config, &Proxies::default()).unwrap(), requests)
    }

    #[tokio::test]
    async fn every_request_bears_our_name() {
        let (clients, mut requests) = server(&[OK]).await;
        for client in [clients.watches, clients.requests, clients.streams] {
            client.request_text(http::Request::get("/version").body(Vec::new()).unwrap()).await.unwrap();
            let head = requests.recv().await.unwrap().to_lowercase();
            let agents: Vec<_> = head.lines().filter(|line| line.starts_with("user-agent:")).collect();
            assert_eq!(agents, [format!("user-agent: {NAME}")]);
        }
    }

    #[tokio::test]
    async fn what_is_turned_away_is_not_asked_again_below_us() {
        let (clients, mut requests) = server(&[BUSY]).await;
        for client in [clients.watches, clients.requests] {
            let request = http::Request::get("/version").body(Vec::new()).unwrap();
            let error = timeout(Duration::from_secs(5), client.request_text(request)).await.unwrap().unwrap_err();
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 429), "{error:?}");
            assert!(requests.try_recv().is_ok());
            assert!(requests.try_recv().is_err(), "it was asked again");
        }
    }
}
