//! What the bench itself sees: when each Pod and Node became what.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use modulet::k8s::node_says_ready;
use tokio::task::JoinHandle;

use crate::objects::{ENV, base_number};

/// When a Pod was what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PodTimes {
    /// Number of the base that it is bound to.
    pub(crate) base: Option<usize>,
    /// It was seen bound: by our watch, or by the answer to its creation, whichever came first.
    pub(crate) bound: Option<Instant>,
    /// Our watch showed it.
    pub(crate) shown: Option<Instant>,
    pub(crate) ready: Option<Instant>,
    pub(crate) failed: Option<Instant>,
    /// The API server has taken the request to delete it.
    pub(crate) deleted: Option<Instant>,
    pub(crate) gone: Option<Instant>,
}

/// All that was seen.
#[derive(Debug, Default)]
struct Seen {
    pods: HashMap<String, PodTimes>,
    nodes: HashMap<String, Instant>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct Sight {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Sight {
    /// Starts watching the Pods of a namespace and the Nodes of all bases.
    pub(crate) fn start(client: &Client, namespace: &str) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let of_pods = Arc::clone(&seen);
        let pods = watcher(pods, watcher::Config::default()).default_backoff().for_each(move |event| {
            of_pods.locked().pod(event);
            std::future::ready(())
        });
        let nodes = Api::<Node>::all(client.clone());
        let of_nodes = Arc::clone(&seen);
        let of_bases = format!("virtual-kubelet.koupleless.io/env={ENV}");
        let virtual_nodes = watcher::Config::default().labels(&of_bases);
        let nodes = watcher(nodes, virtual_nodes).default_backoff().applied_objects().map_err(complain);
        let nodes = nodes.for_each(move |node| {
            if let Ok(node) = node
                && node_says_ready(&node)
            {
                let name = node.metadata.name.unwrap_or_default();
                of_nodes.locked().nodes.entry(name).or_insert_with(Instant::now);
            }
            std::future::ready(())
        });
        Self { seen, tasks: [tokio::spawn(pods), tokio::spawn(nodes)] }
    }

    /// The API server has taken a Pod at that time.
    pub(crate) fn created(&self, name: &str, at: Instant) {
        let mut seen = self.seen.locked();
        let bound = &mut seen.pods.entry(name.to_owned()).or_default().bound;
        *bound = Some(bound.map_or(at, |seen| seen.min(at)));
    }

    /// The API server has taken the request to delete a Pod.
    pub(crate) fn deleted(&self, name: &str, at: Instant) {
        self.seen.locked().pods.entry(name.to_owned()).or_default().deleted = Some(at);
    }

    /// When which Node was first seen to be Ready.
    pub(crate) fn nodes(&self) -> HashMap<String, Instant> {
        self.seen.locked().nodes.clone()
    }

    /// How many Nodes have been.
    pub(crate) fn count_nodes(&self) -> usize {
        self.seen.locked().nodes.len()
    }

    /// The times of these Pods.
    pub(crate) fn of(&self, names: &[String]) -> Vec<PodTimes> {
        let seen = self.seen.locked();
        names.iter().map(|name| seen.pods.get(name).copied().unwrap_or_default()).collect()
    }

    /// The times of all Pods whose names begin like that.
    pub(crate) fn like(&self, prefix: &str) -> Vec<PodTimes> {
        self.seen.locked().pods.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, times)| *times).collect()
    }

    /// How many of these Pods satisfy a condition.
    pub(crate) fn count(&self, names: &[String], condition: impl Fn(&PodTimes) -> bool) -> usize {
        let seen = self.seen.locked();
        names.iter().filter_map(|name| seen.pods.get(name)).filter(|pod| condition(pod)).count()
    }

    /// How many Pods are known.
    pub(crate) fn len(&self) -> usize {
        self.seen.locked().pods.len()
    }

    /// Forgets Pods that are gone.
    pub(crate) fn forget_gone(&self) {
        self.seen.locked().pods.retain(|_, pod| pod.gone.is_none());
    }
}

trait Locked<T> {
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> Locked<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn pod(&mut self, event: Result<watcher::Event<Pod>, watcher::Error>) {
        let now = Instant::now();
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let times = self.pods.entry(pod.metadata.name.unwrap_or_default()).or_default();
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                if let Some(node) = node {
                    times.base = base_number(node);
                    times.bound.get_or_insert(now);
                    times.shown.get_or_insert(now);
                }
                let Some(status) = pod.status else { return };
                let mut conditions = status.conditions.iter().flatten();
                if conditions.any(|c| c.type_ == "Ready" && c.status == "True") {
                    times.ready.get_or_insert(now);
                }
                if status.phase.as_deref() == Some("Failed") {
                    times.failed.get_or_insert(now);
                }
            }
            Ok(watcher::Event::Delete(pod)) => {
                let times = self.pods.entry(pod.metadata.name.unwrap_or_default()).or_default();
                times.gone.get_or_insert(now);
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => drop(complain(error)),
        }
    }
}

/// The watch goes on by itself, but figures may be wrong then.
fn complain(error: watcher::Error) -> watcher::Error {
    crate::progress::say(&format!("the bench's own watch failed and is tried again: {error}"));
    error
}
