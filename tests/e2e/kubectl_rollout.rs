//! What the commands that people release with do to modules: rollout, scale, drain and autoscaling.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{Activation, BaseOptions, SimulatedBase},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, is_ready},
    workloads::{alone, deployment, serves, spread, told, told_no_more_than, workload},
};

/// What needs no command does not get one within this time.
const QUIET: Duration = Duration::from_secs(2);

async fn bases(stage: &Stage, count: usize) -> Result<Vec<SimulatedBase>> {
    let mut bases = Vec::new();
    for number in 1..=count {
        let id = format!("base-{number}");
        let options = BaseOptions { activation: Activation::ActivateNew, ..stage.base_options(&id) };
        bases.push(stage.base(options).await?);
    }
    Ok(bases)
}

async fn rolled_out(stage: &Stage) -> Result<String> {
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=60s"]).await
}

/// One more, none less: as the examples have it.
fn careful(stage: &Stage, replicas: usize, version: &str) -> Value {
    deployment(stage, "biz1", replicas, version, &json!({ "maxSurge": 1, "maxUnavailable": 0 }))
}

/// The same, with at most one Pod of each template on a base, whatever its version.
fn one_of_each_template(mut deployment: Value) -> Value {
    let term = json!([{
        "labelSelector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
        "matchLabelKeys": ["pod-template-hash"],
        "topologyKey": "topology.kubernetes.io/zone",
    }]);
    let affinity = &mut deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = term;
    deployment
}

async fn released(stage: &Stage, bases: &[SimulatedBase], deployment: &Value, version: &str) -> Result<()> {
    stage.apply(deployment).await?;
    rolled_out(stage).await?;
    alone(bases, "biz1", version, SOON).await
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a str> {
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.find(|c| c.type_ == type_).and_then(|c| c.message.as_deref())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_why_and_undo_goes_back_to_any_revision() -> Result<()> {
    let stage = Stage::set("rollout-history").await?;
    let bases = bases(&stage, 2).await?;
    for version in ["1", "2", "3"] {
        let mut release = careful(&stage, 2, version);
        release["metadata"]["annotations"] = json!({ "kubernetes.io/change-cause": format!("release {version}") });
        released(&stage, &bases, &release, version).await?;
    }
    let history = stage.kubectl(&["rollout", "history", "deployment/biz1"]).await?;
    let revision = |number: u32, cause: &str| {
        history.lines().any(|l| l.split_whitespace().next() == Some(&number.to_string()) && l.ends_with(cause))
    };
    assert!(revision(1, "release 1") && revision(2, "release 2") && revision(3, "release 3"), "{history}");
    let one = stage.kubectl(&["rollout", "history", "deployment/biz1", "--revision=2"]).await?;
    assert!(one.contains("BIZ_VERSION:\t2") && one.contains("biz1-2-ark-biz.jar"), "{one}");

    stage.kubectl(&["rollout", "undo", "deployment/biz1", "--to-revision=1"]).await?;
    rolled_out(&stage).await?;
    alone(&bases, "biz1", "1", SOON).await?;
    let history = stage.kubectl(&["rollout", "history", "deployment/biz1"]).await?;
    let last = history.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
    assert!(last.starts_with('4') && last.ends_with("release 1"), "revision 1 is revision 4 now: {history}");
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage).await?;
    alone(&bases, "biz1", "3", SOON).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_room_beside_the_old_pods_touches_no_base() -> Result<()> {
    let stage = Stage::set("rollout-restart").await?;
    let bases = bases(&stage, 2).await?;
    released(&stage, &bases, &one_of_each_template(careful(&stage, 2, "1")), "1").await?;
    let old = stage.pods_with("app=biz1").await?;
    stage.kubectl(&["rollout", "restart", "deployment/biz1"]).await?;
    rolled_out(&stage).await?;
    let pods = eventually("only new Pods", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        ensure!(pods.len() == 2 && pods.iter().all(is_ready), "{} Pods", pods.len());
        Ok(pods)
    })
    .await?;
    assert!(pods.iter().all(|pod| old.iter().all(|old| old.metadata.uid != pod.metadata.uid)));
    for base in &bases {
        told_no_more_than(base, "biz1", &["install 1"], QUIET).await?;
        assert!(serves(base, "biz1"));
    }
    // Nor does another environment alone: what runs is the version that was asked for.
    let mut blue = one_of_each_template(careful(&stage, 2, "1"));
    let variables = &mut blue["spec"]["template"]["spec"]["containers"][0]["env"];
    *variables = json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "COLOUR", "value": "blue" }]);
    released(&stage, &bases, &blue, "1").await?;
    for base in &bases {
        told_no_more_than(base, "biz1", &["install 1"], QUIET).await?;
    }
    // An update afterwards takes over everywhere, as ever.
    released(&stage, &bases, &one_of_each_template(careful(&stage, 2, "2")), "2").await?;
    for base in &bases {
        assert_eq!(told(base, "biz1"), ["install 1", "install 2", "uninstall 1"]);
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_may_take_pods_away_first_installs_anew() -> Result<()> {
    let stage = Stage::set("rollout-anew").await?;
    let bases = bases(&stage, 2).await?;
    let deployment = |env: &str| {
        let limits = json!({ "maxSurge": 0, "maxUnavailable": 1 });
        let mut deployment = deployment(&stage, "biz1", 2, "1", &limits);
        let variables = &mut deployment["spec"]["template"]["spec"]["containers"][0]["env"];
        *variables = json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "COLOUR", "value": env }]);
        deployment
    };
    released(&stage, &bases, &deployment("red"), "1").await?;
    stage.kubectl(&["rollout", "restart", "deployment/biz1"]).await?;
    rolled_out(&stage).await?;
    let twice = ["install 1", "uninstall 1", "install 1"];
    for base in &bases {
        told_no_more_than(base, "biz1", &twice, QUIET).await?;
    }
    // The same with a changed environment: it goes along with the new install.
    released(&stage, &bases, &deployment("blue"), "1").await?;
    for base in &bases {
        let last = base.commands().into_iter().rfind(|c| c.command == "installBiz").context("no install")?;
        assert!(last.payload.to_string().contains("blue"), "{}", last.payload);
    }
    stage.ends_quietly().await
}

/// Kubernetes' own doing: no base is left for a second Pod of the version, and no old one may go first.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_room_waits_and_harms_nothing_until_it_is_undone_or_given_room() -> Result<()> {
    let stage = Stage::set("rollout-stuck").await?;
    let bases = bases(&stage, 2).await?;
    released(&stage, &bases, &careful(&stage, 2, "1"), "1").await?;
    stage.kubectl(&["rollout", "restart", "deployment/biz1"]).await?;
    eventually("a Pod that has no place", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let why = pods.iter().find_map(|pod| condition(pod, "PodScheduled")).unwrap_or_default();
        ensure!(why.contains("didn't match pod anti-affinity rules"), "{why:?}");
        Ok(())
    })
    .await?;
    let pods = stage.pods_with("app=biz1").await?;
    assert_eq!(pods.iter().filter(|pod| is_ready(pod)).count(), 2, "the old Pods serve on");
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage).await?;
    eventually("no third Pod", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?.len();
        if pods == 2 { Ok(()) } else { bail!("{pods}") }
    })
    .await?;
    for base in &bases {
        assert_eq!(told(base, "biz1"), ["install 1"], "no base was told anything");
    }
    stage.kubectl(&["rollout", "restart", "deployment/biz1"]).await?;
    let room = r#"{ "spec": { "strategy": { "rollingUpdate": { "maxUnavailable": 1 } } } }"#;
    stage.kubectl(&["patch", "deployment", "biz1", "-p", room]).await?;
    rolled_out(&stage).await?;
    for base in &bases {
        told_no_more_than(base, "biz1", &["install 1", "uninstall 1", "install 1"], QUIET).await?;
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_installs_and_uninstalls() -> Result<()> {
    let stage = Stage::set("rollout-scale").await?;
    let bases = bases(&stage, 3).await?;
    stage.apply(&careful(&stage, 1, "1")).await?;
    let serving = || bases.iter().filter(|base| serves(base, "biz1")).count();
    for replicas in [1, 3, 2, 0] {
        stage.kubectl(&["scale", "deployment/biz1", &format!("--replicas={replicas}")]).await?;
        rolled_out(&stage).await?;
        eventually(&format!("{replicas} bases with it"), SOON, async || {
            if serving() == replicas { Ok(()) } else { bail!("{}", serving()) }
        })
        .await?;
    }
    for base in &bases {
        assert_eq!(told(base, "biz1"), ["install 1", "uninstall 1"], "{}", base.identity());
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_takes_no_more_modules_away_than_the_disruption_budget_allows() -> Result<()> {
    let stage = Stage::set("rollout-budget").await?;
    let bases = bases(&stage, 2).await?;
    released(&stage, &bases, &careful(&stage, 2, "1"), "1").await?;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "biz1" },
        "spec": { "minAvailable": 2, "selector": { "matchLabels": { "app": "biz1" } } },
    });
    stage.apply(&budget).await?;
    eventually("the budget counts both", SOON, async || {
        let healthy = ["get", "pdb", "biz1", "-o", "jsonpath={.status.currentHealthy}"];
        ensure!(stage.kubectl(&healthy).await? == "2");
        Ok(())
    })
    .await?;
    let node = stage.node_name("base-1");
    let refused = stage.kubectl(&["drain", &node, "--timeout=3s"]).await.err().context("drained")?.to_string();
    assert!(refused.contains("disruption budget"), "{refused}");
    assert_eq!(told(&bases[0], "biz1"), ["install 1"], "it serves on");

    // A third base and a third Pod: the budget has one to spare. What a DaemonSet put there stays.
    stage.apply(&workload(&stage, "DaemonSet", "biz2", None, "1")).await?;
    let third = stage.base(stage.base_options("base-3")).await?;
    stage.kubectl(&["scale", "deployment/biz1", "--replicas=3"]).await?;
    rolled_out(&stage).await?;
    assert!(serves(&third, "biz1"));
    stage.kubectl(&["rollout", "status", "daemonset/biz2", "--timeout=60s"]).await?;
    let refused = stage.kubectl(&["drain", &node, "--timeout=3s"]).await.err().context("drained")?.to_string();
    assert!(refused.contains("--ignore-daemonsets"), "{refused}");
    stage.kubectl(&["drain", &node, "--ignore-daemonsets", "--timeout=40s"]).await?;
    assert!(!serves(&bases[0], "biz1"), "drain ends when the module has gone");
    assert!(serves(&bases[0], "biz2"));
    assert!(serves(&bases[1], "biz1") && serves(&third, "biz1"));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_keeps_replicas_within_its_bounds() -> Result<()> {
    let stage = Stage::set("rollout-hpa").await?;
    let bases = bases(&stage, 3).await?;
    stage.apply(&careful(&stage, 1, "1")).await?;
    rolled_out(&stage).await?;
    let autoscaler = |min: usize, max: usize| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "biz1" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" },
                "minReplicas": min, "maxReplicas": max,
                // Nobody measures anything here: the bounds alone count.
                "metrics": [{ "type": "Object", "object": {
                    "describedObject": { "apiVersion": "v1", "kind": "Service", "name": "biz1" },
                    "metric": { "name": "requests" }, "target": { "type": "Value", "value": "100" },
                } }],
            },
        })
    };
    let serving = || bases.iter().filter(|base| serves(base, "biz1")).count();
    for (min, max, expected) in [(3, 3, 3), (1, 2, 2)] {
        stage.apply(&autoscaler(min, max)).await?;
        eventually(&format!("{expected} bases with it"), SOON, async || serving() == expected).await?;
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_sets_and_stateful_sets_are_restarted_one_after_the_other() -> Result<()> {
    let stage = Stage::set("rollout-sets").await?;
    let bases = bases(&stage, 2).await?;
    stage.apply(&workload(&stage, "DaemonSet", "biz1", None, "1")).await?;
    let stateful = workload(&stage, "StatefulSet", "biz2", Some(2), "1");
    stage.apply(&spread(stateful, &["module.koupleless.io/name"])).await?;
    for set in ["daemonset/biz1", "statefulset/biz2"] {
        stage.kubectl(&["rollout", "status", set, "--timeout=60s"]).await?;
        stage.kubectl(&["rollout", "restart", set]).await?;
        stage.kubectl(&["rollout", "status", set, "--timeout=60s"]).await?;
    }
    for base in &bases {
        for module in ["biz1", "biz2"] {
            told_no_more_than(base, module, &["install 1", "uninstall 1", "install 1"], QUIET).await?;
        }
    }
    stage.ends_quietly().await
}
