//! One question: a request or a connection, and what it comes to.

use std::error::Error;

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    anyone,
    attempt::{Attempt, Outcome},
};
use crate::domain::{ProbeAction, printable};

/// So much of an answer's body is read (as a kubelet does).
const BODY_MAX: usize = 10 * 1024;
/// So many redirections are followed (as a kubelet does).
const REDIRECTIONS: usize = 10;
/// Characters of what is said of a failure.
const SAYS_MAX: usize = 200;

/// Asks.
pub(super) struct Asker {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Asker {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(anyone::config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // Each probe shows that a connection can be made, so none is kept (as a kubelet does).
        let http = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { http })
    }

    /// Asks once, for no longer than the probe allows.
    pub(super) async fn ask(&self, attempt: &Attempt) -> Outcome {
        let Some(probe) = attempt.probes.of(attempt.kind) else { return Outcome::Unknown };
        let asked = async {
            match &probe.action {
                ProbeAction::HttpGet { tls, host, port, path, headers } => {
                    let at = at(host.as_deref(), attempt, *port);
                    let scheme = if *tls { "https" } else { "http" };
                    self.get(format!("{scheme}://{at}{path}"), headers).await
                }
                ProbeAction::TcpSocket { host, port } => {
                    match TcpStream::connect(at(host.as_deref(), attempt, *port)).await {
                        Ok(_) => Outcome::Success,
                        Err(error) => Outcome::Failure(error.to_string()),
                    }
                }
                ProbeAction::Grpc { port, service } => grpc(&at(None, attempt, *port), service).await,
            }
        };
        let outcome = timeout(probe.timeout, asked).await;
        outcome.unwrap_or_else(|_| Outcome::Failure(format!("no answer within {} s", probe.timeout.as_secs())))
    }

    async fn get(&self, url: String, headers: &[(String, String)]) -> Outcome {
        let Some(headers) = with_usual(headers) else { return Outcome::Unknown };
        let Ok(mut uri) = url.parse::<Uri>() else { return Outcome::Unknown };
        for _ in 0..=REDIRECTIONS {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let (status, to) = match self.exchange(request).await {
                Ok(answer) => answer,
                Err(why) => return Outcome::Failure(printable(&why, SAYS_MAX).into_owned()),
            };
            let redirects = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
            match to.filter(|_| redirects).map(|to| follow(&uri, &to)) {
                Some(Some(next)) => uri = next,
                Some(None) => {
                    return Outcome::Warning("it redirects to another host, which was not followed".to_owned());
                }
                None if (200..400).contains(&status.as_u16()) => return Outcome::Success,
                None => return Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
            }
        }
        Outcome::Failure(format!("stopped after {REDIRECTIONS} redirects"))
    }

    /// The status, and where the answer leads to.
    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Option<HeaderValue>), String> {
        let answer = self.http.request(request).await.map_err(|error| cause(&error))?;
        let (head, body) = answer.into_parts();
        match Limited::new(body, BODY_MAX).collect().await {
            Ok(_) => {}
            // What is longer is not read.
            Err(error) if error.is::<LengthLimitError>() => {}
            Err(error) => return Err(format!("its answer ended: {error}")),
        }
        Ok((head.status, head.headers.get(header::LOCATION).cloned()))
    }
}

/// As a kubelet does it: without TLS, and on a connection of its own.
async fn grpc(at: &str, service: &str) -> Outcome {
    let failed = |why: &str| Outcome::Failure(printable(why, SAYS_MAX).into_owned());
    let connected = async { Endpoint::from_shared(format!("http://{at}"))?.connect().await };
    let channel = match connected.await {
        Ok(channel) => channel,
        Err(error) => return failed(&cause(&error)),
    };
    let mut health = HealthClient::new(channel).max_decoding_message_size(BODY_MAX);
    match health.check(HealthCheckRequest { service: service.to_owned() }).await.map(|answer| answer.get_ref().status())
    {
        Ok(ServingStatus::Serving) => Outcome::Success,
        Ok(other) => failed(&format!("service unhealthy (responded with \"{}\")", other.as_str_name())),
        Err(said) if said.code() == Code::Unimplemented => failed("there is no grpc.health.v1.Health at that port"),
        Err(said) => failed(&format!("{}: {}", said.code(), said.message())),
    }
}

/// What lies at the bottom of it: libraries say little above it.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Host and port.
fn at(host: Option<&str>, attempt: &Attempt, port: u16) -> String {
    let host = host.unwrap_or(&attempt.address);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Headers as a kubelet sends them; one that is empty takes the usual one away.
fn with_usual(headers: &[(String, String)]) -> Option<HeaderMap> {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?);
    }
    for (name, value) in [(header::USER_AGENT, "kube-probe/1.36 (modulet)"), (header::ACCEPT, "*/*")] {
        all.entry(&name).or_insert(HeaderValue::from_static(value));
        if all.get(&name).is_some_and(HeaderValue::is_empty) {
            all.remove(&name);
        }
    }
    all.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(all)
}

/// Where a redirection leads; none: to another host, or nowhere.
fn follow(from: &Uri, to: &HeaderValue) -> Option<Uri> {
    let to: Uri = to.to_str().ok()?.parse().ok()?;
    if to.scheme().is_some() {
        let is_http = matches!(to.scheme_str(), Some("http" | "https"));
        return (is_http && to.host() == from.host()).then_some(to);
    }
    // A path alone; one that does not begin at the root is taken for a host by the library.
    to.authority().is_none().then_some(())?;
    let mut parts = from.clone().into_parts();
    parts.path_and_query = to.into_parts().path_and_query;
    Uri::from_parts(parts).ok()
}
