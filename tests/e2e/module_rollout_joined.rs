//! Two releases at once, on bases of which some join, one restarts and one blips meanwhile.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::Phase;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::UNREACHABLE_AFTER,
    module_rollout_help::{Promise, all_at_once, defined, module_rollout, touched},
    stage::{SOON, Stage, has_its_baseline},
    workloads::{Gaps, alone, bases, deployment, rolled_out, serves},
};

/// Each with what becomes of bases that join.
const MODULES: [(&str, &str); 2] = [("biz1", "Wait"), ("biz2", "Release")];
const BASES: usize = 5;

/// As many replicas as there are bases.
fn peer(stage: &Stage, name: &str, version: &str) -> Value {
    let mut deployment = deployment(stage, name, BASES, version, &all_at_once());
    deployment["metadata"]["labels"] = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
    if let Some(spec) = deployment["spec"].as_object_mut() {
        spec.remove("replicas");
    }
    deployment
}

fn versions(base: &SimulatedBase, module: &str) -> Vec<String> {
    let active = base.modules().into_iter().filter(|m| m.0 == module && m.2 == BizState::Activated);
    active.map(|m| m.1).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_at_once_while_bases_join_restart_and_blip() -> Result<()> {
    let stage = Stage::set_on(defined().await?, "batches-joined", |options| {
        options.env("MODULET_UNREACHABLE_AFTER", UNREACHABLE_AFTER.as_secs().to_string())
    })
    .await?;
    let old = bases(&stage, BASES, Activation::ActivateNew).await?;
    for (name, joined) in MODULES {
        stage.apply(&peer(&stage, name, "1")).await?;
        let how = json!({ "joinedBases": joined, "steps": [{ "replicas": 2, "pause": {} }, { "replicas": "100%" }] });
        stage.apply(&module_rollout("Deployment", name, &how)).await?;
    }
    for (name, _) in MODULES {
        alone(&old, name, "1", SOON).await?;
        stage.release_until(name, "Idle", |s| s.phase == Some(Phase::Idle) && s.bases.done == 5).await?;
    }
    let promises = MODULES.map(|(name, _)| Promise::of(&stage, &old, name));
    let gaps = MODULES.map(|(name, _)| Gaps::watch(&old, name));
    for (name, _) in MODULES {
        stage.apply(&peer(&stage, name, "2")).await?;
    }
    for (name, _) in MODULES {
        stage.release_until(name, "Waiting", |s| s.phase == Some(Phase::Waiting)).await?;
        assert_eq!(touched(&old, name, "2"), ["base-0", "base-1"], "{name}");
    }

    let (restarts, blips) = (&old[3], &old[4]);
    blips.hang();
    restarts.restart().await?;
    eventually("what it had", SOON, async || {
        for (name, _) in MODULES {
            ensure!(versions(restarts, name) == ["1"], "{:?}", restarts.modules());
        }
        Ok(())
    })
    .await?;
    stage.node_ready(&stage.node_name("base-4"), "Unknown").await?;
    blips.resume();
    stage.node_ready(&stage.node_name("base-4"), "True").await?;

    let mut joined = Vec::new();
    for number in BASES..BASES + 3 {
        let options = stage.base_options(&format!("base-{number}"));
        joined.push(SimulatedBase::start(BaseOptions { activation: Activation::ActivateNew, ..options }).await?);
    }
    for base in &joined {
        stage.node_ready(&stage.node_name(&base.identity()), "True").await?;
        has_its_baseline(base).await?;
    }
    let joined = Arc::new(joined);
    let promises_to_them = MODULES.map(|(name, _)| Promise::of(&stage, &joined, name));
    for (name, _) in MODULES {
        stage.release_until(name, "all bases counted", |s| s.bases.total == 8).await?;
    }
    // Where there is nothing before it, it has the new one at once; where there is, that.
    eventually("biz2 on each base that joined", SOON, async || {
        let without: Vec<_> = joined.iter().filter(|base| !serves(base, "biz2")).map(SimulatedBase::identity).collect();
        ensure!(without.is_empty(), "{without:?}");
        Ok(())
    })
    .await?;
    for (name, _) in MODULES {
        assert_eq!(touched(&old, name, "2"), ["base-0", "base-1"], "{name}");
    }
    assert_eq!(touched(&joined, "biz1", "2"), [""; 0]);
    eventually("those that have nothing of biz1 are said to have joined", SOON, async || {
        let has_nothing = joined.iter().filter(|base| !serves(base, "biz1")).count();
        let status = stage.release("biz1").await?.context("it is gone")?;
        ensure!(usize::try_from(status.bases.joined)? == has_nothing, "{has_nothing}: {}", json!(status));
        Ok(())
    })
    .await?;

    for (name, _) in MODULES {
        stage.says(name, "confirm").await?;
    }
    for ((name, _), gaps) in MODULES.into_iter().zip(gaps) {
        stage.release_until(name, "Completed", |s| s.phase == Some(Phase::Completed)).await?;
        rolled_out(&stage, &format!("deployment/{name}")).await?;
        alone(&old, name, "2", SOON).await?;
        alone(&joined, name, "2", SOON).await?;
        assert_eq!(gaps.found_where(|base| base != "base-3"), [""; 0], "moments at which no version was active");
    }
    for promise in promises.iter().chain(&promises_to_them) {
        assert_eq!(promise.outside(), [""; 0]);
    }
    stage.ends_quietly().await
}
