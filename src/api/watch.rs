//! What is watched: objects, and the API server's version.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future, stream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet},
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher};
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

use super::{
    changes::{LABELS, Seen, Watched},
    client::WATCHES_FOR,
    forward::{Start, forward},
    lean::{Lean, Watchable},
    patience::{Failure, Patience},
};
use crate::{
    k8s::{names, rollout::ModuleRollout},
    lead::Lead,
    metrics::Metrics,
    tasks::Tasks,
};

/// Kinds that are read when we lead.
const WITH_THE_LEAD: [&str; 3] = [PODS, RECORD, ROLLOUTS];
const PODS: &str = "Pods";
const RECORD: &str = "ConfigMaps";
const ROLLOUTS: &str = "ModuleRollouts";

/// The version is asked for again and again, for the API server may be upgraded while we run.
const VERSION_EVERY: Duration = Duration::from_secs(600);

/// What is ours.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Where the record is.
    pub namespace: &'p str,
    /// Environment of Nodes and of the record.
    pub env: &'p str,
    /// Whether ordinary Nodes' zones decide on those of bases.
    pub zones: bool,
}

/// Starts all watches. Those of Pods and of the record begin with the lead: what
/// is wanted and what was ordered is read when nobody else orders any more, not known from a watch that may be behind. A
/// ledger that is newer than the Pods would have modules uninstalled that are wanted.
pub fn watch(
    tasks: &mut Tasks,
    client: &Client,
    Place { namespace, env, zones }: Place<'_>,
    lead: &Lead,
    to: &mpsc::Sender<Watched>,
    metrics: &Arc<Metrics>,
) {
    tasks.spawn("version of the API server", version(client.clone(), to.clone()));
    let mut run = |what: &'static str, start: Start, without| {
        let forwarded = forward(what, start, without, to.clone(), Arc::clone(metrics));
        let lead = lead.clone();
        tasks.spawn(format!("watch of {what}"), async move {
            if WITH_THE_LEAD.contains(&what) {
                lead.gained().await;
            }
            forwarded.await;
        });
    };

    let bound = which().fields("spec.nodeName!=");
    run(PODS, changes::<Pod>(Api::all(client.clone()), bound, |seen| Watched::Pod(Box::new(seen))), None);

    let virtual_nodes = which().labels(&format!("{}=vnode,{}={env}", names::COMPONENT, names::ENV));
    run("Nodes", changes::<Node>(Api::all(client.clone()), virtual_nodes, |seen| Watched::Node(Box::new(seen))), None);

    // What is not needed for the main job: roles that were written for other controllers may not grant it.
    let ours = which().labels(&format!("{}={env}", names::RECORD));
    let wrap = |seen| Watched::Record(Box::new(seen));
    let record = changes::<ConfigMap>(Api::namespaced(client.clone(), namespace), ours, wrap);
    run(RECORD, record, Some(nothing(wrap)));

    for (index, label) in [names::STRATEGY, names::STRATEGY_OLD].into_iter().enumerate() {
        let peers = which().labels(&format!("{label}=peer"));
        let wrap = move |seen| Watched::Deployment(index, Box::new(seen));
        run("Deployments", changes::<Deployment>(Api::all(client.clone()), peers, wrap), Some(nothing(wrap)));
    }

    if zones {
        let with_zone = which().labels(&format!("{},{}!=vnode", names::ZONE, names::COMPONENT));
        let changes = changes::<PartialObjectMeta<Node>>(Api::all(client.clone()), with_zone, Watched::ZonedNode);
        run("Nodes with zones", first_ordinary(changes), None);
    }

    // A cluster that has no such kind has none of them.
    let wrap = |seen| Watched::Rollout(Box::new(seen));
    run(ROLLOUTS, changes::<ModuleRollout>(Api::all(client.clone()), which(), wrap), Some(nothing(wrap)));

    let wrap = |seen| Watched::Workload(Box::new(seen));
    run("workloads", changes::<Deployment>(Api::all(client.clone()), which(), wrap), Some(nothing(wrap)));

    let wrap = |seen| Watched::DaemonSet(Box::new(seen));
    run("DaemonSets", changes::<DaemonSet>(Api::all(client.clone()), which(), wrap), Some(nothing(wrap)));

    for (index, label) in LABELS.into_iter().enumerate() {
        let modules = which().labels(&format!("{label}=module"));
        let wrap = move |seen| Watched::ReplicaSet(index, seen);
        let sets = changes::<PartialObjectMeta<ReplicaSet>>(Api::all(client.clone()), modules.clone(), wrap);
        run("ReplicaSets", sets, Some(nothing(wrap)));

        let wrap = move |seen| Watched::ControllerRevision(index, Box::new(seen));
        let revisions = changes::<ControllerRevision>(Api::all(client.clone()), modules, wrap);
        run("ControllerRevisions", revisions, Some(nothing(wrap)));
    }
}

/// The changes until the first ordinary Node, and then none for ever: in a large cluster Nodes change all the time.
fn first_ordinary(start: Start) -> Start {
    Box::new(move || {
        let ordinary = start().filter(|event| {
            future::ready(!matches!(event, Ok(Watched::ZonedNode(Seen::Applied(node))) if is_its_own_zone(node)))
        });
        let until_first = ordinary.scan(false, |found, event| {
            let goes_on = !std::mem::replace(found, matches!(event, Ok(Watched::ZonedNode(Seen::Applied(_)))));
            future::ready(goes_on.then_some(event))
        });
        until_first.chain(stream::pending()).boxed()
    })
}

/// A base's Node, though it does not say so (any more).
fn is_its_own_zone(node: &PartialObjectMeta<Node>) -> bool {
    let zone = node.metadata.labels.as_ref().and_then(|labels| labels.get(names::ZONE));
    zone == node.metadata.name.as_ref()
}

/// All objects. A watch is asked for anew after [`WATCHES_FOR`].
fn which() -> watcher::Config {
    watcher::Config::default().timeout(WATCHES_FOR)
}

/// All changes of these objects there.
fn changes<K>(
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

/// Hands on the API server's version, and each other one, for as long as somebody takes it.
async fn version(client: Client, to: mpsc::Sender<Watched>) {
    let (mut patience, mut last) = (Patience::default(), None);
    loop {
        let version = match client.apiserver_version().await {
            Ok(info) => Some(info.git_version),
            // It answers, and does not tell: one can do without.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => None,
            Err(error) => {
                let failure = if matches!(error, kube::Error::Api(_)) { Failure::Refused } else { Failure::Silent };
                sleep(patience.failed(failure, Instant::now())).await;
                continue;
            }
        };
        patience = Patience::default();
        if last.as_ref() != Some(&version) {
            if version.is_none() {
                warn!("the API server does not tell its version; Nodes say v0.0.0");
            }
            last = Some(version.clone());
            if to.send(Watched::ApiServer(version)).await.is_err() {
                return;
            }
        }
        sleep(VERSION_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(name: &str, zone: &str) -> Watched {
        let metadata = json!({ "name": name, "labels": { names::ZONE: zone } });
        let metadata = serde_json::from_value(metadata).unwrap();
        Watched::ZonedNode(Seen::Applied(PartialObjectMeta { metadata, ..PartialObjectMeta::default() }))
    }

    #[tokio::test]
    async fn after_the_first_ordinary_node_nothing_is_looked_at_any_more() {
        let start: Start = Box::new(|| {
            let begins = Watched::ZonedNode(Seen::ListBegins);
            let all = [begins, shown("a-base", "a-base"), shown("n1", "a"), shown("n2", "b")];
            stream::iter(all).map(Ok).boxed()
        });
        let mut seen = first_ordinary(start)();
        assert!(matches!(seen.next().await, Some(Ok(Watched::ZonedNode(Seen::ListBegins)))));
        let Some(Ok(Watched::ZonedNode(Seen::Applied(node)))) = seen.next().await else { panic!("no Node") };
        assert_eq!(node.metadata.name.as_deref(), Some("n1"));
        let more = tokio::time::timeout(Duration::from_millis(50), seen.next()).await;
        assert!(more.is_err(), "it must neither show more nor end: {more:?}");
    }
}
