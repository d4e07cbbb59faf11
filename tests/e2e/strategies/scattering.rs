//! Scattering: copies spread over bases, as a preference or strictly.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{Activation, BaseOptions, SimulatedBase},
    wait::eventually,
};

use super::{LABEL, QUIET, measured, node, one_on_each, release, removed};
use crate::{
    stage::{SOON, Stage, is_ready},
    workloads::{alone, bases, ready_pods, rolled_out, told, told_no_more_than},
};

/// Why the scheduler has no Node for a Pod.
fn unschedulable(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let refused = conditions.clone().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    refused.message.as_deref().filter(|_| refused.reason.as_deref() == Some("Unschedulable"))
}

/// Waits for the Pod that has no base, and returns its name.
async fn surplus(stage: &Stage) -> Result<String> {
    eventually("one Pod that waits for a base", SOON, async || {
        let pods = stage.pods_with(LABEL).await?;
        let waiting: Vec<_> = pods.iter().filter(|p| node(p).is_empty()).collect();
        ensure!(waiting.len() == 1, "{} wait", waiting.len());
        match unschedulable(waiting[0]) {
            Some(why) if why.contains("anti-affinity") => Ok(waiting[0].metadata.name.clone().unwrap_or_default()),
            other => bail!("its condition says {other:?}"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_scattering_waits_for_a_base_and_starts_there_soon() -> Result<()> {
    let file = "scattering-strong.yaml";
    let stage = Stage::set("scatter-strong").await?;
    let two = bases(&stage, 2, Activation::ActivateNew).await?;
    release(&stage, file, "0.0.1").await?;
    one_on_each(&stage, &["base-0", "base-1"]).await?;
    let pod = surplus(&stage).await?;

    let options = BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-2") };
    let since = Instant::now();
    let third = SimulatedBase::start(options).await?;
    measured("first heartbeat of a base to the Pod Ready", since, stage.pod_ready(&pod)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;

    release(&stage, file, "0.0.2").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.2", 3).await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;
    for base in two.iter().chain([&third]) {
        told_no_more_than(base, "biz1", &["install 0.0.1", "install 0.0.2", "uninstall 0.0.1"], QUIET).await?;
    }
    removed(&stage, "deployment/biz1", &two).await?;
    eventually("an empty base", SOON, async || third.modules().is_empty()).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_scattering_shares_a_base_where_there_are_too_few() -> Result<()> {
    let file = "scattering-weak.yaml";
    let stage = Stage::set("scatter-weak").await?;
    let bases = bases(&stage, 2, Activation::ActivateNew).await?;
    release(&stage, file, "0.0.1").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.1", 3).await?;
    for base in bases.iter() {
        assert_eq!(told(base, "biz1"), ["install 0.0.1"], "one module on {}", base.identity());
    }

    release(&stage, file, "0.0.2").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.2", 3).await?;
    alone(&bases, "biz1", "0.0.2", SOON).await?;
    let story = ["install 0.0.1", "install 0.0.2", "uninstall 0.0.1"];
    for base in bases.iter() {
        told_no_more_than(base, "biz1", &story, QUIET).await?;
    }

    // The module stays for the other Pod that shares it.
    stage.kubectl(&["scale", "deployment/biz1", "--replicas=2"]).await?;
    eventually("two Pods, both Ready", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/version=0.0.2").await?;
        ensure!(pods.len() == 2 && pods.iter().all(is_ready), "{} Pods", pods.len());
        Ok(())
    })
    .await?;
    for base in bases.iter() {
        told_no_more_than(base, "biz1", &story, QUIET).await?;
    }
    removed(&stage, "deployment/biz1", &bases).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_scattering_spreads_where_there_are_enough() -> Result<()> {
    let stage = Stage::set("scatter-weak-enough").await?;
    let _bases = bases(&stage, 3, Activation::ActivateNew).await?;
    release(&stage, "scattering-weak.yaml", "0.0.1").await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;
    stage.ends_quietly().await
}
