//! One watch, kept alive for ever.

use std::{error::Error, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use kube::runtime::watcher;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{
    Watched,
    patience::{Failure, Patience},
};
use crate::{metrics::Metrics, said::Said};

/// The changes of a kind of objects.
type Changes = BoxStream<'static, Result<Watched, watcher::Error>>;
/// Begins with a list.
pub(super) type Start = Box<dyn Fn() -> Changes + Send>;

/// Hands on what comes, for as long as somebody takes it. What is refused with 403, or is a kind that the cluster does
/// not have (404), is as if there were nothing, where one can do `without`, until it is granted or there.
pub(super) async fn forward(
    what: &'static str,
    start: Start,
    mut without: Option<[Watched; 2]>,
    to: mpsc::Sender<Watched>,
    metrics: Arc<Metrics>,
) {
    let (mut stream, mut patience) = (start(), Patience::default());
    // Of the present outage: one line for each cause.
    let mut said = Said::default();
    loop {
        let works_from = patience.works_from();
        let event = tokio::select! {
            event = stream.next() => event,
            () = sleep_until(works_from.map_or_else(Instant::now, Instant::from_std)), if works_from.is_some() => {
                patience.works();
                if said.clear() {
                    info!(what, "watching again");
                }
                continue;
            }
        };
        match event {
            Some(Ok(event)) => {
                if !event.is_attempt() {
                    patience.came(Instant::now().into_std());
                    without = None;
                }
                if to.send(event).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => {
                metrics.watch_errors.inc();
                let answer = Answer::of(&error);
                let forbidden = matches!(answer, Answer::Refused(Some(403 | 404)));
                let cause = words(&error);
                if let Some(nothing) = without.take_if(|_| forbidden) {
                    said.is_new(&cause);
                    warn!(what, "not allowed to watch, or not there; going on without");
                    for event in nothing {
                        if to.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                if said.is_new(&cause) {
                    warn!(what, error = cause, "cannot watch, trying again");
                }
                if answer == Answer::Expired {
                    stream = start();
                }
                let failure = if matches!(answer, Answer::Refused(_)) { Failure::Refused } else { Failure::Silent };
                sleep(patience.failed(failure, Instant::now().into_std())).await;
            }
            None => return,
        }
    }
}

/// What it says of an error, without all that the library knows of it.
fn words(error: &watcher::Error) -> String {
    match (error, of_client(error)) {
        (watcher::Error::WatchError(status), _) | (_, Some(kube::Error::Api(status))) => {
            format!("{} ({})", status.message, status.code)
        }
        _ => chain(error),
    }
}

/// The client's error, if that is what the watch's is of.
fn of_client(error: &watcher::Error) -> Option<&kube::Error> {
    error.source()?.downcast_ref()
}

/// An error and what each cause behind it adds: the libraries repeat the causes in their own words.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// What the API server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing, or what it said broke off.
    Nothing,
    /// That it does not know the version any more from which we would watch.
    Expired,
    /// An error: its code, where it is one that can be read.
    Refused(Option<u16>),
}

impl Answer {
    fn of(error: &watcher::Error) -> Self {
        let code = match (error, of_client(error)) {
            (watcher::Error::WatchError(status), _) | (_, Some(kube::Error::Api(status))) => Some(status.code),
            // A gateway's page, or the line of text with which the API server turns away whom it has no time for.
            (_, None | Some(kube::Error::SerdeError(_) | kube::Error::FromUtf8(_))) => None,
            _ => return Self::Nothing,
        };
        if code == Some(410) { Self::Expired } else { Self::Refused(code) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures::stream;
    use kube::core::Status;

    use super::*;
    use crate::api::Seen;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "No").with_code(code).boxed())
    }

    fn not_json() -> kube::Error {
        kube::Error::SerdeError(serde_json::from_str::<bool>("Too many requests").unwrap_err())
    }

    #[test]
    fn an_error_is_said_in_the_words_of_the_api_server() {
        assert_eq!(words(&watcher::Error::InitialListFailed(refused(403))), "no (403)");
        assert!(words(&watcher::Error::WatchFailed(not_json())).starts_with("watch stream failed"));
        let twice = std::io::Error::other(std::io::Error::other("reset"));
        let error = words(&watcher::Error::WatchFailed(kube::Error::ReadEvents(twice)));
        assert_eq!(error.matches("reset").count(), 1, "{error}");
    }

    #[test]
    fn what_the_api_server_answers_is_told_from_silence() {
        use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
        let silence = || kube::Error::ReadEvents(std::io::Error::other("reset"));
        for (error, answer) in [
            (InitialListFailed(refused(403)), Answer::Refused(Some(403))),
            (WatchStartFailed(refused(404)), Answer::Refused(Some(404))),
            (WatchFailed(refused(503)), Answer::Refused(Some(503))),
            (WatchFailed(not_json()), Answer::Refused(None)),
            (NoResourceVersion, Answer::Refused(None)),
            (WatchFailed(silence()), Answer::Nothing),
            (WatchFailed(refused(410)), Answer::Expired),
            (WatchError(Status::failure("too old", "Expired").with_code(410).boxed()), Answer::Expired),
            (WatchError(Status::failure("oh", "InternalError").with_code(500).boxed()), Answer::Refused(Some(500))),
        ] {
            assert_eq!(Answer::of(&error), answer, "{error:?}");
        }
    }

    /// What was logged by this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn marks(begins: bool) -> Watched {
        Watched::Record(Box::new(if begins { Seen::ListBegins } else { Seen::ListEnds }))
    }

    #[tokio::test]
    async fn what_is_forbidden_is_tried_seldom_said_once_and_comes_when_it_is_granted() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let tries = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tries);
        // As the library: a mark before each try to list. The third one works.
        let start: Start = Box::new(move || {
            let count = Arc::clone(&count);
            let tries = stream::repeat_with(move || count.fetch_add(1, Ordering::Relaxed)).flat_map(|number| {
                let end = match number {
                    0 | 1 => Err(watcher::Error::InitialListFailed(refused(403))),
                    _ => Ok(marks(false)),
                };
                let forever = stream::pending().take(usize::from(number > 1));
                stream::iter([Ok(marks(true)), end]).chain(forever)
            });
            tries.boxed()
        });
        let (to, mut from) = mpsc::channel(16);
        let without = Some([marks(true), marks(false)]);
        let began = Instant::now();
        let task = tokio::spawn(forward("Things", start, without, to, Arc::new(Metrics::new())));
        let mut came = Vec::new();
        while came.len() < 6 {
            came.push(from.recv().await.unwrap().is_attempt());
        }
        // The first try, then as if there were nothing; the second; the third, and what it brings.
        assert_eq!(came, [true, true, false, true, true, false]);
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        assert!(began.elapsed() >= Duration::from_secs(3), "pauses of 1 s and 2 s");
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("not allowed to watch") && said.contains("Things"), "{said}");
        task.abort();
    }

    #[tokio::test]
    async fn what_is_expired_by_the_answer_to_the_request_is_listed_anew() {
        let starts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&starts);
        // The library would ask for the same version for ever.
        let start: Start = Box::new(move || {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                stream::repeat_with(|| Err(watcher::Error::WatchFailed(refused(410)))).boxed()
            } else {
                stream::iter([Ok(marks(true)), Ok(marks(false))]).chain(stream::pending()).boxed()
            }
        });
        let (to, mut from) = mpsc::channel(16);
        let task = tokio::spawn(forward("Things", start, None, to, Arc::new(Metrics::new())));
        assert!(from.recv().await.unwrap().is_attempt());
        assert!(!from.recv().await.unwrap().is_attempt());
        assert_eq!(starts.load(Ordering::Relaxed), 2);
        task.abort();
    }
}
