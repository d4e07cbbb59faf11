//! Releases of other workloads: a `DaemonSet`, web modules, and what does not suit until it is mended.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::{ModuleRolloutStatus, Phase};
use modulet_testkit::{
    base::{Activation, BaseOptions, SimulatedBase, UrlBehaviour},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    module_rollout_help::{Promise, V2, all_at_once, confirmed, defined, module_rollout, touched},
    stage::{SOON, Stage, has_its_baseline},
    workloads::{Gaps, alone, deployment, rolled_out, serves, workload},
};

async fn bases(stage: &Stage, all: Vec<BaseOptions>) -> Result<Arc<Vec<SimulatedBase>>> {
    let mut bases = Vec::new();
    for options in all {
        bases.push(SimulatedBase::start(options).await?);
    }
    for base in &bases {
        stage.node_ready(&stage.node_name(&base.identity()), "True").await?;
        has_its_baseline(base).await?;
    }
    Ok(Arc::new(bases))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_is_released_to_the_bases_that_a_step_selects_first() -> Result<()> {
    let stage = Stage::set_on(defined().await?, "batches-daemons", |options| options).await?;
    let options = |(id, cluster): (&str, &str)| BaseOptions {
        activation: Activation::ActivateNew,
        cluster: cluster.to_owned(),
        ..stage.base_options(id)
    };
    let all = [("base-0", "blue"), ("base-1", "green"), ("base-2", "canary"), ("base-3", "canary")];
    let bases = bases(&stage, all.map(options).into()).await?;
    let daemons = |version: &str| {
        let mut daemons = workload(&stage, "DaemonSet", "biz1", None, version);
        daemons["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
        daemons
    };
    stage.apply(&daemons("1")).await?;
    let canary = json!({ "matchLabels": { "base.koupleless.io/cluster-name": "canary" } });
    let how = json!({ "steps": [
        { "replicas": 2, "selector": canary, "pause": {} }, { "replicas": 3, "pause": {} }, { "replicas": "100%" },
    ] });
    stage.apply(&module_rollout("DaemonSet", "biz1", &how)).await?;
    alone(&bases, "biz1", "1", SOON).await?;
    stage.release_until("biz1", "Idle", |s| s.phase == Some(Phase::Idle) && s.bases.done == 4).await?;
    let (promise, gaps) = (Promise::of(&stage, &bases, "biz1"), Gaps::watch(&bases, "biz1"));
    stage.apply(&daemons("2")).await?;
    for (step, has) in [(1, &["base-2", "base-3"][..]), (2, &["base-0", "base-2", "base-3"])] {
        let is = |s: &ModuleRolloutStatus| s.phase == Some(Phase::Waiting) && s.step == step;
        stage.release_until("biz1", "Waiting", is).await?;
        assert_eq!(touched(&bases, "biz1", "2"), has);
        let others = gaps.found_where(|base| !has.contains(&base));
        assert_eq!(others, [""; 0], "moments at which a base had nothing whose turn had not come");
        stage.says("biz1", "confirm").await?;
    }
    stage.release_until("biz1", "Completed", |s| s.phase == Some(Phase::Completed)).await?;
    alone(&bases, "biz1", "2", SOON).await?;

    // One has the next version when that is undone.
    stage.apply(&daemons("3")).await?;
    let is = |s: &ModuleRolloutStatus| s.phase == Some(Phase::Waiting) && s.step == 1;
    stage.release_until("biz1", "Waiting", is).await?;
    stage.kubectl(&["rollout", "undo", "daemonset/biz1"]).await?;
    alone(&bases, "biz1", "2", SOON).await?;
    stage.release_until("biz1", "Idle", |s| s.phase == Some(Phase::Idle)).await?;
    assert_eq!(touched(&bases, "biz1", "3"), ["base-2", "base-3"]);
    assert_eq!(promise.outside(), [""; 0]);
    stage.ends_quietly().await
}

/// The command that a message ends in.
fn patch_of(message: &str) -> Result<Vec<String>> {
    let (_, command) = message.split_once("kubectl ").context("no command")?;
    let (words, patch) = command.split_once(" '").context("no patch")?;
    let patch = patch.split('\'').next().unwrap_or_default();
    Ok(words.split(' ').chain([patch]).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_module_that_did_not_suit_is_replaced_on_so_many_bases_at_once() -> Result<()> {
    const BASES: usize = 6;
    const AT_ONCE: usize = 2;
    let stage = Stage::set_on(defined().await?, "batches-web", |options| options).await?;
    let options = |number: usize| BaseOptions { web: true, ..stage.base_options(&format!("base-{number}")) };
    let bases = bases(&stage, (0..BASES).map(options).collect()).await?;
    let wanted = |version: &str, limits: &Value| {
        let mut web = deployment(&stage, "biz1", BASES, version, limits);
        web["spec"]["template"]["metadata"]["annotations"] = json!({ "modulet.koupleless.io/update": "replace" });
        web
    };
    let thirty = json!({ "maxSurge": "30%", "maxUnavailable": "30%" });
    stage.apply(&wanted("1", &thirty)).await?;
    let mut how = confirmed();
    how["maxParallel"] = json!(AT_ONCE);
    stage.apply(&module_rollout("Deployment", "biz1", &how)).await?;
    alone(&bases, "biz1", "1", SOON).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    for base in bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::StartsSlowly(Duration::from_millis(400)));
    }
    let promise = Promise::of(&stage, &bases, "biz1");
    stage.apply(&wanted("2", &thirty)).await?;
    let status = stage.release_until("biz1", "Blocked", |s| s.phase == Some(Phase::Blocked)).await?;
    let suits = status.conditions.iter().find(|c| c.type_ == "WorkloadSuitable").context("no condition")?;
    assert_eq!((suits.status.as_str(), Some(&suits.message)), ("False", status.message.as_ref()));
    eventually("Kubernetes has taken old Pods away", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let goes = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        ensure!(goes > 0, "{goes}");
        Ok(())
    })
    .await?;
    assert!(touched(&bases, "biz1", "2").is_empty() && bases.iter().all(|base| serves(base, "biz1")));

    let patch = patch_of(&suits.message)?;
    stage.kubectl(&patch.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let status = stage.release_until("biz1", "Waiting", |s| s.phase == Some(Phase::Waiting)).await?;
    assert!(status.conditions.iter().any(|c| c.type_ == "WorkloadSuitable" && c.status == "True"));
    assert_eq!(touched(&bases, "biz1", "2").len(), 1);
    stage.says("biz1", "confirm-all").await?;
    stage.release_until("biz1", "Completed", |s| s.phase == Some(Phase::Completed)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(&bases, "biz1", "2", SOON).await?;
    assert!(promise.fewest() >= BASES - AT_ONCE, "{} of {BASES}", promise.fewest());
    assert_eq!(promise.outside(), [""; 0]);
    // What the patch says is in Git too by now.
    stage.apply(&wanted("2", &all_at_once())).await?;
    stage.ends_quietly().await
}
