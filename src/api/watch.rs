//! Watches, kept alive for ever.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet},
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{
    client::WATCHES_FOR,
    lean::{Lean, Watchable},
    patience::{Failure, Patience},
};
use crate::{k8s::names, metrics::Metrics, tasks::Tasks};

/// One change of an object, or a mark in the stream.
#[derive(Debug)]
pub enum Seen<K> {
    /// The object is there, as given.
    Applied(K),
    /// The object is gone.
    Gone(K),
    /// A list begins: what is not in it is gone.
    ListBegins,
    /// The list is complete.
    ListEnds,
}

/// A change of something that is watched. The number tells apart the watches of one kind.
#[derive(Debug)]
pub enum Watched {
    /// A Pod bound to some Node.
    Pod(Box<Seen<Pod>>),
    /// A virtual Node of our environment.
    Node(Box<Seen<Node>>),
    /// A replica set with module Pods.
    ReplicaSet(usize, Seen<PartialObjectMeta<ReplicaSet>>),
    /// A revision of a `DaemonSet` or `StatefulSet` with module Pods.
    ControllerRevision(usize, Box<Seen<ControllerRevision>>),
    /// A Deployment that asks for peer deployment.
    Deployment(Box<Seen<Deployment>>),
    /// Some `DaemonSet`: whether its Pods are modules stands in its template, which can't be selected by.
    DaemonSet(Box<Seen<DaemonSet>>),
    /// An object of modulet's own record.
    Record(Box<Seen<ConfigMap>>),
}

impl Watched {
    /// How many watches there are: readiness waits for the first list of each.
    pub const COUNT: usize = Self::SINGLE + 2 * LABELS.len();
    /// Kinds with one watch.
    pub const SINGLE: usize = 5;

    /// Comes before every attempt to list, so it is no sign that the API server answers.
    fn is_attempt(&self) -> bool {
        match self {
            Self::Pod(seen) => matches!(**seen, Seen::ListBegins),
            Self::Node(seen) => matches!(**seen, Seen::ListBegins),
            Self::ReplicaSet(_, seen) => matches!(seen, Seen::ListBegins),
            Self::ControllerRevision(_, seen) => matches!(**seen, Seen::ListBegins),
            Self::Deployment(seen) => matches!(**seen, Seen::ListBegins),
            Self::DaemonSet(seen) => matches!(**seen, Seen::ListBegins),
            Self::Record(seen) => matches!(**seen, Seen::ListBegins),
        }
    }
}

/// Both component labels that module Pods may have; their owners inherit them from the template.
const LABELS: [&str; 2] = [names::COMPONENT, names::COMPONENT_OLD];

/// Starts all watches.
pub fn watch(
    tasks: &mut Tasks,
    client: &Client,
    namespace: &str,
    env: &str,
    to: &mpsc::Sender<Watched>,
    metrics: &Arc<Metrics>,
) {
    let mut run = |what: &'static str, start: Start, without| {
        let forwarded = forward(what, start, without, to.clone(), Arc::clone(metrics));
        tasks.spawn(format!("watch of {what}"), forwarded);
    };

    let bound = which().fields("spec.nodeName!=");
    run("Pods", changes::<Pod>(client, bound, |seen| Watched::Pod(Box::new(seen))), None);

    let virtual_nodes = which().labels(&format!("{}=vnode,{}={env}", names::COMPONENT, names::ENV));
    run("Nodes", changes::<Node>(client, virtual_nodes, |seen| Watched::Node(Box::new(seen))), None);

    // What is not needed for the main job: roles that were written for other controllers may not grant it.
    let ours = which().labels(&format!("{}={env}", names::RECORD));
    let wrap = |seen| Watched::Record(Box::new(seen));
    let record = changes_in::<ConfigMap>(Api::namespaced(client.clone(), namespace), ours, wrap);
    run("ConfigMaps", record, Some(nothing(wrap)));

    let peers = which().labels(&format!("{}=peer", names::STRATEGY));
    let wrap = |seen| Watched::Deployment(Box::new(seen));
    run("Deployments", changes::<Deployment>(client, peers, wrap), Some(nothing(wrap)));

    let wrap = |seen| Watched::DaemonSet(Box::new(seen));
    run("DaemonSets", changes::<DaemonSet>(client, which(), wrap), Some(nothing(wrap)));

    for (index, label) in LABELS.into_iter().enumerate() {
        let modules = which().labels(&format!("{label}=module"));
        let wrap = move |seen| Watched::ReplicaSet(index, seen);
        let sets = changes::<PartialObjectMeta<ReplicaSet>>(client, modules.clone(), wrap);
        run("ReplicaSets", sets, Some(nothing(wrap)));

        let wrap = move |seen| Watched::ControllerRevision(index, Box::new(seen));
        let revisions = changes::<ControllerRevision>(client, modules, wrap);
        run("ControllerRevisions", revisions, Some(nothing(wrap)));
    }
}

/// All objects. A watch is asked for anew after [`WATCHES_FOR`].
fn which() -> watcher::Config {
    watcher::Config::default().timeout(WATCHES_FOR)
}

/// The changes of a kind of objects.
type Changes = BoxStream<'static, Result<Watched, watcher::Error>>;
/// Begins with a list.
type Start = Box<dyn Fn() -> Changes + Send>;

/// All changes of these objects.
fn changes<K>(
    client: &Client,
    which: watcher::Config,
    wrap: impl Fn(Seen<K>) -> Watched + Copy + Send + 'static,
) -> Start
where
    K: Watchable + Clone + Debug + Send + 'static,
{
    changes_in(Api::all(client.clone()), which, wrap)
}

/// All changes of these objects there.
fn changes_in<K>(
    api: Api<Lean<K>>,
    which: watcher::Config,
    wrap: impl Fn(Seen<K>) -> Watched + Copy + Send + 'static,
) -> Start
where
    K: Watchable + Clone + Debug + Send + 'static,
{
    Box::new(move || {
        let events = watcher(api.clone(), which.clone());
        events.map(move |event| event.map(|event| wrap(seen(event)))).boxed()
    })
}

/// What a watch of nothing says.
fn nothing<K>(wrap: impl Fn(Seen<K>) -> Watched) -> [Watched; 2] {
    [Seen::ListBegins, Seen::ListEnds].map(wrap)
}

fn seen<K>(event: watcher::Event<Lean<K>>) -> Seen<K> {
    match event {
        watcher::Event::Apply(Lean(object)) | watcher::Event::InitApply(Lean(object)) => Seen::Applied(object),
        watcher::Event::Delete(Lean(object)) => Seen::Gone(object),
        watcher::Event::Init => Seen::ListBegins,
        watcher::Event::InitDone => Seen::ListEnds,
    }
}

/// Hands on what comes, for as long as somebody takes it. What is refused with 403 is as if there were nothing, where
/// one can do `without`, until it is granted.
async fn forward(
    what: &'static str,
    start: Start,
    mut without: Option<[Watched; 2]>,
    to: mpsc::Sender<Watched>,
    metrics: Arc<Metrics>,
) {
    let (mut stream, mut patience) = (start(), Patience::default());
    // What was said of the present outage, by code: one line for each.
    let mut said = BTreeSet::new();
    loop {
        let works_from = patience.works_from();
        let event = tokio::select! {
            event = stream.next() => event,
            () = sleep_until(works_from.map_or_else(Instant::now, Instant::from_std)), if works_from.is_some() => {
                patience.works();
                if !std::mem::take(&mut said).is_empty() {
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
                let forbidden = matches!(answer, Answer::Refused(Some(403)));
                if let Some(nothing) = without.take_if(|_| forbidden) {
                    said.insert(answer);
                    warn!(what, "not allowed to watch; going on without");
                    for event in nothing {
                        if to.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                if said.insert(answer) {
                    warn!(what, error = words(error), "cannot watch, trying again");
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
fn words(error: watcher::Error) -> String {
    let status = match &error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status),
            _ => None,
        },
        watcher::Error::NoResourceVersion => None,
    };
    match status {
        Some(status) => format!("{} ({})", status.message, status.code),
        None => format!("{:#}", anyhow::Error::from(error)),
    }
}

/// What the API server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        let code = match error {
            watcher::Error::WatchError(status) => Some(status.code),
            watcher::Error::NoResourceVersion => None,
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => match error {
                kube::Error::Api(status) => Some(status.code),
                // A gateway's page, or the line of text with which the API server turns away whom it has no time for.
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => None,
                _ => return Self::Nothing,
            },
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

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "No").with_code(code).boxed())
    }

    fn not_json() -> kube::Error {
        kube::Error::SerdeError(serde_json::from_str::<bool>("Too many requests").unwrap_err())
    }

    #[test]
    fn an_error_is_said_in_the_words_of_the_api_server() {
        assert_eq!(words(watcher::Error::InitialListFailed(refused(403))), "no (403)");
        assert!(words(watcher::Error::WatchFailed(not_json())).starts_with("watch stream failed"));
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
