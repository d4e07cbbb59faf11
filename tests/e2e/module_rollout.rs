//! Releases in batches, looked at from the bases: whether each has a version at every moment, and which were told of the
//! new one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::Phase;
use modulet_testkit::{
    base::{SimulatedBase, UrlBehaviour},
    control_plane::ControlPlane,
    ports::free_port,
    proxy::Proxy,
    wait::eventually,
};
use serde_json::json;

use crate::{
    module_rollout_help::{Promise, Release, V2, confirmed},
    stage::SOON,
    starting::kubeconfig_at,
    workloads::{Gaps, alone, rolled_out},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_in_batches_with_confirmation_and_modulet_killed_between_them() -> Result<()> {
    let mut release = Release::set("batches-confirm", 10, confirmed()).await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    release.template("2").await?;
    let status = release.until_phase(Phase::Waiting, 1).await?;
    assert_eq!((status.bases.done, status.bases.left, status.next.len()), (1, 9, 4), "{}", json!(status));
    release.rests_with("2", 1).await?;
    eventually("nine Pods that wait", SOON, async || {
        let waiting = release.stage.kubectl(&["get", "pods", "--no-headers"]).await?;
        ensure!(waiting.lines().filter(|line| line.contains("AwaitingBatch")).count() == 9, "{waiting}");
        Ok(())
    })
    .await?;

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
    eventually("Events of it, each once", SOON, async || {
        let events = release.stage.events("biz1").await?;
        let of = |reason: &str| events.iter().filter(|event| *event == reason).count();
        ensure!((of("BatchDone"), of("ReleaseCompleted")) == (2, 1), "{events:?}");
        Ok(())
    })
    .await?;
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
async fn failures_roll_back_by_themselves_where_that_is_wanted_and_git_that_insists_is_held() -> Result<()> {
    let mut how = confirmed();
    how["failurePolicy"] = json!({ "action": "Rollback" });
    let release = Release::set("batches-rollback", 6, how).await?;
    let promise = Promise::of(&release.stage, &release.bases, "biz1");
    for base in release.bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::Broken { cause: "no such table".to_owned() });
    }
    // Git applies it each second, whatever becomes of it.
    for _ in 0..6 {
        release.template("2").await?;
        tokio::time::sleep(Duration::from_secs(1)).await; // what is looked for is that it is held all the time
    }
    let status = release.until("Blocked", |status| status.phase == Some(Phase::Blocked)).await?;
    assert!(status.rejected_revision == status.revision && status.revision != status.stable_revision, "{status:?}");
    release.rests_with("2", 1).await?;
    // What failed is not tried again either.
    alone(&release.bases, "biz1", "1", SOON).await?;
    release.template("1").await?;
    let status = release.until("back", |status| status.phase == Some(Phase::Idle)).await?;
    assert_eq!(status.revision, status.stable_revision);
    rolled_out(&release.stage, "deployment/biz1").await?;
    assert_eq!((release.touched("2").len(), promise.fewest(), promise.outside()), (1, 6, Vec::new()));
    release.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_template_takes_over_behind_a_slow_api_server_and_a_base_that_restarts_gets_what_it_had() -> Result<()>
{
    let (directory, port) = (tempfile::tempdir()?, free_port()?);
    let (kubeconfig, real) = kubeconfig_at(ControlPlane::shared().await?, directory.path(), port)?;
    let api_server = Proxy::start(port, &real).await?;
    let release = Release::set_with("batches-second", 6, confirmed(), |options| {
        options.env("KUBECONFIG", kubeconfig.display().to_string())
    })
    .await?;
    let gaps = Gaps::watch(&release.bases, "biz1");
    let promise = Promise::of(&release.stage, &release.bases, "biz1");
    api_server.slow(Duration::from_millis(250));
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
    api_server.slow(Duration::ZERO);

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
    assert_eq!(promise.outside(), [""; 0]);
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
