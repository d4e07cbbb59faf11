//! A port-forward to a module is one to its base's own Pod: modules listen on their base's ports.
//!
//! What is said over it (SPDY, as API servers speak it with kubelets) is for the kubelet of the base's own Pod, and goes through
//! as it is.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderName, HeaderValue, Response, StatusCode,
        header::{CONNECTION, UPGRADE},
    },
};
use hyper_util::rt::TokioIo;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{io::copy_bidirectional, time::timeout, try_join};
use tracing::debug;

use super::{
    answer::Refused,
    base::OwnPod,
    handing::{self, Handing},
};

/// Port-forwards at a time. Each may have many connections in it.
pub(super) const FORWARDS: usize = 64;
/// The only protocol that there is with kubelets (Kubernetes convention).
const PROTOCOL: &str = "SPDY/3.1";
/// In which version of it ports are forwarded.
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Until the other side agrees.
const AGREED_WITHIN: Duration = Duration::from_secs(30);

/// Hands port-forwards on, as many as there are places for. One over which nothing comes from the cluster for hours ends:
/// that is how its client is made.
pub(super) struct Forwards(Handing);

impl Forwards {
    pub(super) fn new(client: Client, open: Gauge) -> Self {
        Self(Handing::new(client, FORWARDS, open))
    }

    /// Has the base's own Pod agree, and lets through what is said from then on.
    pub(super) async fn to(&self, pod: &OwnPod, mut request: Request) -> Result<Response<Body>, Refused> {
        let OwnPod { namespace, name, .. } = pod;
        let asked = request.headers().get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !asked.eq_ignore_ascii_case(PROTOCOL.as_bytes()) {
            return Err(Refused::NotPossible(format!(
                "ports are forwarded over {PROTOCOL}, as kubectl port-forward asks for"
            )));
        }
        let place = self.0.place().ok_or_else(|| {
            Refused::TooMany(format!(
                "modulet hands on {FORWARDS} port-forwards already; to the base: kubectl -n {namespace} port-forward pod/{name} LOCAL:PORT"
            ))
        })?;
        let what = "forward a port of the base's own Pod";
        let mut same = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/portforward"))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL);
        for version in request.headers().get_all(VERSION) {
            same = same.header(VERSION, version);
        }
        let answer = self.0.ask(what, AGREED_WITHIN, same).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(handing::in_its_words(pod, "a port of its base", what, answer).await);
        }
        let mut agreed = Response::new(Body::empty());
        *agreed.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        agreed.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        agreed.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        for version in answer.headers().get_all(VERSION) {
            agreed.headers_mut().append(VERSION, version.clone());
        }
        let (here, there) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(answer));
        tokio::spawn(async move {
            let _held = place;
            let ended = match timeout(AGREED_WITHIN, async { try_join!(here, there) }).await {
                Ok(Ok((here, there))) => {
                    copy_bidirectional(&mut TokioIo::new(here), &mut TokioIo::new(there)).await.map(drop)
                }
                Ok(Err(error)) => Err(std::io::Error::other(error)),
                Err(late) => Err(late.into()),
            };
            if let Err(error) = ended {
                debug!(%error, "a port-forward ended");
            }
        });
        Ok(agreed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(upgrade: &str) -> Request {
        Request::post("/portForward/shop/biz1").header(UPGRADE, upgrade).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn beyond_those_that_are_handed_on_it_is_refused_with_the_line_for_the_base_and_else_the_cluster_says() {
        let forbids = tower::service_fn(|asked: axum::http::Request<kube::client::Body>| async move {
            assert_eq!(asked.uri(), "/api/v1/namespaces/shop/pods/base-1/portforward");
            let answer = Response::builder().status(403).body(Body::from(r#"{"message":"modulet may not"}"#)).unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        });
        let open = Gauge::default();
        let forwards = Forwards::new(Client::new(forbids, "default"), open.clone());
        let pod = OwnPod {
            namespace: "shop".to_owned(),
            name: "base-1".to_owned(),
            container: Err("several".to_owned()),
            entries: None,
        };
        let all = || (0..64).map(|_| forwards.0.place()).collect::<Option<Vec<_>>>();
        let taken = all().unwrap();
        let refused = forwards.to(&pod, request("SPDY/3.1")).await.unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(refused.to_string().contains("kubectl -n shop port-forward pod/base-1 LOCAL:PORT"), "{refused}");
        drop(taken);
        let said = "a port of its base, Pod shop/base-1: modulet may not".to_owned();
        assert_eq!(forwards.to(&pod, request("spdy/3.1")).await.unwrap_err(), Refused::NotPossible(said));
        assert_eq!(forwards.to(&pod, request("websocket")).await.unwrap_err().status(), 400);
        assert_eq!((open.get(), all().is_some()), (0, true));
    }
}
