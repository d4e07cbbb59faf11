//! What the tests of faults share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::{WatchStreamExt as _, watcher};
use modulet_testkit::{base::SimulatedBase, controller::ControllerOptions, wait::eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    stage::{SOON, Stage, container_message, container_reason, module_pod},
    workloads::lock,
};

/// Silence after which a base is unreachable, and absence after which its Node goes: as short as they may be.
pub(crate) const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Bases are given up soon, and asked for their lists often.
pub(crate) fn impatient(options: ControllerOptions) -> ControllerOptions {
    options
        .env("MODULET_UNREACHABLE_AFTER", UNREACHABLE_AFTER.as_secs().to_string())
        .env("MODULET_DEAD_AFTER", DEAD_AFTER.as_secs().to_string())
        .env("MODULET_LIST_EVERY", "2")
}

/// A Pod with one module of that version, bound to a base without the scheduler.
pub(crate) fn bound(stage: &Stage, base: &str, pod: &str, version: &str) -> Value {
    let mut object = module_pod(&stage.name, pod, &[(pod, version)]);
    object["spec"]["nodeName"] = json!(stage.node_name(base));
    object
}

/// Creates such a Pod and waits until it is Ready.
pub(crate) async fn installed(stage: &Stage, base: &str, pod: &str, version: &str) -> Result<Pod> {
    stage.create_pod(bound(stage, base, pod, version)).await?;
    stage.pod_ready(pod).await
}

/// Waits until a Pod's first container waits for that reason with these words.
pub(crate) async fn waits(stage: &Stage, pod: &str, reason: &str, words: &[&str]) -> Result<Pod> {
    let says = |p: &Pod| {
        let message = container_message(p).unwrap_or_default();
        container_reason(p) == Some(reason) && words.iter().all(|word| message.contains(word))
    };
    stage.pod_until(pod, &format!("{reason} {words:?}"), says).await
}

/// Lets a fault last: the only sleep that tests of faults need.
pub(crate) async fn lasts(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The controller is the process it was, and says that it is well.
pub(crate) async fn still_runs(stage: &Stage) -> Result<()> {
    let exit = stage.controller.process()?.exit();
    anyhow::ensure!(exit.is_none(), "the controller ended: {exit:?}");
    stage.controller.get("/healthz").await.map(drop)
}

/// Waits until what a base was told about a module is exactly this.
pub(crate) async fn told_becomes(base: &SimulatedBase, module: &str, expected: &[&str]) -> Result<()> {
    eventually(&format!("{module} on {}: {expected:?}", base.identity()), SOON, async || {
        let told = crate::workloads::told(base, module);
        anyhow::ensure!(told == expected, "{told:?}");
        Ok(())
    })
    .await
}

/// Watches objects, and records what is to be remembered of each change.
pub(crate) struct Log {
    found: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Log {
    /// Every moment at which a Node of the stage is not Ready, and every Node that goes.
    pub(crate) fn of_nodes(stage: &Stage) -> Self {
        let labels = format!("virtual-kubelet.koupleless.io/env={}", stage.name);
        Self::watch(stage.nodes(), &labels, |node: &Node| {
            let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status != "True");
            ready.next().map(|c| json!(c).to_string())
        })
    }

    /// Every state of a stage's Pods that somebody who looks for trouble would see, and every Pod that goes.
    pub(crate) fn of_pods(stage: &Stage, trouble: impl Fn(&Pod) -> Option<String> + Send + 'static) -> Self {
        Self::watch(stage.pods(), "", trouble)
    }

    fn watch<K>(api: kube::Api<K>, labels: &str, note: impl Fn(&K) -> Option<String> + Send + 'static) -> Self
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let found = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&found);
        let config = watcher::Config::default().labels(labels);
        let task = tokio::spawn(async move {
            let mut changes = watcher(api, config).default_backoff().boxed();
            let mut known = BTreeMap::new();
            while let Some(change) = changes.next().await {
                let (object, gone) = match change {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => (object, false),
                    Ok(watcher::Event::Delete(object)) => (object, true),
                    _ => continue,
                };
                let name = object.meta().name.clone().unwrap_or_default();
                let text = if gone { Some("gone".to_owned()) } else { note(&object) };
                if let Some(text) = text.clone()
                    && known.get(&name) != Some(&Some(text.clone()))
                {
                    lock(&seen).push(format!("{name}: {text}"));
                }
                known.insert(name, text);
            }
        });
        Self { found, task }
    }

    /// What was recorded so far.
    pub(crate) fn found(&self) -> Vec<String> {
        lock(&self.found).clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.task.abort();
    }
}
