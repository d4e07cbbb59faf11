//! What a request carries. That of a write asks for the lead when it goes out on the wire: between [`super::Gated`]'s
//! question and this moment a connection may have to be made, and the process may have stood still.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::Request;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::client::Body;
use tower::BoxError;

use crate::lead::Lead;

/// The lead was lost while a request was on its way to the wire. Its head may be there; without its body it is none.
#[derive(Debug, thiserror::Error)]
#[error("not sent: another replica may lead by now")]
struct LostOnTheWay;

/// A request's body.
pub(super) struct Sent {
    body: Body,
    lead: Option<Lead>,
}

impl Sent {
    /// Asks the lead that is among the request's extensions, if there is one.
    pub(super) fn from(request: Request<Body>) -> Request<Self> {
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
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        api::client::tests::{OK, server},
        lead::Moment,
    };

    fn patch(lead: &Lead) -> Request<Body> {
        let mut request = Request::patch("/api/v1/nodes/a").body(Body::from(b"{\"spec\":{}}".to_vec())).unwrap();
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
        let renewal = Request::put("/lease").body(Body::from(b"{}".to_vec())).unwrap();
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
}
