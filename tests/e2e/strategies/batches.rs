//! Batch update by hand: some bases first, a look at them, then the others.

use anyhow::{Result, ensure};
use modulet_testkit::{
    base::{Activation, BizState, SimulatedBase},
    wait::eventually,
};

use super::{QUIET, release_with, updated_once_without_a_gap};
use crate::{
    stage::{SOON, Stage},
    workloads::{Gaps, alone, bases, ready_pods, rolled_out, told},
};

/// With less time between two batches than a person needs.
async fn release(stage: &Stage, version: &str, replicas: usize) -> Result<()> {
    let replicas = format!("minReadySeconds: 4\n  replicas: {replicas}");
    release_with(stage, "scattering-strong.yaml", version, &[("replicas: 3", replicas.as_str())]).await
}

/// On how many bases a version is active.
fn active(bases: &[SimulatedBase], version: &str) -> usize {
    bases.iter().filter(|b| b.state_of("biz1", version) == Some(BizState::Activated)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_release_stays_with_the_first_batch_until_it_is_resumed() -> Result<()> {
    let stage = Stage::set("batch-pause").await?;
    let bases = bases(&stage, 4, Activation::ActivateNew).await?;
    release(&stage, "0.0.1", 4).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let gaps = Gaps::watch(&bases, "biz1");

    release(&stage, "0.0.2", 4).await?;
    eventually("the first batch", SOON, async || active(&bases, "0.0.2") == 1).await?;
    stage.kubectl(&["rollout", "pause", "deployment/biz1"]).await?;
    ready_pods(&stage, "0.0.2", 1).await?;
    let more = eventually("a second batch", 3 * QUIET, async || {
        ensure!(active(&bases, "0.0.2") > 1, "one base");
        Ok(())
    });
    assert!(more.await.is_err(), "it went on though it was paused");
    assert_eq!(active(&bases, "0.0.1"), 3, "the others serve the old version");

    stage.kubectl(&["rollout", "resume", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.2", 4).await?;
    updated_once_without_a_gap(&stage, &bases, gaps).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_release_goes_back_without_a_further_base() -> Result<()> {
    let stage = Stage::set("batch-back").await?;
    let bases = bases(&stage, 3, Activation::ActivateNew).await?;
    release(&stage, "0.0.1", 3).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    release(&stage, "0.0.2", 3).await?;
    eventually("the first batch", SOON, async || active(&bases, "0.0.2") == 1).await?;
    stage.kubectl(&["rollout", "pause", "deployment/biz1"]).await?;
    ready_pods(&stage, "0.0.2", 1).await?;

    release(&stage, "0.0.1", 3).await?;
    stage.kubectl(&["rollout", "resume", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.1", 3).await?;
    alone(&bases, "biz1", "0.0.1", SOON).await?;
    let tried = bases.iter().filter(|b| told(b, "biz1").contains(&"install 0.0.2".to_owned())).count();
    assert_eq!(tried, 1, "bases that ever had the new version");
    stage.ends_quietly().await
}
