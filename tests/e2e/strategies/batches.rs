//! Batch update: some bases first, a look at them, then the others.

use anyhow::{Result, ensure};
use modulet_testkit::{
    base::{Activation, BizState, SimulatedBase},
    wait::eventually,
};

use super::{QUIET, release_with, removed};
use crate::{
    stage::{SOON, Stage},
    workloads::{Gaps, bases, ready_pods, rolled_out, told_no_more_than},
};

/// On how many bases a version is active.
fn active(bases: &[SimulatedBase], version: &str) -> usize {
    bases.iter().filter(|b| b.state_of("biz1", version) == Some(BizState::Activated)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_release_stays_with_the_first_batch_until_it_is_resumed() -> Result<()> {
    let stage = Stage::set("batch-pause").await?;
    let bases = bases(&stage, 4, Activation::ActivateNew).await?;
    let release = async |version| {
        let shorter = [("minReadySeconds: 60", "minReadySeconds: 4")];
        release_with(&stage, "batch-update.yaml", version, &shorter).await
    };
    release("0.0.1").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let gaps = Gaps::watch(&bases, "biz1");

    release("0.0.2").await?;
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
    for base in bases.iter() {
        told_no_more_than(base, "biz1", &["install 0.0.1", "install 0.0.2", "uninstall 0.0.1"], QUIET).await?;
    }
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");
    drop(gaps);
    removed(&stage, "deployment/biz1", &bases).await
}
