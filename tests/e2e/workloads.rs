//! Workloads made of modules, and what is recorded while they are rolled out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::stage::{SOON, Stage, container_reason, has_its_baseline, is_ready, module_template};

/// How often the bases are looked at: far more often than anything happens on them.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A module that falls out of use may finish its requests for this long.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

/// A workload of `apps/v1` whose Pods have one module, of that version, called like the workload.
pub(crate) fn workload(stage: &Stage, kind: &str, name: &str, replicas: Option<usize>, version: &str) -> Value {
    let mut template = module_template(&stage.name, &[(name, version)]);
    template["metadata"]["labels"]["app"] = json!(name);
    template["spec"]["terminationGracePeriodSeconds"] = json!(GRACE.as_secs());
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": name } }, "template": template },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

/// The same under another name: a second workload of the same module.
pub(crate) fn named(mut workload: Value, name: &str) -> Value {
    workload["metadata"]["name"] = json!(name);
    workload["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    workload["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
    workload
}

/// At most one Pod with the same values of these labels on a base.
pub(crate) fn spread(mut workload: Value, labels: &[&str]) -> Value {
    let template = &mut workload["spec"]["template"];
    let same: BTreeMap<_, _> = labels.iter().map(|l| (*l, template["metadata"]["labels"][*l].clone())).collect();
    template["spec"]["affinity"] = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": { "matchLabels": same }, "topologyKey": "topology.kubernetes.io/zone",
    }] } });
    workload
}

/// A Deployment with one Pod of each version on each base at most.
pub(crate) fn deployment(stage: &Stage, name: &str, replicas: usize, version: &str, limits: &Value) -> Value {
    let mut deployment = workload(stage, "Deployment", name, Some(replicas), version);
    deployment["spec"]["strategy"] = json!({ "rollingUpdate": limits });
    spread(deployment, &["module.koupleless.io/name", "module.koupleless.io/version"])
}

/// That many bases, `base-0` and so on, that the scheduler may use.
pub(crate) async fn bases(stage: &Stage, count: usize, activation: Activation) -> Result<Arc<Vec<SimulatedBase>>> {
    let mut bases = Vec::new();
    for number in 0..count {
        let options = BaseOptions { activation, ..stage.base_options(&format!("base-{number}")) };
        bases.push(SimulatedBase::start(options).await?);
    }
    for base in &bases {
        schedulable(stage, &stage.node_name(&base.identity())).await?;
        has_its_baseline(base).await?;
    }
    Ok(Arc::new(bases))
}

/// Waits until a Node is Ready and Kubernetes has lifted the taint that every Node begins with.
async fn schedulable(stage: &Stage, node: &str) -> Result<()> {
    stage.node_ready(node, "True").await?;
    eventually(&format!("Node {node} without the taint not-ready"), SOON, async || {
        let taints = stage.nodes().get(node).await?.spec.and_then(|s| s.taints).unwrap_or_default();
        ensure!(taints.iter().all(|t| t.key != "node.kubernetes.io/not-ready"), "{taints:?}");
        Ok(())
    })
    .await
}

/// Waits until `kubectl rollout status` says that it is done.
pub(crate) async fn rolled_out(stage: &Stage, what: &str) -> Result<()> {
    match stage.kubectl(&["rollout", "status", what, "--timeout=60s"]).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let there = stage.kubectl(&["get", "replicasets,pods", "-o", "wide"]).await.unwrap_or_default();
            Err(error.context(format!("{there}\n{}", stage.controller.process()?.log_tail(60))))
        }
    }
}

/// Waits until exactly so many Pods of a version are Ready.
pub(crate) async fn ready_pods(stage: &Stage, version: &str, count: usize) -> Result<()> {
    eventually(&format!("{count} Ready Pods of {version}"), SOON, async || {
        let pods = stage.pods_with(&format!("module.koupleless.io/version={version}")).await?;
        let ready = pods.iter().filter(|p| is_ready(p)).count();
        ensure!(ready == count, "{ready} of {} are", pods.len());
        Ok(())
    })
    .await
}

/// Installs and uninstalls that a base received about a module, in order: `install 1`, `switch 1`, `uninstall 1`.
pub(crate) fn told(base: &SimulatedBase, module: &str) -> Vec<String> {
    let mut told = Vec::new();
    for command in base.commands() {
        let word = match (command.command.as_str(), command.payload["installStrategy"].as_str()) {
            ("installBiz", Some("uninstallThenInstall")) => "switch",
            ("installBiz", _) => "install",
            ("uninstallBiz", _) => "uninstall",
            ("baseline", _) => "baseline",
            _ => continue,
        };
        let elements = match command.payload {
            Value::Array(elements) => elements,
            other => vec![other],
        };
        for element in elements.iter().filter(|e| e["bizName"] == module) {
            told.push(format!("{word} {}", element["bizVersion"].as_str().unwrap_or_default()));
        }
    }
    told
}

/// Waits until exactly this was told, and watches that nothing is told after it for `quiet`.
pub(crate) async fn told_no_more_than(
    base: &SimulatedBase,
    module: &str,
    expected: &[&str],
    quiet: Duration,
) -> Result<()> {
    eventually("what the base is told", SOON, async || {
        let told = told(base, module);
        ensure!(told.len() >= expected.len(), "{told:?}");
        Ok(())
    })
    .await?;
    let more = eventually("a further command", quiet, async || told(base, module).len() > expected.len()).await;
    let told = told(base, module);
    ensure!(more.is_err() && told == expected, "the base was told {told:?}");
    Ok(())
}

/// The same since `from`.
pub(crate) fn told_since(base: &SimulatedBase, module: &str, from: usize) -> Vec<String> {
    told(base, module).split_off(from)
}

/// Waits until this version, and no other, is active on every base.
pub(crate) async fn serving(bases: &[SimulatedBase], module: &str, version: &str, limit: Duration) -> Result<()> {
    eventually(&format!("{module}:{version} active on every base"), limit, async || {
        for base in bases {
            let all = base.modules();
            let active: Vec<_> = all.iter().filter(|m| m.0 == module && m.2 == BizState::Activated).collect();
            ensure!(active.len() == 1 && active[0].1 == version, "{}: {all:?}", base.identity());
        }
        Ok(())
    })
    .await
}

/// The same, and other versions have left the bases.
pub(crate) async fn alone(bases: &[SimulatedBase], module: &str, version: &str, limit: Duration) -> Result<()> {
    serving(bases, module, version, limit).await?;
    eventually(&format!("only {module}:{version} on every base"), limit, async || {
        for base in bases {
            let all = base.modules();
            ensure!(all.iter().filter(|m| m.0 == module).count() == 1, "{}: {all:?}", base.identity());
        }
        Ok(())
    })
    .await
}

/// Whether some version of a module is active on a base.
pub(crate) fn serves(base: &SimulatedBase, module: &str) -> bool {
    base.modules().iter().any(|m| m.0 == module && m.2 == BizState::Activated)
}

/// The label that all Pods of the examples have.
pub(crate) const LABEL: &str = "module.koupleless.io/name=biz1";

/// Deletes a workload of the examples and waits until nothing is left of it, neither Pods nor modules.
pub(crate) async fn removed(stage: &Stage, what: &str, bases: &[SimulatedBase]) -> Result<()> {
    stage.kubectl(&["delete", what]).await?;
    eventually("no Pods", SOON, async || {
        let left = stage.pods_with(LABEL).await?.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await?;
    eventually("empty bases", SOON, async || bases.iter().all(|base| base.modules().is_empty())).await
}

/// What is recorded; a test that failed meanwhile does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at bases all the time, for moments at which no version of a module was active.
pub(crate) struct Gaps {
    found: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl Gaps {
    pub(crate) fn watch(bases: &Arc<Vec<SimulatedBase>>, module: &str) -> Self {
        let found = Arc::<Mutex<Vec<(String, String)>>>::default();
        let (bases, module, gaps) = (Arc::clone(bases), module.to_owned(), Arc::clone(&found));
        let task = tokio::spawn(async move {
            loop {
                for base in bases.iter() {
                    if !serves(base, &module) {
                        lock(&gaps).push((base.identity(), format!("{:?}", base.modules())));
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { found, task }
    }

    /// The first ones.
    pub(crate) fn found(&self) -> Vec<String> {
        self.found_where(|_| true)
    }

    /// The first ones on bases like that.
    pub(crate) fn found_where(&self, base: impl Fn(&str) -> bool) -> Vec<String> {
        let found = lock(&self.found);
        found.iter().filter(|(id, _)| base(id)).take(5).map(|(id, modules)| format!("{id}: {modules}")).collect()
    }
}

impl Drop for Gaps {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
struct PodSeen {
    name: String,
    version: String,
    node: Option<String>,
    ready: bool,
    lost: bool,
    taken: bool,
}

/// Records every Pod that was ever there, which stopped being Ready while they lived on, and which were deleted before
/// they had failed.
pub(crate) struct PodLog {
    pods: Arc<Mutex<BTreeMap<String, PodSeen>>>,
    task: JoinHandle<()>,
}

impl PodLog {
    pub(crate) async fn start(stage: &Stage) -> Result<Self> {
        let pods = Arc::<Mutex<BTreeMap<String, PodSeen>>>::default();
        let (seen, api) = (Arc::clone(&pods), stage.pods());
        let (begin, begun) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut begin = Some(begin);
            let mut changes = watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(change) = changes.next().await {
                match change {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => note(&seen, &pod),
                    Ok(watcher::Event::InitDone) => {
                        begin.take().map(|begin| begin.send(()));
                    }
                    _ => {}
                }
            }
        });
        begun.await?;
        Ok(Self { pods, task })
    }

    /// How many there were.
    pub(crate) fn created(&self) -> usize {
        lock(&self.pods).len()
    }

    /// Names of Pods with this version that were Ready and then not.
    pub(crate) fn lost_ready(&self, version: &str) -> Vec<String> {
        let pods = lock(&self.pods);
        pods.values().filter(|p| p.lost && p.version == version).map(|p| p.name.clone()).collect()
    }

    /// How many there were on this Node.
    pub(crate) fn on(&self, node: &str) -> usize {
        lock(&self.pods).values().filter(|p| p.node.as_deref() == Some(node)).count()
    }

    /// Whether a Pod on this Node was deleted that neither had failed nor only waited for its turn.
    pub(crate) fn taken_from(&self, node: &str) -> bool {
        lock(&self.pods).values().any(|p| p.taken && p.node.as_deref() == Some(node))
    }
}

impl Drop for PodLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(seen: &Mutex<BTreeMap<String, PodSeen>>, pod: &Pod) {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let mut pods = lock(seen);
    let entry = pods.entry(pod.metadata.uid.clone().unwrap_or_default()).or_insert_with(|| PodSeen {
        name: pod.metadata.name.clone().unwrap_or_default(),
        version: labels.get("module.koupleless.io/version").cloned().unwrap_or_default(),
        node: None,
        ready: false,
        lost: false,
        taken: false,
    });
    entry.node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
    let failed = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
    let waits = container_reason(pod) == Some("Held");
    entry.taken |= pod.metadata.deletion_timestamp.is_some() && !failed && !waits;
    let ready = is_ready(pod);
    entry.lost |= entry.ready && !ready && pod.metadata.deletion_timestamp.is_none();
    entry.ready = ready;
}
