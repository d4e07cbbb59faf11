//! A Service's endpoints as those see them who send it traffic, and a client that calls through them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use modulet_testkit::{base::SimulatedBase, http, wait::eventually};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    stage::{SOON, Stage},
    workloads::{lock, serves},
};

/// How often a client calls, and bases are looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// `address:port` of each ready endpoint. Two Pods of one base are one.
pub(crate) type Ready = BTreeSet<String>;

#[derive(Default)]
struct Record {
    slices: BTreeMap<String, EndpointSlice>,
    /// What was ready after each change, and since when; the last is what is ready now.
    history: Vec<(Instant, Ready)>,
}

impl Record {
    fn changed(&mut self) {
        let ready = self.slices.values().flat_map(ready).collect();
        if self.history.last().is_none_or(|(_, last)| *last != ready) {
            self.history.push((Instant::now(), ready));
        }
    }
}

fn ready(slice: &EndpointSlice) -> impl Iterator<Item = String> {
    let port = slice.ports.iter().flatten().find_map(|p| p.port).unwrap_or_default();
    let endpoints = slice.endpoints.iter().flatten();
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    ready.flat_map(|e| &e.addresses).map(move |address| format!("{address}:{port}"))
}

/// Watches a Service's `EndpointSlices`, as kube-proxy does, and records every change.
pub(crate) struct Endpoints {
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl Endpoints {
    pub(crate) async fn watch(stage: &Stage, service: &str) -> Result<Arc<Self>> {
        let record = Arc::<Mutex<Record>>::default();
        let seen = Arc::clone(&record);
        let api = Api::<EndpointSlice>::namespaced(stage.client.clone(), &stage.name);
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
        let (begin, begun) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut begin = Some(begin);
            let mut changes = watcher(api, config).default_backoff().boxed();
            while let Some(change) = changes.next().await {
                let mut record = lock(&seen);
                match change {
                    Ok(watcher::Event::Apply(slice) | watcher::Event::InitApply(slice)) => {
                        record.slices.insert(slice.metadata.name.clone().unwrap_or_default(), slice);
                    }
                    Ok(watcher::Event::Delete(slice)) => {
                        record.slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
                    }
                    Ok(watcher::Event::InitDone) => {
                        begin.take().map(|begin| begin.send(()));
                    }
                    _ => continue,
                }
                record.changed();
            }
        });
        begun.await?;
        Ok(Arc::new(Self { record, task }))
    }

    fn history(&self) -> Vec<(Instant, Ready)> {
        lock(&self.record).history.clone()
    }

    /// What is ready now.
    pub(crate) fn now(&self) -> Ready {
        lock(&self.record).history.last().map(|(_, ready)| ready.clone()).unwrap_or_default()
    }

    /// What was ready, and after every change from then on. To be called before what is to be watched.
    pub(crate) fn mark(&self) -> usize {
        self.history().len().saturating_sub(1)
    }

    /// The fewest that were ready at any moment since a mark.
    pub(crate) fn fewest(&self, since: usize) -> usize {
        self.history()[since..].iter().map(|(_, ready)| ready.len()).min().unwrap_or_default()
    }

    /// The longest time since a mark in which fewer than that many were ready; it must be over.
    pub(crate) fn longest_with_less_than(&self, count: usize, since: usize) -> Duration {
        let history = self.history();
        let changes = history[since..].windows(2);
        let less = changes.filter(|pair| pair[0].1.len() < count).map(|pair| pair[1].0 - pair[0].0);
        less.max().unwrap_or_default()
    }

    /// Waits until that many are ready.
    pub(crate) async fn are(&self, count: usize) -> Result<Ready> {
        eventually(&format!("{count} ready endpoints"), SOON, async || {
            let now = self.now();
            if now.len() == count { Ok(now) } else { anyhow::bail!("{now:?}") }
        })
        .await
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks all the time for ready endpoints of bases on which no version of the module is active.
pub(crate) struct Unserved {
    found: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Unserved {
    /// `bases` by their addresses.
    pub(crate) fn watch(
        endpoints: &Arc<Endpoints>,
        bases: &Arc<BTreeMap<String, SimulatedBase>>,
        module: &str,
    ) -> Self {
        let found = Arc::<Mutex<Vec<String>>>::default();
        let (endpoints, bases, module, unserved) =
            (Arc::clone(endpoints), Arc::clone(bases), module.to_owned(), Arc::clone(&found));
        let task = tokio::spawn(async move {
            loop {
                for endpoint in endpoints.now() {
                    let base = endpoint.split(':').next().and_then(|address| bases.get(address));
                    // What was ready a moment ago may not be any more.
                    if !base.is_some_and(|base| serves(base, &module)) && endpoints.now().contains(&endpoint) {
                        lock(&unserved).push(format!("{endpoint}: {:?}", base.map(SimulatedBase::modules)));
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { found, task }
    }

    /// The first ones.
    pub(crate) fn found(&self) -> Vec<String> {
        lock(&self.found).iter().take(5).cloned().collect()
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of one call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    /// What was answered, or why nothing was.
    pub(crate) answer: Result<String, String>,
}

/// Calls `GET {path}` in a loop, each time at one of the endpoints that are ready at that moment.
pub(crate) struct Client {
    calls: Arc<Mutex<Vec<Call>>>,
    task: JoinHandle<()>,
}

impl Client {
    pub(crate) fn start(endpoints: &Arc<Endpoints>, path: &str) -> Self {
        Self::start_via(endpoints, path, BTreeMap::new())
    }

    /// `routes` says where an endpoint really is: all bases of one machine have one address, and no two
    /// endpoints of a Service may have the same.
    pub(crate) fn start_via(endpoints: &Arc<Endpoints>, path: &str, routes: BTreeMap<String, String>) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (endpoints, path, made) = (Arc::clone(endpoints), path.to_owned(), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            for turn in 0.. {
                let ready = endpoints.now();
                let answer = match ready.iter().nth(turn % ready.len().max(1)) {
                    None => Err("no endpoint is ready".to_owned()),
                    Some(endpoint) => match http::get(routes.get(endpoint).unwrap_or(endpoint), &path).await {
                        Ok((200, body)) => Ok(body),
                        Ok((status, body)) => Err(format!("{status} {body}")),
                        Err(error) => Err(format!("{error:#}")),
                    },
                };
                lock(&made).push(Call { at: Instant::now(), answer });
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { calls, task }
    }

    /// All its calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// Waits until it has made that many more.
    pub(crate) async fn makes(&self, more: usize) -> Result<()> {
        let before = lock(&self.calls).len();
        eventually(&format!("{more} more calls"), SOON, async || lock(&self.calls).len() >= before + more).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
