//! Which objects are watched.

use std::{fmt::Debug, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet},
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher};
use tokio::sync::mpsc;

use super::{
    changes::{LABELS, Seen, Watched},
    client::WATCHES_FOR,
    forward::{Start, forward},
    lean::{Lean, Watchable},
};
use crate::{k8s::names, metrics::Metrics, tasks::Tasks};

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
