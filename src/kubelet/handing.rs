//! What is handed on of a base's own Pod: so much at a time, and what the API server says where it is nothing.

use std::{sync::Arc, time::Duration};

use axum::http::{Response, request::Builder};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{answer::Refused, base::OwnPod, questions::answered};

/// Until words have come that stand in place of what was asked for.
const WORDS_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of such words.
const WORDS_MAX: usize = 16 * 1024;

/// One kind of what is handed on.
pub(super) struct Handing {
    client: Client,
    places: Arc<Semaphore>,
    open: Gauge,
}

/// One that is handed on. It is counted for as long as it lasts.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Handing {
    /// At most so many at a time.
    pub(super) fn new(client: Client, most: usize, open: Gauge) -> Self {
        Self { client, places: Arc::new(Semaphore::new(most)), open }
    }

    /// None: there are as many as there may be.
    pub(super) fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.open.inc();
        Some(Place { _permit: permit, open: self.open.clone() })
    }

    /// What the API server answers within this time.
    pub(super) async fn ask(
        &self,
        what: &'static str,
        within: Duration,
        request: Builder,
    ) -> Result<Response<Body>, Refused> {
        let failed = |why: String| Refused::Cluster { what, why };
        let request = request.body(Body::empty()).map_err(|error| failed(error.to_string()))?;
        answered(within, self.client.send(request)).await.map_err(failed)
    }
}

/// What the API server says of `part` of the base's own Pod, for whoever asked for the module's.
pub(super) async fn in_its_words(pod: &OwnPod, part: &str, what: &'static str, answer: Response<Body>) -> Refused {
    let (parts, body) = answer.into_parts();
    let words = timeout(WORDS_WITHIN, http_body_util::Limited::new(body, WORDS_MAX).collect()).await;
    let words = words.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    refused(pod, part, what, parts.status.as_u16(), &words)
}

fn refused(pod: &OwnPod, part: &str, what: &'static str, status: u16, words: &[u8]) -> Refused {
    #[derive(serde::Deserialize)]
    struct Status {
        message: String,
    }
    let said = serde_json::from_slice::<Status>(words).map(|status| status.message);
    let said = said.unwrap_or_else(|_| format!("status {status}"));
    let said = format!("{part}, Pod {}/{}: {}", pod.namespace, pod.name, crate::domain::printable(&said, 2000));
    match status {
        404 => Refused::NotFound(said),
        400..=499 => Refused::NotPossible(said),
        _ => Refused::Cluster { what, why: said },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_says_comes_back_in_its_words() {
        let pod = OwnPod {
            namespace: "shop".to_owned(),
            name: "base-1".to_owned(),
            container: Ok("base".to_owned()),
            entries: None,
        };
        let refused = |status, words: &[u8]| refused(&pod, "the log of its base", "read it", status, words);
        let said = refused(400, br#"{"kind":"Status","message":"previous terminated container not found"}"#);
        let words = "the log of its base, Pod shop/base-1: previous terminated container not found";
        assert_eq!(said, Refused::NotPossible(words.to_owned()));
        assert!(matches!(refused(404, b""), Refused::NotFound(_)));
        assert!(matches!(refused(503, b"<html>"), Refused::Cluster { .. }));
    }
}
