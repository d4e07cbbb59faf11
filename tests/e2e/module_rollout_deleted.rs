//! Releases that are given up: killed and deleted in the phases in which something is amiss, and two for one workload.

use anyhow::{Result, bail, ensure};
use modulet::k8s::rollout::Phase;
use modulet_testkit::{base::UrlBehaviour, wait::eventually};
use serde_json::json;

use crate::{
    module_rollout_help::{Promise, Release, V2, confirmed, module_rollout},
    stage::SOON,
    workloads::{alone, rolled_out},
};

fn set(release: &Release, pattern: &str, behaviour: &UrlBehaviour) {
    release.bases.iter().for_each(|base| base.set_url_behaviour(pattern, behaviour.clone()));
}

async fn gone(release: &Release) -> Result<()> {
    eventually("the ModuleRollout gone", SOON, async || match release.stage.release("biz1").await? {
        None => Ok(()),
        Some(status) => bail!("it is there: {}", json!(status)),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_or_goes_back_survives_a_kill_and_can_be_deleted() -> Result<()> {
    const BASES: usize = 4;
    let broken = UrlBehaviour::Broken { cause: "no such table".to_owned() };
    let how = confirmed();
    let mut release = Release::set("batches-given-up", BASES, how.clone()).await?;
    let promise = Promise::of(&release.stage, &release.bases, "biz1");
    set(&release, V2, &broken);
    release.template("2").await?;
    release.until_phase(Phase::Paused, 1).await?;
    release.stage.controller.kill9().await?;
    release.stage.controller.restart().await?;
    release.until_phase(Phase::Paused, 1).await?;
    assert_eq!(release.touched("2"), ["base-0"]);

    // Another one has the workload.
    let mut later = module_rollout("Deployment", "biz1", &how);
    later["metadata"]["name"] = json!("later");
    release.stage.apply(&later).await?;
    let status = release.stage.release_until("later", "Blocked", |s| s.phase == Some(Phase::Blocked)).await?;
    let message = status.message.unwrap_or_default();
    assert_eq!(message, "an older ModuleRollout (biz1) has Deployment biz1");

    // Given up, and killed and deleted on the way back.
    release.says("abort").await?;
    eventually("on its way back", SOON, async || {
        let phase = release.stage.release("biz1").await?.and_then(|status| status.phase);
        ensure!(phase == Some(Phase::RollingBack), "{phase:?}");
        Ok(())
    })
    .await?;
    release.stage.controller.kill9().await?;
    release.stage.kubectl(&["delete", "mro/biz1", "--wait=false"]).await?;
    release.stage.controller.restart().await?;
    gone(&release).await?;
    rolled_out(&release.stage, "deployment/biz1").await?;
    alone(&release.bases, "biz1", "1", SOON).await?;
    assert_eq!(release.touched("2"), ["base-0"]);

    // The other one has it now; and who deletes what is paused has the rest released, one failure or not.
    release.stage.release_until("later", "Idle", |s| s.phase == Some(Phase::Idle)).await?;
    set(&release, "biz1-3", &broken);
    release.template("3").await?;
    release.stage.release_until("later", "Paused", |s| s.phase == Some(Phase::Paused)).await?;
    set(&release, "biz1-3", &UrlBehaviour::Ok);
    release.stage.kubectl(&["delete", "mro/later", "--timeout=60s"]).await?;
    alone(&release.bases, "biz1", "3", SOON).await?;
    rolled_out(&release.stage, "deployment/biz1").await?;
    assert_eq!((promise.fewest(), promise.outside()), (BASES, Vec::new()));
    release.stage.ends_quietly().await
}
