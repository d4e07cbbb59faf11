//! Watches, kept alive for ever.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet},
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::lean::{Lean, Watchable};
use crate::{domain::Backoff, k8s::names, metrics::Metrics};

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
pub fn watch(client: &Client, namespace: &str, env: &str, to: &mpsc::Sender<Watched>, metrics: &Arc<Metrics>) {
    let start = |what, stream, unless_forbidden| {
        tokio::spawn(forward(what, stream, unless_forbidden, to.clone(), Arc::clone(metrics)));
    };
    let run = |what: &'static str, stream: BoxStream<'static, Result<Watched, watcher::Error>>| {
        start(what, stream, None);
    };
    // What is not needed for the main job: roles that were written for other controllers may not grant it.
    let run_if_allowed =
        |what, stream: BoxStream<'static, _>, nothing: [Watched; 2]| start(what, stream, Some(nothing));

    let bound = watcher::Config::default().fields("spec.nodeName!=");
    run("Pods", changes::<Pod>(client, bound, |seen| Watched::Pod(Box::new(seen))));

    let virtual_nodes = watcher::Config::default().labels(&format!("{}=vnode,{}={env}", names::COMPONENT, names::ENV));
    run("Nodes", changes::<Node>(client, virtual_nodes, |seen| Watched::Node(Box::new(seen))));

    let ours = watcher::Config::default().labels(&format!("{}={env}", names::RECORD));
    let wrap = |seen| Watched::Record(Box::new(seen));
    let record = changes_in::<ConfigMap>(Api::namespaced(client.clone(), namespace), ours, wrap);
    run_if_allowed("ConfigMaps", record, nothing(wrap));

    let peers = watcher::Config::default().labels(&format!("{}=peer", names::STRATEGY));
    let wrap = |seen| Watched::Deployment(Box::new(seen));
    run_if_allowed("Deployments", changes::<Deployment>(client, peers, wrap), nothing(wrap));

    let wrap = |seen| Watched::DaemonSet(Box::new(seen));
    let all = watcher::Config::default();
    run_if_allowed("DaemonSets", changes::<DaemonSet>(client, all, wrap), nothing(wrap));

    for (index, label) in LABELS.into_iter().enumerate() {
        let modules = watcher::Config::default().labels(&format!("{label}=module"));
        let wrap = move |seen| Watched::ReplicaSet(index, seen);
        let sets = changes::<PartialObjectMeta<ReplicaSet>>(client, modules.clone(), wrap);
        run_if_allowed("ReplicaSets", sets, nothing(wrap));

        let wrap = move |seen| Watched::ControllerRevision(index, Box::new(seen));
        let revisions = changes::<ControllerRevision>(client, modules, wrap);
        run_if_allowed("ControllerRevisions", revisions, nothing(wrap));
    }
}

/// All changes of these objects.
fn changes<K>(
    client: &Client,
    which: watcher::Config,
    wrap: impl Fn(Seen<K>) -> Watched + Send + 'static,
) -> BoxStream<'static, Result<Watched, watcher::Error>>
where
    K: Watchable + Clone + Debug + Send + 'static,
{
    changes_in(Api::all(client.clone()), which, wrap)
}

/// All changes of these objects there.
fn changes_in<K>(
    api: Api<Lean<K>>,
    which: watcher::Config,
    wrap: impl Fn(Seen<K>) -> Watched + Send + 'static,
) -> BoxStream<'static, Result<Watched, watcher::Error>>
where
    K: Watchable + Clone + Debug + Send + 'static,
{
    let events = watcher(api, which).backoff(Patience::default());
    events.map(move |event| event.map(|event| wrap(seen(event)))).boxed()
}

/// What a watch of nothing says.
fn nothing<K>(wrap: impl Fn(Seen<K>) -> Watched) -> [Watched; 2] {
    [Seen::ListBegins, Seen::ListEnds].map(wrap)
}

/// Between tries of a watch. The library's own goes up to 30 s, and all that time is deafness
/// after an outage of the API server.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures += 1;
        Some(Backoff { initial: Duration::from_millis(250), max: Duration::from_secs(4) }.delay(self.failures))
    }
}

impl kube::runtime::utils::Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

fn seen<K>(event: watcher::Event<Lean<K>>) -> Seen<K> {
    match event {
        watcher::Event::Apply(Lean(object)) | watcher::Event::InitApply(Lean(object)) => Seen::Applied(object),
        watcher::Event::Delete(Lean(object)) => Seen::Gone(object),
        watcher::Event::Init => Seen::ListBegins,
        watcher::Event::InitDone => Seen::ListEnds,
    }
}

async fn forward(
    what: &'static str,
    mut stream: BoxStream<'static, Result<Watched, watcher::Error>>,
    mut unless_forbidden: Option<[Watched; 2]>,
    to: mpsc::Sender<Watched>,
    metrics: Arc<Metrics>,
) {
    let mut failing = false;
    // When it was last refused, and how often in a row: the library begins its pauses anew with each list.
    let mut refused: Option<(Instant, u32)> = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                let works = refused.is_none_or(|(at, _)| at.elapsed() > WORKS_AFTER);
                if failing && works && !event.is_attempt() {
                    failing = false;
                    info!(what, "watching again");
                }
                if !event.is_attempt() {
                    unless_forbidden = None;
                }
                if to.send(event).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                metrics.watch_errors.inc();
                let is_refused = code(&error).is_some_and(|code| (400..500).contains(&code) && code != 410);
                if code(&error) == Some(403)
                    && let Some(nothing) = unless_forbidden.take()
                {
                    warn!(what, "not allowed to watch; going on without");
                    for event in nothing {
                        if to.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                // One line for each outage.
                if !std::mem::replace(&mut failing, true) {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    warn!(what, error, "cannot watch, trying again");
                }
                if is_refused {
                    let times =
                        refused.filter(|(at, _)| at.elapsed() <= WORKS_AFTER).map_or(1, |(_, n)| n.saturating_add(1));
                    refused = Some((Instant::now(), times));
                    sleep(REFUSED.delay(times)).await;
                }
            }
        }
    }
}

/// Between tries of a watch that the API server refuses.
const REFUSED: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };
/// A watch that was not refused for so long works.
const WORKS_AFTER: Duration = Duration::from_secs(60);

/// What the API server answered.
fn code(error: &watcher::Error) -> Option<u16> {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return None;
    };
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}
