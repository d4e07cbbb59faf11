//! What the tests of releases in batches share: a workload with its `ModuleRollout`, and the promise that is kept on the
//! bases meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use modulet::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};
use modulet_testkit::{
    base::{Activation, SimulatedBase},
    control_plane::ControlPlane,
    controller::ControllerOptions,
    helm::chart,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    stage::{SOON, Stage, soon_for},
    workloads::{alone, bases, deployment, lock, rolled_out, serves, told, told_since},
};

/// Something that is not to be told would be told within this time.
const QUIET: Duration = Duration::from_secs(2);

/// What the URL of version 2 has in it.
pub(crate) const V2: &str = "biz1-2";

/// Makes the kind known before modulet starts, which looks for a kind that is new to the cluster only twice a minute.
pub(crate) async fn defined() -> Result<&'static ControlPlane> {
    let cluster = ControlPlane::shared().await?;
    let kubectl = Tool::ControlPlane.program("kubectl").await?;
    let definition = chart().join("definitions/modulerollouts.yaml");
    let output = tokio::process::Command::new(kubectl)
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["apply", "--server-side", "--force-conflicts", "-f"])
        .arg(definition)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = Api::<ModuleRollout>::all(cluster.client().await?);
    eventually("the kind known", SOON, async || Ok(all.list(&Default::default()).await?)).await?;
    Ok(cluster)
}

/// One base, then half of them, then all, and somebody confirms.
pub(crate) fn confirmed() -> Value {
    json!({ "steps": [{ "replicas": 1, "pause": {} }, { "replicas": "50%", "pause": {} }, { "replicas": "100%" }] })
}

/// All new Pods at once, and no old one before its successor is Ready.
pub(crate) fn all_at_once() -> Value {
    json!({ "maxSurge": "100%", "maxUnavailable": 0 })
}

/// A `ModuleRollout` of the workload with the same name.
pub(crate) fn module_rollout(kind: &str, name: &str, how: &Value) -> Value {
    let mut spec = json!({ "workloadRef": { "apiVersion": "apps/v1", "kind": kind, "name": name } });
    how.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
    json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
        "metadata": { "name": name }, "spec": spec,
    })
}

impl Stage {
    /// What a `ModuleRollout` says; nothing where there is none.
    pub(crate) async fn release(&self, name: &str) -> Result<Option<ModuleRolloutStatus>> {
        let api = Api::<ModuleRollout>::namespaced(self.client.clone(), &self.name);
        Ok(api.get_opt(name).await?.map(|object| object.status.unwrap_or_default()))
    }

    /// Waits until it says something like that.
    pub(crate) async fn release_until(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&ModuleRolloutStatus) -> bool,
    ) -> Result<ModuleRolloutStatus> {
        eventually(&format!("{name}: {what}"), SOON, async || {
            let status = self.release(name).await?.context("it is gone")?;
            ensure!(is(&status), "{}", json!(status));
            Ok(status)
        })
        .await
    }

    /// Somebody says a word about it, with what its status calls the revision.
    pub(crate) async fn says(&self, name: &str, word: &str) -> Result<()> {
        let revision = self.release(name).await?.and_then(|status| status.revision).context("no revision")?;
        let annotation = format!("modulet.koupleless.io/{word}={revision}");
        self.kubectl(&["annotate", "--overwrite", &format!("mro/{name}"), &annotation]).await?;
        Ok(())
    }
}

/// Bases that were told to have that version of a module, ever.
pub(crate) fn touched(bases: &[SimulatedBase], module: &str, version: &str) -> Vec<String> {
    let has = |base: &&SimulatedBase| {
        told(base, module).iter().any(|told| told.ends_with(&format!(" {version}")) && !told.starts_with("uninstall"))
    };
    bases.iter().filter(has).map(SimulatedBase::identity).collect()
}

/// The Deployment biz1 that serves version 1 on each base, and its `ModuleRollout`.
pub(crate) struct Release {
    pub(crate) stage: Stage,
    pub(crate) bases: Arc<Vec<SimulatedBase>>,
}

impl Release {
    pub(crate) async fn set(name: &str, count: usize, how: Value) -> Result<Self> {
        Self::set_with(name, count, how, |options| options).await
    }

    pub(crate) async fn set_with(
        name: &str,
        count: usize,
        how: Value,
        adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        let stage = Stage::set_on(defined().await?, name, adapt).await?;
        let bases = bases(&stage, count, Activation::ActivateNew).await?;
        let release = Self { stage, bases };
        release.template("1").await?;
        rolled_out(&release.stage, "deployment/biz1").await?;
        alone(&release.bases, "biz1", "1", SOON).await?;
        release.stage.apply(&module_rollout("Deployment", "biz1", &how)).await?;
        release.until("looked at", |status| status.phase == Some(Phase::Idle)).await?;
        Ok(release)
    }

    pub(crate) fn wanted(&self, version: &str) -> Value {
        deployment(&self.stage, "biz1", self.bases.len(), version, &all_at_once())
    }

    pub(crate) async fn template(&self, version: &str) -> Result<()> {
        self.stage.apply(&self.wanted(version)).await
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        is: impl Fn(&ModuleRolloutStatus) -> bool,
    ) -> Result<ModuleRolloutStatus> {
        self.stage.release_until("biz1", what, is).await
    }

    pub(crate) async fn until_phase(&self, phase: Phase, step: u32) -> Result<ModuleRolloutStatus> {
        self.until(&format!("{phase:?} at step {step}"), |s| s.phase == Some(phase) && s.step == step).await
    }

    pub(crate) async fn says(&self, word: &str) -> Result<()> {
        self.stage.says("biz1", word).await
    }

    pub(crate) fn touched(&self, version: &str) -> Vec<String> {
        touched(&self.bases, "biz1", version)
    }

    /// So many bases have it, and for some time nothing else is told to anybody.
    pub(crate) async fn rests_with(&self, version: &str, count: usize) -> Result<()> {
        let before: Vec<_> = self.bases.iter().map(|base| told(base, "biz1").len()).collect();
        assert_eq!(self.touched(version).len(), count, "{:?}", self.touched(version));
        tokio::time::sleep(QUIET).await; // what is looked for is that nothing happens
        for (base, before) in self.bases.iter().zip(before) {
            let news = told_since(base, "biz1", before);
            assert!(news.iter().all(|told| told.starts_with("uninstall")), "{}: {news:?}", base.identity());
        }
        Ok(())
    }

    /// It was released to every base, and nothing else is left on any.
    pub(crate) async fn completed(&self, version: &str) -> Result<()> {
        self.until("Completed", |status| status.phase == Some(Phase::Completed)).await?;
        rolled_out(&self.stage, "deployment/biz1").await?;
        alone(&self.bases, "biz1", version, soon_for(self.bases.len())).await
    }
}

/// What a release promises, looked at from the bases all the time: so many have an active version, and none is told of
/// one that it was not released to.
pub(crate) struct Promise {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    fewest: usize,
    outside: Vec<String>,
    /// Bases and versions that were told of them, and when that was seen.
    told: Vec<(String, String, Instant)>,
}

impl Seen {
    fn serves(&mut self, bases: usize) {
        self.fewest = self.fewest.min(bases);
    }
}

impl Promise {
    /// How often it is asked to which bases something was released.
    const ROUND: Duration = Duration::from_millis(100);

    pub(crate) fn of(stage: &Stage, bases: &Arc<Vec<SimulatedBase>>, module: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen { fewest: bases.len(), ..Seen::default() }));
        let (bases, module, into) = (Arc::clone(bases), module.to_owned(), Arc::clone(&seen));
        let api = Api::<ModuleRollout>::namespaced(stage.client.clone(), &stage.name);
        let task = tokio::spawn(async move {
            // What was told before the release was released by nobody.
            let mut known = all_told(&bases, &module);
            let mut before = ModuleRolloutStatus::default();
            loop {
                let round = Instant::now();
                while round.elapsed() < Self::ROUND {
                    let serving = bases.iter().filter(|base| serves(base, &module)).count();
                    lock(&into).serves(serving);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                let told = all_told(&bases, &module);
                // What was released when it was told is so before or after that.
                let Ok(Some(object)) = api.get_opt(&module).await else { continue };
                let after = object.status.unwrap_or_default();
                for (base, version) in told.difference(&known) {
                    if ![&before, &after].iter().any(|status| may_have(status, base)) {
                        lock(&into).outside.push(format!("{base} was told of {version}: {}", json!(after)));
                    }
                    lock(&into).told.push((base.clone(), version.clone(), round));
                }
                (known, before) = (told, after);
            }
        });
        Self { seen, task }
    }

    /// As few bases had an active version at some moment.
    pub(crate) fn fewest(&self) -> usize {
        lock(&self.seen).fewest
    }

    /// Bases that were told of what was not released to them.
    pub(crate) fn outside(&self) -> Vec<String> {
        lock(&self.seen).outside.iter().take(3).cloned().collect()
    }

    /// When each base was told of that version, in order.
    pub(crate) fn times(&self, version: &str) -> Vec<Instant> {
        lock(&self.seen).told.iter().filter(|(_, told, _)| told == version).map(|(.., at)| *at).collect()
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bases, and the versions that they were told of.
fn all_told(bases: &[SimulatedBase], module: &str) -> BTreeSet<(String, String)> {
    let of = |base: &SimulatedBase| -> Vec<_> {
        let told = told(base, module).into_iter();
        let versions =
            told.filter_map(|told| Some(told.split_once(' ').filter(|(word, _)| *word != "uninstall")?.1.to_owned()));
        versions.map(|version| (base.identity(), version)).collect()
    };
    bases.iter().flat_map(of).collect()
}

/// Whether a new version may have come to a base, as far as the status says.
fn may_have(status: &ModuleRolloutStatus, base: &str) -> bool {
    status.phase == Some(Phase::Completed) || status.released.values().flatten().any(|name| name == "*" || name == base)
}
