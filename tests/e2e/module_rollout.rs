//! Releases in batches, looked at from the bases: whether each has a version at every moment, and which were told of the
//! new one.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use modulet::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};
use modulet_testkit::{
    base::{Activation, SimulatedBase, UrlBehaviour},
    helm::chart,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage},
    workloads::{Gaps, alone, bases, deployment, rolled_out, told, told_since},
};

/// Something that is not to be told would be told within this time.
const QUIET: Duration = Duration::from_secs(2);

/// What the URL of version 2 has in it.
const V2: &str = "biz1-2";

/// A workload that serves version 1 on each base, and its `ModuleRollout`.
struct Release {
    stage: Stage,
    bases: Arc<Vec<SimulatedBase>>,
}

impl Release {
    async fn set(name: &str, count: usize, how: Value) -> Result<Self> {
        let stage = Stage::set(name).await?;
        let definition = chart().join("definitions/modulerollouts.yaml").display().to_string();
        stage.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &definition]).await?;
        let bases = bases(&stage, count, Activation::ActivateNew).await?;
        let release = Self { stage, bases };
        release.template("1").await?;
        rolled_out(&release.stage, "deployment/biz1").await?;
        alone(&release.bases, "biz1", "1", SOON).await?;
        let mut spec = json!({ "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" } });
        how.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
        let object = json!({
            "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
            "metadata": { "name": "biz1" }, "spec": spec,
        });
        eventually("a ModuleRollout", SOON, async || release.stage.apply(&object).await).await?;
        // A kind that is new to the cluster is looked for every 30 s.
        release.until("looked at", |status| status.phase == Some(Phase::Idle)).await?;
        Ok(release)
    }

    fn wanted(&self, version: &str) -> Value {
        let all_at_once = json!({ "maxSurge": "100%", "maxUnavailable": 0 });
        deployment(&self.stage, "biz1", self.bases.len(), version, &all_at_once)
    }

    async fn template(&self, version: &str) -> Result<()> {
        self.stage.apply(&self.wanted(version)).await
    }

    async fn status(&self) -> Result<ModuleRolloutStatus> {
        let api = Api::<ModuleRollout>::namespaced(self.stage.client.clone(), &self.stage.name);
        Ok(api.get("biz1").await?.status.unwrap_or_default())
    }

    async fn until(&self, what: &str, is: impl Fn(&ModuleRolloutStatus) -> bool) -> Result<ModuleRolloutStatus> {
        eventually(what, SOON, async || {
            let status = self.status().await?;
            ensure!(is(&status), "{}", json!(status));
            Ok(status)
        })
        .await
    }

    async fn until_phase(&self, phase: Phase, step: u32) -> Result<ModuleRolloutStatus> {
        self.until(&format!("{phase:?} at step {step}"), |s| s.phase == Some(phase) && s.step == step).await
    }

    /// Somebody says a word, with what the status calls the revision.
    async fn says(&self, word: &str) -> Result<()> {
        let revision = self.status().await?.revision.context("no revision")?;
        let annotation = format!("modulet.koupleless.io/{word}={revision}");
        self.stage.kubectl(&["annotate", "--overwrite", "mro/biz1", &annotation]).await?;
        Ok(())
    }

    /// Bases that were told to install that version, ever.
    fn touched(&self, version: &str) -> Vec<String> {
        let install = format!("install {version}");
        self.bases.iter().filter(|base| told(base, "biz1").contains(&install)).map(SimulatedBase::identity).collect()
    }

    /// So many bases have it, and for some time nothing else is told to anybody.
    async fn rests_with(&self, version: &str, count: usize) -> Result<()> {
        let before: Vec<_> = self.bases.iter().map(|base| told(base, "biz1").len()).collect();
        assert_eq!(self.touched(version).len(), count, "{:?}", self.touched(version));
        tokio::time::sleep(QUIET).await; // what is looked for is that nothing happens
        for (base, before) in self.bases.iter().zip(before) {
            let news = told_since(base, "biz1", before);
            assert!(news.iter().all(|told| told.starts_with("uninstall")), "{}: {news:?}", base.identity());
        }
        Ok(())
    }
}

fn confirmed() -> Value {
    json!({ "steps": [{ "replicas": 1, "pause": {} }, { "replicas": "50%", "pause": {} }, { "replicas": "100%" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_in_batches_with_confirmation_and_modulet_killed_between_them() -> Result<()> {
    let mut release = Release::set("batches-confirm", 10, confirmed()).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    release.template("2").await?;
    let status = release.until_phase(Phase::Waiting, 1).await?;
    assert_eq!((status.bases.done, status.bases.left, status.next.len()), (1, 9, 4), "{}", json!(status));
    release.rests_with("2", 1).await?;
    let waiting = release.stage.kubectl(&["get", "pods", "--no-headers"]).await?;
    assert_eq!(waiting.lines().filter(|line| line.contains("AwaitingBatch")).count(), 9, "{waiting}");

    release.stage.controller.kill9().await?;
    release.stage.controller.restart().await?;
    release.rests_with("2", 1).await?;

    release.says("confirm").await?;
    release.until_phase(Phase::Waiting, 2).await?;
    release.rests_with("2", 5).await?;
    release.says("confirm").await?;
    release.until("Completed", |status| status.phase == Some(Phase::Completed)).await?;
    rolled_out(&release.stage, "deployment/biz1").await?;
    alone(&release.bases, "biz1", "2", SOON).await?;
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");
    let events = release.stage.events("biz1").await?;
    let of = |reason: &str| events.iter().filter(|event| *event == reason).count();
    assert_eq!((of("BatchDone"), of("ReleaseCompleted")), (2, 1), "{events:?}");
    release.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_second_batch_holds_the_rest_and_abort_leads_back() -> Result<()> {
    let release = Release::set("batches-abort", 6, confirmed()).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    release.template("2").await?;
    release.until_phase(Phase::Waiting, 1).await?;
    let first = release.touched("2");
    for base in release.bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::Broken { cause: "no such table".to_owned() });
    }
    release.says("confirm").await?;
    let status = release.until_phase(Phase::Paused, 2).await?;
    assert_eq!(status.waiting_for.as_deref(), Some("decision"));
    assert_eq!((release.touched("2").len(), first.len()), (3, 1));
    let failure = status.failures.first().context("no failure")?;
    assert!(failure.reason == "InstallFailed" && failure.message.contains("no such table"), "{failure:?}");

    for base in release.bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::Ok);
    }
    release.says("abort").await?;
    let status = release.until("back", |status| status.phase == Some(Phase::Idle)).await?;
    assert_eq!(status.revision, status.stable_revision);
    alone(&release.bases, "biz1", "1", SOON).await?;
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");

    // Git applies it again.
    release.template("2").await?;
    release.until("Blocked", |status| status.phase == Some(Phase::Blocked)).await?;
    release.rests_with("2", 3).await?;
    release.template("1").await?;
    release.until("Idle again", |status| status.phase == Some(Phase::Idle)).await?;
    release.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_roll_back_by_themselves_where_that_is_wanted() -> Result<()> {
    let mut how = confirmed();
    how["failurePolicy"] = json!({ "action": "Rollback" });
    let release = Release::set("batches-rollback", 6, how).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    for base in release.bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::Broken { cause: "no such table".to_owned() });
    }
    release.template("2").await?;
    let status = release.until("back", |s| s.phase == Some(Phase::Idle) && s.rejected_revision.is_some()).await?;
    assert_eq!(status.revision, status.stable_revision);
    alone(&release.bases, "biz1", "1", SOON).await?;
    assert_eq!(release.touched("2").len(), 1);
    assert_eq!(gaps.found(), [] as [String; 0]);
    release.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_template_takes_over_and_a_base_that_restarts_gets_what_it_had() -> Result<()> {
    let release = Release::set("batches-second", 6, confirmed()).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    release.template("2").await?;
    release.until_phase(Phase::Waiting, 1).await?;
    release.says("confirm").await?;
    release.until_phase(Phase::Waiting, 2).await?;
    let second = release.touched("2");
    release.template("3").await?;
    release.until("the third", |s| s.phase == Some(Phase::Waiting) && s.step == 1 && s.released.len() == 2).await?;
    assert_eq!((second.len(), release.touched("2").len(), release.touched("3").len()), (3, 3, 1));
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");
    drop(gaps);

    // One of each kind that awaits the third.
    let waits = |base: &&SimulatedBase| !release.touched("3").contains(&base.identity());
    let with = |version: &str| {
        release.bases.iter().filter(waits).find(|base| second.contains(&base.identity()) == (version == "2"))
    };
    for version in ["1", "2"] {
        let base = with(version).context("no such base")?;
        base.restart().await?;
        eventually("what it had", SOON, async || {
            let modules = base.modules();
            ensure!(modules.iter().any(|m| m.1 == version), "{modules:?}");
            ensure!(modules.iter().all(|m| m.1 != "3"), "{modules:?}");
            Ok(())
        })
        .await?;
    }
    assert_eq!(release.touched("3").len(), 1);
    release.says("confirm-all").await?;
    release.until("Completed", |status| status.phase == Some(Phase::Completed)).await?;
    alone(&release.bases, "biz1", "3", SOON).await?;
    release.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_it_in_the_middle_has_the_rest_released() -> Result<()> {
    let release = Release::set("batches-deleted", 4, confirmed()).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    release.template("2").await?;
    release.until_phase(Phase::Waiting, 1).await?;
    release.stage.kubectl(&["delete", "mro/biz1", "--timeout=60s"]).await?;
    alone(&release.bases, "biz1", "2", SOON).await?;
    assert_eq!(gaps.found(), [] as [String; 0]);
    release.stage.ends_quietly().await
}
