//! The leader of hundreds of bases is killed.

use anyhow::{Context, Result, ensure};
use modulet_testkit::wait::eventually;

use crate::{
    faults_help::bound,
    replicas_help::{Before, FOLLOWED, fleet, followed, holder, leads, replica},
    stage::{SOON, Stage},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_followed_and_nothing_of_three_hundred_bases_moves() -> Result<()> {
    const BASES: usize = 300;
    let mut stage = Stage::set("replicas-kill").await?;
    let (second, third) = (replica(&stage, "second", |o| o).await?, replica(&stage, "third", |o| o).await?);
    assert_eq!(holder(&stage).await?, "modulet-under-test");
    let fleet = fleet(&stage, BASES).await?;
    let before = Before::of(&stage, &fleet).await?;

    stage.controller.kill9().await?;
    let (leader, after) = followed(&[&second, &third], FOLLOWED).await?;
    let leader = [&second, &third][leader];
    // It serves: a module that comes now is installed.
    let base = &fleet.identities()[0];
    stage.create_pod(bound(&stage, base, "late", "1")).await?;
    stage.pod_ready("late").await?;
    ensure!(["second", "third"].contains(&&*holder(&stage).await?));
    // Longer than Nodes may be without a renewal.
    let lists = fleet.received("queryAllBiz");
    eventually("each base is asked for its list", SOON, async || {
        let asked = fleet.received("queryAllBiz") - lists;
        ensure!(asked >= BASES, "{asked}");
        Ok(())
    })
    .await?;
    before.holds(&stage, &fleet, 1, 0).await.with_context(|| format!("followed after {after:?}"))?;
    assert!(leader.log_text().contains("leading: the one before did not renew"), "{}", leader.log_text());

    // The dead one comes back, and stands by; the new leader gives up in order and it leads again within a second.
    stage.controller.restart().await?;
    assert!(!leads(&stage.controller).await?);
    assert!(stage.controller.get("/readyz").await?.contains("standby"));
    stage.ends_quietly().await
}
