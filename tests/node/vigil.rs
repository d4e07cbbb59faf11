//! Watches over what must not change while modulet itself does.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use modulet_testkit::http;
use serde_json::json;
use tokio::{task::JoinSet, time::interval};

use crate::{
    people::{ASKED, STAYING},
    stage::{MODULES, Stage},
};

/// From its beginning to its end: Pods of these modules and Nodes of bases that were Ready and are not, or are gone, and
/// requests that a module of the real base did not answer.
pub(crate) struct Vigil {
    lost: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<usize>>,
    watching: JoinSet<()>,
}

impl Vigil {
    pub(crate) fn begin(stage: &Stage) -> Self {
        let (lost, asked) = (Arc::default(), Arc::default());
        let mut watching = JoinSet::new();
        let of_modules = watcher::Config::default().labels(STAYING);
        watching.spawn(watch(stage.pods(MODULES), of_modules, Arc::clone(&lost)));
        let of_bases = watcher::Config::default().labels("virtual-kubelet.koupleless.io/env=dev");
        watching.spawn(watch::<Node>(stage.nodes(), of_bases, Arc::clone(&lost)));
        watching.spawn(ask(stage.real.http_port(), Arc::clone(&lost), Arc::clone(&asked)));
        Self { lost, asked, watching }
    }

    /// Fails with all that was lost so far.
    pub(crate) fn nothing_lost(&self) -> Result<()> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(lost.is_empty(), "lost: {lost:#?}");
        ensure!(self.watching.len() == 3, "somebody does not watch any more");
        Ok(())
    }

    /// The same, for the last time; how many requests were answered.
    pub(crate) fn end(self) -> Result<usize> {
        self.nothing_lost()?;
        Ok(*self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn note(lost: &Mutex<Vec<String>>, what: String) {
    println!("LOST: {what}");
    lost.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

async fn watch<K>(api: Api<K>, config: watcher::Config, lost: Arc<Mutex<Vec<String>>>)
where
    K: Resource + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    let mut ready = BTreeSet::new();
    let events = watcher(api, config);
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let status = json!(object)["status"]["conditions"].clone();
                let is_ready =
                    status.as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
                if is_ready && object.meta().deletion_timestamp.is_none() {
                    ready.insert(object.name_any());
                } else if ready.remove(&object.name_any()) {
                    note(&lost, format!("{} was Ready: {status}", object.name_any()));
                }
            }
            Ok(Event::Delete(object)) => {
                if ready.remove(&object.name_any()) {
                    note(&lost, format!("{} was Ready and is gone", object.name_any()));
                }
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => note(&lost, format!("the watch: {error}")),
        }
    }
}

async fn ask(port: u16, lost: Arc<Mutex<Vec<String>>>, asked: Arc<Mutex<usize>>) {
    let mut due = interval(Duration::from_millis(100));
    loop {
        due.tick().await;
        match http::get(&format!("127.0.0.1:{port}"), &format!("/{ASKED}")).await {
            Ok((200, _)) => *asked.lock().unwrap_or_else(PoisonError::into_inner) += 1,
            answer => note(&lost, format!("a request: {answer:?}")),
        }
    }
}
