//! Updates and their undoing, by every kind of workload and on every kind of base.

use std::time::Duration;

use anyhow::{Result, ensure};
use modulet_testkit::{base::Activation, wait::eventually};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, container_message, container_reason},
    workloads::{
        Gaps, PodLog, alone, bases, deployment, named, ready_pods, rolled_out, serving, spread, told,
        told_no_more_than, told_since, workload,
    },
};

const BASES: usize = 10;
/// Pods that an update may ever create, for each replica: more would be a hot loop.
const PODS_PER_REPLICA: usize = 4;
/// A finished Pod that started something again would do so within this time.
const QUIET: Duration = Duration::from_secs(3);

/// Commands that one base may be told on its way where Kubernetes deletes old Pods before there are new ones.
const MOST_COMMANDS: usize = 6;

/// Whether one base was told no more than its way from `old` to `new` needs, and never went back.
fn straight(told: &[String], activation: Activation, careful: bool, old: &str, new: &str) -> bool {
    let install = format!("install {new}");
    if careful {
        // With default settings it is asked once more for the same, to see that the jar can still be fetched.
        let look_and_switch = [install.clone(), install.clone(), format!("switch {new}")];
        let default = activation == Activation::Default;
        return if default { told == look_and_switch } else { told == [install, format!("uninstall {old}")] };
    }
    // A base whose old Pod was deleted may be given another old Pod, as long as it has not had the new version.
    let looks = usize::from(activation == Activation::Default);
    let after = told.iter().skip_while(|t| **t != install).skip(1 + looks);
    let goes_back = |t: &String| *t == install || *t == format!("install {old}") || *t == format!("switch {old}");
    told.contains(&install) && !after.clone().any(goes_back) && told.len() <= MOST_COMMANDS
}

/// Ten bases, one Pod of each version on each: release, update, undo.
async fn ten_bases(name: &str, activation: Activation, limits: Value) -> Result<()> {
    let stage = Stage::set(name).await?;
    let bases = bases(&stage, BASES, activation).await?;
    stage.apply(&deployment(&stage, "biz1", BASES, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    serving(&bases, "biz1", "1", SOON).await?;

    let careful = limits["maxUnavailable"] == 0;
    let mut before = vec![1; BASES];
    for (old, new) in [("1", "2"), ("2", "1")] {
        let pods = PodLog::start(&stage).await?;
        let there = pods.created();
        let gaps = Gaps::watch(&bases, "biz1");
        if new == "2" {
            stage.apply(&deployment(&stage, "biz1", BASES, new, &limits)).await?;
        } else {
            stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
        }
        rolled_out(&stage, "deployment/biz1").await?;
        ready_pods(&stage, new, BASES).await?;
        alone(&bases, "biz1", new, SOON).await?;

        let created = pods.created() - there;
        assert!((BASES..=BASES * PODS_PER_REPLICA).contains(&created), "{created} Pods were created");
        for (base, before) in bases.iter().zip(&mut before) {
            let told = told_since(base, "biz1", *before);
            *before += told.len();
            let straight = straight(&told, activation, careful, old, new);
            assert!(straight, "{} on its way from {old} to {new}: {told:?}", base.identity());
        }
        if activation == Activation::ActivateNew && careful {
            assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");
        }
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_bases_one_more_at_a_time() -> Result<()> {
    ten_bases("roll-surge", Activation::ActivateNew, json!({ "maxSurge": "30%", "maxUnavailable": 0 })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_bases_with_some_unavailable() -> Result<()> {
    ten_bases("roll-unavailable", Activation::ActivateNew, json!({ "maxSurge": "30%", "maxUnavailable": "30%" })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_bases_with_default_settings_one_more_at_a_time() -> Result<()> {
    ten_bases("roll-default-surge", Activation::Default, json!({ "maxSurge": "30%", "maxUnavailable": 0 })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_bases_with_default_settings_and_some_unavailable() -> Result<()> {
    let limits = json!({ "maxSurge": "30%", "maxUnavailable": "30%" });
    ten_bases("roll-default-unavailable", Activation::Default, limits).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_undone_half_way_ends_with_the_old_version_everywhere() -> Result<()> {
    let stage = Stage::set("roll-half").await?;
    let bases = bases(&stage, 4, Activation::ActivateNew).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 4, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let pods = PodLog::start(&stage).await?;
    let gaps = Gaps::watch(&bases, "biz1");
    stage.apply(&deployment(&stage, "biz1", 4, "2", &limits)).await?;
    eventually("the first bases with the new version", SOON, async || {
        bases.iter().any(|b| told(b, "biz1").contains(&"install 2".to_owned()))
    })
    .await?;
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "1", 4).await?;
    alone(&bases, "biz1", "1", SOON).await?;
    assert!(pods.created() <= 2 * 4 * PODS_PER_REPLICA, "{} Pods", pods.created());
    // Kubernetes counts both versions from statuses that may be of different moments, and may so take a Pod that
    // serves, or leave the new version on a base a little longer: what its Pods ask for is what a base is told.
    let gaps = gaps.found_where(|base| !pods.taken_from(&stage.node_name(base)));
    assert_eq!(gaps, [] as [String; 0]);
    let all = stage.pods_with("app=biz1").await?;
    for base in bases.iter() {
        let (told, pods) = (told(base, "biz1"), pods.on(&stage.node_name(&base.identity())));
        let installs = told.iter().filter(|t| t.starts_with("install")).count();
        // Where the undo comes between the switch and the word that the old Pod has failed, the same Pod has its place
        // back: its deactivated module is started anew before it takes over, which its status counts.
        let node = stage.node_name(&base.identity());
        let here = all.iter().filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(&node));
        let statuses = here.filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        let accounted = pods + usize::try_from(restarts)?;
        assert!(installs <= accounted, "{}: {told:?} for {pods} Pods, {restarts} restarts", base.identity());
    }
    stage.ends_quietly().await
}

/// The old version serves all the time, and the new Pod says what is the matter.
async fn cannot_start(name: &str, activation: Activation, file: &str, cause: &str) -> Result<()> {
    let stage = Stage::set(name).await?;
    let bases = bases(&stage, 3, activation).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 3, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;

    let pods = PodLog::start(&stage).await?;
    let gaps = Gaps::watch(&bases, "biz1");
    let mut update = deployment(&stage, "biz1", 3, "2", &limits);
    let url = format!("https://modules.example.com/{file}");
    update["spec"]["template"]["spec"]["containers"][0]["image"] = json!(url);
    stage.apply(&update).await?;
    eventually("a second try", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/version=2").await?;
        ensure!(pods.len() == 1, "{} new Pods", pods.len());
        let (reason, message) = (container_reason(&pods[0]), container_message(&pods[0]).unwrap_or_default());
        ensure!(reason == Some("InstallFailed") && message.contains(cause), "{reason:?} {message}");
        ensure!(!message.contains("InvocationTargetException"), "{message}");
        let tries: usize = bases.iter().map(|b| told(b, "biz1").iter().filter(|t| *t == "install 2").count()).sum();
        ensure!(tries == 2, "{tries} tries");
        Ok(())
    })
    .await?;
    ready_pods(&stage, "1", 3).await?;
    assert_eq!(pods.lost_ready("1"), [] as [String; 0]);
    assert_eq!(gaps.found(), [] as [String; 0]);
    assert_eq!(pods.created(), 4);

    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(&bases, "biz1", "1", SOON).await?;
    assert_eq!(pods.lost_ready("1"), [] as [String; 0]);
    assert_eq!(gaps.found(), [] as [String; 0]);
    assert_eq!(pods.created(), 4);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_start_leaves_the_old_one_serving() -> Result<()> {
    cannot_start("roll-broken", Activation::Default, "biz1-broken-2-ark-biz.jar", "broken on purpose").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_fetched_leaves_the_old_one_serving() -> Result<()> {
    cannot_start("roll-missing", Activation::ActivateNew, "missing.jar", "FileNotFoundException").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_keeps_several_versions_active_has_both_ready() -> Result<()> {
    let stage = Stage::set("roll-multi").await?;
    let bases = bases(&stage, 2, Activation::MultiActive).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 2, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let other = named(deployment(&stage, "biz1", 2, "2", &limits), "other");
    stage.apply(&other).await?;
    rolled_out(&stage, "deployment/other").await?;
    ready_pods(&stage, "1", 2).await?;
    ready_pods(&stage, "2", 2).await?;

    stage.apply(&deployment(&stage, "biz1", 2, "3", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "3", 2).await?;
    ready_pods(&stage, "2", 2).await?;
    stage.kubectl(&["delete", "deployment", "other"]).await?;
    alone(&bases, "biz1", "3", SOON).await?;
    for base in bases.iter() {
        let mut told = told(base, "biz1");
        told.sort(); // when a Pod goes is not for us to say
        assert_eq!(told, ["install 1", "install 2", "install 3", "uninstall 1", "uninstall 2"], "{}", base.identity());
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_uninstalls_and_then_installs() -> Result<()> {
    let stage = Stage::set("roll-daemon").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    stage.apply(&workload(&stage, "DaemonSet", "biz1", None, "1")).await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    serving(&bases, "biz1", "1", SOON).await?;
    stage.apply(&workload(&stage, "DaemonSet", "biz1", None, "2")).await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    serving(&bases, "biz1", "2", SOON).await?;
    stage.kubectl(&["rollout", "undo", "daemonset/biz1"]).await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    serving(&bases, "biz1", "1", SOON).await?;
    for base in bases.iter() {
        let quiet = ["install 1", "uninstall 1", "install 2", "uninstall 2", "install 1"];
        assert_eq!(told(base, "biz1"), quiet, "{}", base.identity());
    }
    // A base that comes later gets it too.
    let late = stage.base(stage.base_options("late")).await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    serving(std::slice::from_ref(&late), "biz1", "1", SOON).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_updates_one_after_the_other() -> Result<()> {
    let stage = Stage::set("roll-stateful").await?;
    let bases = bases(&stage, 2, Activation::Default).await?;
    let set = |version: &str| {
        // No two of its Pods on one base, whatever their version: each finds the place it had.
        spread(workload(&stage, "StatefulSet", "biz1", Some(2), version), &["module.koupleless.io/name"])
    };
    stage.apply(&set("1")).await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    stage.apply(&set("2")).await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    alone(&bases, "biz1", "2", SOON).await?;
    stage.kubectl(&["rollout", "undo", "statefulset/biz1"]).await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    alone(&bases, "biz1", "1", SOON).await?;
    for base in bases.iter() {
        let quiet = ["install 1", "uninstall 1", "install 2", "uninstall 2", "install 1"];
        assert_eq!(told(base, "biz1"), quiet, "{}", base.identity());
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_scaled_and_edited() -> Result<()> {
    let stage = Stage::set("roll-replicas").await?;
    let bases = bases(&stage, 2, Activation::ActivateNew).await?;
    let set = |replicas: usize, version: &str| {
        spread(workload(&stage, "ReplicaSet", "biz1", Some(replicas), version), &["module.koupleless.io/name"])
    };
    stage.apply(&set(2, "1")).await?;
    ready_pods(&stage, "1", 2).await?;
    stage.apply(&set(0, "1")).await?;
    eventually("empty bases", SOON, async || bases.iter().all(|b| b.modules().is_empty())).await?;
    stage.apply(&set(2, "1")).await?;
    ready_pods(&stage, "1", 2).await?;
    // Its template counts for the Pods to come: whoever wants the update deletes the old ones.
    stage.apply(&set(2, "2")).await?;
    stage.kubectl(&["delete", "pods", "-l", "module.koupleless.io/version=1"]).await?;
    ready_pods(&stage, "2", 2).await?;
    alone(&bases, "biz1", "2", SOON).await?;
    for base in bases.iter() {
        let quiet = ["install 1", "uninstall 1", "install 1", "uninstall 1", "install 2"];
        assert_eq!(told(base, "biz1"), quiet, "{}", base.identity());
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_pod_takes_over_and_nothing_comes_back_when_it_goes() -> Result<()> {
    let stage = Stage::set("roll-bare").await?;
    let bases = bases(&stage, 1, Activation::Default).await?;
    for (pod, version) in [("old", "1"), ("new", "2")] {
        stage.create_pod(crate::stage::module_pod(&stage.name, pod, &[("biz1", version)])).await?;
        stage.pod_ready(pod).await?;
    }
    stage.pod_until("old", "Failed", |pod| crate::stage::phase(pod) == "Failed").await?;
    stage.delete_pod("new").await?;
    eventually("an empty base", SOON, async || bases[0].modules().is_empty()).await?;
    let quiet = ["install 1", "install 2", "install 2", "switch 2", "uninstall 2"];
    told_no_more_than(&bases[0], "biz1", &quiet, QUIET).await?;
    stage.ends_quietly().await
}
