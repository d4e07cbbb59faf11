//! A release to thirty bases, whose leader is killed in the midst of a batch.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::Phase;
use modulet_testkit::{base::UrlBehaviour, wait::eventually};
use serde_json::json;

use crate::{
    module_rollout_help::{Promise, Release, V2},
    replicas_help::{FOLLOWED, followed, replica},
    stage::SOON,
    workloads::told,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_to_thirty_bases_survives_its_leader_and_keeps_to_batches_and_pauses() -> Result<()> {
    const BASES: usize = 30;
    const PAUSE: Duration = Duration::from_secs(4);
    const AT_ONCE: usize = 3;
    let mut release = Release::set(
        "batches-thirty",
        BASES,
        json!({
            "steps": [
                { "replicas": 1, "pause": {} },
                { "replicas": "50%", "pause": { "durationSeconds": PAUSE.as_secs() } },
                { "replicas": "100%" },
            ],
            "maxParallel": AT_ONCE,
        }),
    )
    .await?;
    let second = replica(&release.stage, "second", |o| o).await?;
    let promise = Promise::of(&release.stage, &release.bases, "biz1");
    for base in release.bases.iter() {
        base.set_url_behaviour(V2, UrlBehaviour::StartsSlowly(Duration::from_millis(500)));
    }
    release.template("2").await?;
    let status = release.until("a batch of so many", |s| s.phase == Some(Phase::Progressing)).await?;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("0 of 30 bases"), "{message}");
    let status = release.until_phase(Phase::Waiting, 1).await?;
    assert_eq!((status.bases.total, status.bases.done, status.bases.left), (30, 1, 29), "{}", json!(status));
    release.rests_with("2", 1).await?;

    release.says("confirm").await?;
    let midst = eventually("the midst of the batch", SOON, async || {
        let touched = release.touched("2").len();
        ensure!(touched > 1 + AT_ONCE, "{touched}");
        Ok(touched)
    })
    .await?;
    release.stage.controller.kill9().await?;
    assert!(midst < 15, "{midst}: it was not the midst");
    followed(&[&second], FOLLOWED).await?;
    release.completed("2").await?;

    let times = promise.times("2");
    let (last, next) = (times.get(14).context("too few")?, times.get(15).context("too few")?);
    assert!(next.duration_since(*last) >= PAUSE, "{:?}", next.duration_since(*last));
    for base in release.bases.iter() {
        assert_eq!(told(base, "biz1"), ["install 1", "install 2", "uninstall 1"], "{}", base.identity());
    }
    assert_eq!((promise.fewest(), promise.outside()), (BASES, Vec::new()));
    release.stage.controller.restart().await?;
    release.stage.ends_quietly().await
}
