//! The one way to the API server for what changes something: only while we lead, and never for longer than is right.
//!
//! The lead is asked for twice, before the request is made and when it goes out on the wire: between the two a connection
//! may have to be made, and the process may have stood still.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request as HttpRequest, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::time::timeout;
use tower::BoxError;

use super::request::{Outcome, Request, WriteError};
use crate::lead::Lead;

/// Our name as a field manager.
const MANAGER: &str = "modulet";
/// A write that takes longer has failed: an API server that hangs must not hold permits for ever.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A client that writes only while we may.
#[derive(Clone)]
pub struct Gated {
    client: Client,
    lead: Lead,
}

impl Gated {
    /// Asks `lead` before each write.
    pub fn new(client: Client, lead: Lead) -> Self {
        Self { client, lead }
    }

    /// Sends the request and waits for the answer, but not for ever. A request that is given up takes its connection
    /// along.
    pub(super) async fn perform(&self, request: Request) -> Result<Outcome, WriteError> {
        if !self.lead.may_act() {
            return Err(WriteError::NotLeading);
        }
        let late = |_| WriteError::Unreachable(format!("no answer in {TIMEOUT:?}"));
        match timeout(TIMEOUT, send(&self.client, request, &self.lead)).await.map_err(late)? {
            // It may have been stopped at the wire.
            Err(WriteError::Unreachable(_)) if !self.lead.may_act() => Err(WriteError::NotLeading),
            end => end,
        }
    }
}

/// Where it goes, with who wrote it, for `kubectl get --show-managed-fields` (Kubernetes convention).
fn uri(Request { method, path, .. }: &Request) -> String {
    let and = if path.contains('?') { '&' } else { '?' };
    let named = *method == Method::POST || *method == Method::PATCH;
    if named { format!("{path}{and}fieldManager={MANAGER}") } else { path.clone() }
}

/// Sends the request and reads no more of the answer than is needed.
async fn send(client: &Client, request: Request, lead: &Lead) -> Result<Outcome, WriteError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Meta {
        resource_version: Option<String>,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metadata: Meta,
        message: Option<String>,
    }
    let unreachable = |error: &dyn std::fmt::Display| WriteError::Unreachable(error.to_string());
    let mut http = HttpRequest::builder()
        .uri(uri(&request))
        .method(request.method)
        .header(CONTENT_TYPE, request.content_type)
        .body(Body::from(request.body))
        .map_err(|e| unreachable(&e))?;
    http.extensions_mut().insert(lead.clone());
    let response = client.send(http).await.map_err(|e| unreachable(&e))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
    let answer: Option<Answer> = serde_json::from_slice(&body).ok();
    if status.is_success() {
        let version = answer.and_then(|a| a.metadata.resource_version).and_then(|v| v.parse().ok());
        return Ok(Outcome { resource_version: version.unwrap_or(0) });
    }
    let message = answer.and_then(|a| a.message).unwrap_or_else(|| status.to_string());
    Err(WriteError::Refused { code: status.as_u16(), message })
}

/// The lead was lost while a request was on its way to the wire. Its head may be there; without its body it is none.
#[derive(Debug, thiserror::Error)]
#[error("not sent: another replica may lead by now")]
struct LostOnTheWay;

/// A request's body. That of a write asks for the lead.
pub(super) struct Sent {
    body: Body,
    lead: Option<Lead>,
}

impl Sent {
    /// Asks the lead that is among the request's extensions, if there is one.
    pub(super) fn from(request: HttpRequest<Body>) -> HttpRequest<Self> {
        let lead = request.extensions().get().cloned();
        request.map(|body| Self { body, lead })
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.lead.as_ref().is_some_and(|lead| !lead.may_act()) {
            return Poll::Ready(Some(Err(LostOnTheWay.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(BoxError::from)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::client::tests::{OK, server},
        lead::Moment,
    };

    fn patch(lead: &Lead) -> HttpRequest<Body> {
        let mut request = HttpRequest::patch("/api/v1/nodes/a").body(Body::from(b"{\"spec\":{}}".to_vec())).unwrap();
        request.extensions_mut().insert(lead.clone());
        request
    }

    #[tokio::test]
    async fn a_write_that_was_let_through_and_finds_the_lead_lost_at_the_wire_is_not_sent() {
        let (clients, mut requests) = server(&[OK]).await;
        let lead = Lead::standby();
        lead.renew(Moment::now());
        clients.requests.send(patch(&lead)).await.unwrap();
        assert!(requests.recv().await.unwrap().ends_with("{\"spec\":{}}"));
        lead.lose("another");
        let error = clients.requests.send(patch(&lead)).await.unwrap_err();
        assert!(requests.try_recv().is_err(), "it was sent whole: {error}");
        let renewal = HttpRequest::put("/lease").body(Body::from(b"{}".to_vec())).unwrap();
        assert!(Sent::from(renewal).into_body().collect().await.is_ok(), "what takes the lead asks nobody");
    }

    #[tokio::test]
    async fn the_question_is_asked_when_the_body_goes_out() {
        let lead = Lead::standby();
        lead.renew(Moment::now());
        let waits = Sent::from(patch(&lead)).into_body();
        assert_eq!(waits.size_hint().exact(), Some(11));
        lead.close();
        assert!(waits.collect().await.unwrap_err().is::<LostOnTheWay>());
    }

    #[test]
    fn who_wrote_it_is_said_once_beside_what_else_is_asked() {
        let path = || "/api/v1/nodes/base-1".to_owned();
        let uri_of = |request: &Request| uri(request).replace("/api/v1/nodes/base-1", "");
        assert_eq!(uri_of(&Request::create(path(), &serde_json::Value::Null)), "?fieldManager=modulet");
        assert_eq!(uri_of(&Request::merge_patch(path(), &serde_json::Value::Null)), "?fieldManager=modulet");
        assert_eq!(uri_of(&Request::apply(path(), &serde_json::Value::Null)), "?force=true&fieldManager=modulet");
    }
}
