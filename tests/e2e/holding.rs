//! Who gives way to whom on one base, for how long, and what it leaves behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, container_message, container_reason, is_ready, module_pod, phase},
    workloads::{GRACE, PodLog, alone, named, told, told_no_more_than, workload},
};

/// A held Pod that was not left alone would show it within this time: the base is asked for its list every second.
const QUIET: Duration = Duration::from_secs(4);
/// Superseded Pods go soon.
const TTL: Duration = Duration::from_secs(5);

async fn stage(name: &str) -> Result<Stage> {
    Stage::set_with(name, |options| {
        options.env("MODULET_SUPERSEDED_TTL", TTL.as_secs().to_string()).env("MODULET_LIST_EVERY", "1")
    })
    .await
}

async fn base(stage: &Stage, activation: Activation) -> Result<SimulatedBase> {
    stage.base(BaseOptions { activation, ..stage.base_options("base-1") }).await
}

/// A Deployment `name` of biz1 in that version.
fn of_biz1(stage: &Stage, name: &str, version: &str) -> Value {
    named(workload(stage, "Deployment", "biz1", Some(1), version), name)
}

async fn pods_of(stage: &Stage, name: &str) -> Result<Vec<Pod>> {
    stage.pods_with(&format!("app={name}")).await
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Waits until the workload's only live Pod is Ready.
async fn ready(stage: &Stage, workload: &str) -> Result<Pod> {
    eventually(&format!("{workload} Ready"), SOON, async || {
        let pods = pods_of(stage, workload).await?;
        pods.into_iter().find(is_ready).context("no Pod is")
    })
    .await
}

/// Waits until the workload has a held Pod that names `by`.
async fn held(stage: &Stage, workload: &str, by: &[&str]) -> Result<Pod> {
    eventually(&format!("{workload} held"), SOON, async || {
        let pods = pods_of(stage, workload).await?;
        let pod = pods.into_iter().find(|p| container_reason(p) == Some("Held")).context("no Pod is")?;
        ensure!(phase(&pod) == "Pending", "it is {}", phase(&pod));
        let message = container_message(&pod).unwrap_or_default();
        ensure!(by.iter().all(|word| message.contains(word)), "it says {message}");
        Ok(pod)
    })
    .await
}

/// Waits until the workload has no finished Pods any more.
async fn tidied_up(stage: &Stage, workload: &str) -> Result<()> {
    eventually(&format!("no failed Pods of {workload}"), SOON, async || {
        ensure!(pods_of(stage, workload).await?.iter().all(|p| phase(p) != "Failed"));
        Ok(())
    })
    .await
}

/// First, second; second goes. Meanwhile the first's superseded Pod goes, and the controller is killed.
async fn later_takes_over(name_of_stage: &str, activation: Activation, takes: &[&str]) -> Result<()> {
    let mut stage = stage(name_of_stage).await?;
    let base = base(&stage, activation).await?;
    let pods = PodLog::start(&stage).await?;
    stage.apply(&of_biz1(&stage, "first", "1")).await?;
    ready(&stage, "first").await?;
    stage.apply(&of_biz1(&stage, "second", "2")).await?;
    let second = ready(&stage, "second").await?;
    let waiting = held(&stage, "first", &["biz1:2", name(&second)]).await?;
    eventually("the Event", SOON, async || {
        let text = stage.kubectl(&["describe", "pod", name(&waiting)]).await?;
        let events = text.split("Events:").nth(1).unwrap_or_default();
        ensure!(events.lines().any(|l| l.contains("Held") && l.contains("biz1:2")), "{text}");
        Ok(())
    })
    .await?;
    tidied_up(&stage, "first").await?;
    let told_so_far: Vec<_> = ["install 1"].iter().chain(takes).copied().collect();
    told_no_more_than(&base, "biz1", &told_so_far, QUIET).await?;

    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    told_no_more_than(&base, "biz1", &told_so_far, QUIET).await?;
    let still = stage.pods().get(name(&waiting)).await?;
    assert_eq!(container_reason(&still), Some("Held"));
    assert_eq!(still.metadata.resource_version, waiting.metadata.resource_version, "its status was written again");
    assert_eq!(pods.created(), 3, "two, and one replacement");
    assert_eq!(pods.lost_ready("2"), [] as [String; 0]);

    stage.kubectl(&["delete", "deployment", "second"]).await?;
    let back = ready(&stage, "first").await?;
    assert_eq!(back.metadata.uid, waiting.metadata.uid, "the one that waited");
    alone(std::slice::from_ref(&base), "biz1", "1", SOON).await?;
    let told = told(&base, "biz1");
    assert_eq!(told[told_so_far.len()..], ["uninstall 2", "install 1"]);
    assert_eq!(pods.created(), 3);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_workload_takes_over_once_and_the_first_comes_back_when_it_goes() -> Result<()> {
    Box::pin(later_takes_over("hold-new", Activation::ActivateNew, &["install 2", "uninstall 1"])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_a_base_with_default_settings() -> Result<()> {
    Box::pin(later_takes_over("hold-default", Activation::Default, &["install 2", "install 2", "switch 2"])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pod_has_its_turn_though_the_controller_was_down_when_the_other_went() -> Result<()> {
    let mut stage = stage("hold-down").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    for (name, version) in [("first", "1"), ("second", "2")] {
        stage.apply(&of_biz1(&stage, name, version)).await?;
        ready(&stage, name).await?;
    }
    held(&stage, "first", &["biz1:2"]).await?;
    tidied_up(&stage, "first").await?;
    stage.controller.kill9().await?;
    stage.kubectl(&["delete", "deployment", "second", "--wait=false"]).await?;
    let gone = stage.kubectl(&["delete", "pods", "-l", "app=second", "--force", "--grace-period=0"]);
    gone.await?;
    eventually("no Pods of the second", SOON, async || {
        ensure!(pods_of(&stage, "second").await?.is_empty());
        Ok(())
    })
    .await?;
    stage.controller.restart().await?;
    ready(&stage, "first").await?;
    alone(std::slice::from_ref(&base), "biz1", "1", SOON).await?;
    let mut told = told(&base, "biz1").split_off(3);
    told.sort();
    assert_eq!(told, ["install 1", "uninstall 2"]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_workloads_the_latest_that_is_left_has_the_base() -> Result<()> {
    let stage = stage("hold-three").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    for (name, version) in [("first", "1"), ("second", "2"), ("third", "3")] {
        stage.apply(&of_biz1(&stage, name, version)).await?;
        ready(&stage, name).await?;
    }
    held(&stage, "first", &["biz1:3"]).await?;
    held(&stage, "second", &["biz1:3"]).await?;
    alone(std::slice::from_ref(&base), "biz1", "3", SOON).await?; // the others' grace periods are over
    stage.kubectl(&["delete", "deployment", "third"]).await?;
    ready(&stage, "second").await?;
    held(&stage, "first", &["biz1:2"]).await?;
    stage.kubectl(&["delete", "deployment", "second"]).await?;
    ready(&stage, "first").await?;
    alone(std::slice::from_ref(&base), "biz1", "1", SOON).await?;
    assert_eq!(base.received("installBiz"), 5, "{:?}", told(&base, "biz1"));
    assert_eq!(base.received("uninstallBiz"), 4, "{:?}", told(&base, "biz1"));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_workload_that_goes_is_not_missed() -> Result<()> {
    let stage = stage("hold-gone").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    for (name, version) in [("first", "1"), ("second", "2")] {
        stage.apply(&of_biz1(&stage, name, version)).await?;
        ready(&stage, name).await?;
    }
    held(&stage, "first", &["biz1:2"]).await?;
    stage.kubectl(&["delete", "deployment", "first"]).await?;
    eventually("no Pods of the first", SOON, async || {
        ensure!(pods_of(&stage, "first").await?.is_empty());
        Ok(())
    })
    .await?;
    alone(std::slice::from_ref(&base), "biz1", "2", SOON).await?;
    // And one of that name that comes anew is a new workload: it takes over.
    stage.apply(&of_biz1(&stage, "first", "1")).await?;
    ready(&stage, "first").await?;
    held(&stage, "second", &["biz1:1"]).await?;
    stage.ends_quietly().await
}

/// Its grace period, then its time to live; then nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_module_goes_after_its_grace_and_its_pod_after_its_time_to_live() -> Result<()> {
    let mut stage = stage("hold-grace").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    let pod = |pod: &str, version: &str| {
        let mut pod = module_pod(&stage.name, pod, &[("biz1", version)]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(GRACE.as_secs());
        pod
    };
    stage.create_pod(pod("old", "1")).await?;
    stage.pod_ready("old").await?;
    stage.create_pod(pod("new", "2")).await?;
    stage.pod_until("old", "Failed", |pod| phase(pod) == "Failed").await?;
    let failed = std::time::Instant::now();
    base.wait_for_state("biz1", "1", None, SOON).await?;
    let drained = failed.elapsed();
    assert!(drained > GRACE.mul_f32(0.8), "it had {drained:?} to finish its requests");
    assert_eq!(phase(&stage.pods().get("old").await?), "Failed");
    stage.pod_gone("old").await?;
    let kept = failed.elapsed();
    assert!(kept > TTL.mul_f32(0.8), "its Pod was kept for {kept:?}");
    let quiet = ["install 1", "install 2", "uninstall 1"];
    told_no_more_than(&base, "biz1", &quiet, QUIET).await?;
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    told_no_more_than(&base, "biz1", &quiet, QUIET).await?;
    assert!(is_ready(&stage.pods().get("new").await?));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_of_a_superseded_pod_goes_with_it_when_it_is_deleted() -> Result<()> {
    let stage = stage("hold-deleted").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    for (pod, version) in [("old", "1"), ("new", "2")] {
        stage.create_pod(module_pod(&stage.name, pod, &[("biz1", version)])).await?;
        stage.pod_ready(pod).await?;
    }
    stage.pod_until("old", "Failed", |pod| phase(pod) == "Failed").await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Deactivated), "its 30 s of grace have only begun");
    stage.delete_pod("old").await?;
    alone(std::slice::from_ref(&base), "biz1", "2", Duration::from_secs(1)).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_with_one_version_share_it_until_the_last_goes() -> Result<()> {
    let stage = stage("hold-shared").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    for pod in ["one", "two"] {
        stage.create_pod(module_pod(&stage.name, pod, &[("biz1", "1")])).await?;
        stage.pod_ready(pod).await?;
    }
    stage.delete_pod("one").await?;
    told_no_more_than(&base, "biz1", &["install 1"], QUIET).await?;
    assert!(is_ready(&stage.pods().get("two").await?));
    stage.delete_pod("two").await?;
    told_no_more_than(&base, "biz1", &["install 1", "uninstall 1"], QUIET).await?;
    stage.ends_quietly().await
}

/// Two modules in each Pod; of the second module the new version cannot start.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_whose_successor_cannot_start_stays_though_its_pod_gave_way() -> Result<()> {
    let stage = stage("hold-half").await?;
    let base = base(&stage, Activation::ActivateNew).await?;
    let pod = |pod: &str, version: &str| {
        let mut pod = module_pod(&stage.name, pod, &[("biz1", version), ("biz2", version)]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
        pod
    };
    stage.create_pod(pod("old", "1")).await?;
    stage.pod_ready("old").await?;
    let mut new = pod("new", "2");
    new["spec"]["containers"][1]["image"] = json!("https://modules.example.com/biz2-broken-2-ark-biz.jar");
    stage.create_pod(new).await?;
    base.wait_for_state("biz1", "2", Some(BizState::Activated), SOON).await?;
    let lost = eventually("biz2:1 uninstalled", QUIET, async || base.state_of("biz2", "1").is_none()).await;
    assert!(lost.is_err(), "nothing of biz2 serves any more: {:?}", told(&base, "biz2"));
    stage.pods().delete("old", &DeleteParams::default()).await?;
    stage.pod_gone("old").await?;
    stage.ends_quietly().await
}
