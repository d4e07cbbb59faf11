//! The log of a module is its base's: all modules of a JVM write into one.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;

use super::{
    answer::Refused,
    base::OwnPod,
    entries::Entries,
    handing::{Handing, Place, in_its_words},
};

/// Logs that are read at a time.
pub(super) const STREAMS: usize = 128;
/// Until the first bytes come, where nobody waits for new ones.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// The same where somebody does: a log into which nothing is written says nothing, not even that it is there.
const FOLLOWED_FOR: Duration = crate::api::STREAM_SILENCE;

/// What `kubectl logs` can ask for, and what the API server hands on of it.
const OPTIONS: [&str; 8] =
    ["follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "stream", "tailLines", "timestamps"];

/// The options of a request, for another one. Whatever else is in it stays behind.
///
/// # Errors
/// A value that has no business in there.
pub(super) fn options(query: &str) -> Result<String, Refused> {
    let mut kept = String::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !OPTIONS.contains(&name) {
            continue;
        }
        let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'%' | b'+' | b'_');
        if value.len() > 64 || !value.bytes().all(harmless) {
            return Err(Refused::NotPossible(format!("the option {name} of the log has a value that it cannot have")));
        }
        kept.push('&');
        kept.push_str(name);
        kept.push('=');
        kept.push_str(value);
    }
    Ok(kept)
}

/// Hands logs on, as many as there are places for.
pub(super) struct Logs(Handing);

impl Logs {
    pub(super) fn new(client: Client, open: Gauge) -> Self {
        Self(Handing::new(client, STREAMS, open))
    }

    /// The log of a base's own Pod, or what there is of a module in it, where the Pod says how that is known. Nothing is
    /// read of it but what is read here.
    pub(super) async fn of(
        &self,
        pod: &OwnPod,
        container: &str,
        module: &str,
        options: &str,
    ) -> Result<Response<Body>, Refused> {
        let OwnPod { namespace, name, .. } = pod;
        let timestamps = options.contains("&timestamps=true");
        let entries = pod.entries.as_ref().map(|pattern| Entries::new(pattern, module, timestamps)).transpose();
        let entries = entries.map_err(|why| {
            let why = crate::domain::printable(&why, 2000);
            Refused::NotPossible(format!("the log of its base, Pod {namespace}/{name}: {why}"))
        })?;
        let place = self.0.place().ok_or_else(|| {
            Refused::TooMany(format!(
                "modulet hands on {STREAMS} logs already; read the base's: kubectl -n {namespace} logs {name} -c {container}"
            ))
        })?;
        let what = "read the log of the base's own Pod";
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}{options}");
        let within = if options.contains("&follow=true") { FOLLOWED_FOR } else { FIRST_WITHIN };
        let answer = self.0.ask(what, within, Request::get(uri)).await?;
        if !answer.status().is_success() {
            return Err(in_its_words(pod, "the log of its base", what, answer).await);
        }
        let (parts, body) = answer.into_parts();
        let log = holding(body, place);
        let mut response = Response::new(match entries {
            Some(entries) => entries.of(log),
            None => log,
        });
        if let Some(kind) = parts.headers.get(axum::http::header::CONTENT_TYPE) {
            response.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind.clone());
        }
        Ok(response)
    }
}

/// A body that has its place until it ends, or nobody reads it any more.
fn holding(body: kube::client::Body, place: Place) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &place;
        frame
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> OwnPod {
        let (namespace, name) = ("shop".to_owned(), "base-1".to_owned());
        OwnPod { namespace, name, container: Ok("base".to_owned()), entries: None }
    }

    #[test]
    fn options_of_kubectl_go_along_and_nothing_else_does() {
        assert_eq!(options("").unwrap(), "");
        let all = "follow=true&tailLines=5&sinceSeconds=60&sinceTime=2026-01-01T00%3A00%3A00Z&timestamps=true&previous=true&limitBytes=10";
        assert_eq!(options(all).unwrap(), format!("&{all}"));
        assert_eq!(options("follow=true&container=other&insecureSkipTLSVerifyBackend=true&x").unwrap(), "&follow=true");
        for bad in ["tailLines=1#", "tailLines=1 2", "tailLines=1/..", "sinceTime=\u{e9}", "limitBytes=1;x=2"] {
            assert!(matches!(options(bad), Err(Refused::NotPossible(_))), "{bad}");
        }
        assert!(options(&format!("tailLines={}", "1".repeat(65))).is_err());
    }

    #[tokio::test]
    async fn the_log_beyond_those_that_are_handed_on_is_refused_with_the_line_for_the_bases_own_and_read_when_one_ends()
    {
        let answers = tower::service_fn(|_: axum::http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Body::from("a line")))
        });
        let gauge = Gauge::default();
        let logs = Logs::new(Client::new(answers, "default"), gauge.clone());
        let pod = pod();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            open.push(logs.of(&pod, "base", "biz1", "").await.unwrap());
        }
        assert_eq!(gauge.get(), 128);
        let refused = logs.of(&pod, "base", "biz1", "").await.unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(refused.to_string().contains("kubectl -n shop logs base-1 -c base"), "{refused}");
        // Whoever goes away without reading to the end makes room, too.
        open.pop();
        assert_eq!(gauge.get(), 127);
        let read = logs.of(&pod, "base", "biz1", "").await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!((&*read, gauge.get()), (&b"a line"[..], 127));
    }
}
