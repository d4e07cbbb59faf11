//! Workloads over a base that blinks, a controller that is away, and owners that are no Deployments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::{UNREACHABLE_AFTER, impatient, lasts, told_becomes},
    peers,
    stage::{SOON, Stage, container_reason, is_ready, module_pod},
    workloads::{Gaps, alone, bases, deployment, ready_pods, rolled_out, serving, told, told_no_more_than, workload},
};

const QUIET: Duration = Duration::from_secs(3);

async fn peer_stage(name: &str, dead_after: &str) -> Result<(Stage, Vec<SimulatedBase>)> {
    let stage = Stage::set_with(name, |options| impatient(options).env("MODULET_DEAD_AFTER", dead_after)).await?;
    let mut bases = Vec::new();
    for id in ["one", "two", "three", "four"] {
        bases.push(stage.base(stage.base_options(id)).await?);
    }
    peers::applied(&stage).await?;
    ready_pods(&stage, "0.0.1", bases.len()).await?;
    stage.ends_quietly().await?;
    Ok((stage, bases))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_silent_for_a_moment_keeps_its_peer_modules() -> Result<()> {
    let (stage, bases) = peer_stage("fault-blip", "300").await?;
    let generation = peers::generation(&stage).await?;
    let (stays, blinks) = (&bases[0], &bases[1]);
    blinks.hang();
    stage.node_ready(&stage.node_name("two"), "Unknown").await?;
    lasts(UNREACHABLE_AFTER).await;
    assert_eq!(peers::generation(&stage).await?, generation, "the Deployment was scaled for a blip");
    blinks.resume();
    stage.node_ready(&stage.node_name("two"), "True").await?;
    ready_pods(&stage, "0.0.1", bases.len()).await?;
    for base in [stays, blinks] {
        told_no_more_than(base, "biz1", &["install 0.0.1"], QUIET).await?;
    }
    assert_eq!(peers::generation(&stage).await?, generation);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_deployment_shrinks_when_a_node_is_gone_and_grows_at_once() -> Result<()> {
    let (stage, bases) = peer_stage("fault-shrinks", "3").await?;
    let replicas = async || {
        let text = stage.kubectl(&["get", "deployment", "biz1", "-o", "jsonpath={.spec.replicas}"]).await?;
        anyhow::Ok(text.trim().parse::<usize>()?)
    };
    bases[3].kill();
    stage.node_gone(&stage.node_name("four")).await?;
    eventually("one less", SOON, async || {
        let now = replicas().await?;
        ensure!(now == 3, "{now}");
        Ok(())
    })
    .await?;
    bases[3].restart().await?;
    eventually("one more", SOON, async || {
        let now = replicas().await?;
        ensure!(now == 4, "{now}");
        Ok(())
    })
    .await?;
    ready_pods(&stage, "0.0.1", bases.len()).await?;
    for base in &bases[..3] {
        told_no_more_than(base, "biz1", &["install 0.0.1"], QUIET).await?;
    }
    stage.ends_quietly().await
}

/// For so long that Kubernetes calls the Nodes unreachable, and evicts what tolerates that for a second only.
#[tokio::test(flavor = "multi_thread")]
async fn modules_that_served_while_we_were_away_serve_on_when_we_are_back() -> Result<()> {
    const EVICTED: Duration = Duration::from_secs(120);
    let mut stage = Stage::set_with("fault-away", impatient).await?;
    // Kubernetes evicts nothing where it sees no healthy Node at all.
    let healthy = Stage::set("fault-away-others").await?;
    let _healthy = healthy.base(healthy.base_options("base-1")).await?;
    let bases = bases(&stage, 2, Activation::Default).await?;
    let mut release = deployment(&stage, "biz1", 2, "1", &json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    let tolerations = release["spec"]["template"]["spec"]["tolerations"].as_array_mut().context("none")?;
    for key in ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"] {
        tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 }));
    }
    stage.apply(&release).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    serving(&bases, "biz1", "1", SOON).await?;
    stage.ends_quietly().await?;
    let before: Vec<_> = stage.pods_with("app=biz1").await?.into_iter().filter_map(|p| p.metadata.uid).collect();
    let gaps = Gaps::watch(&bases, "biz1");
    stage.controller.kill9().await?;
    eventually("all evicted", EVICTED, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let evicted = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_some()).count();
        ensure!(evicted == before.len(), "{evicted} of {}", pods.len());
        Ok(())
    })
    .await?;
    stage.controller.restart().await?;
    eventually("their successors Ready", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let new = pods.iter().filter(|p| p.metadata.uid.as_ref().is_some_and(|uid| !before.contains(uid)));
        let ready = new.filter(|p| is_ready(p)).count();
        ensure!(ready == 2 && pods.len() == 2, "{ready} of {}", pods.len());
        Ok(())
    })
    .await?;
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which nothing served");
    for base in bases.iter() {
        told_no_more_than(base, "biz1", &["install 1"], QUIET).await?;
    }
    drop(gaps);
    healthy.ends_quietly().await?;
    stage.ends_quietly().await
}

/// A ReplicaSet as Argo Rollouts makes one, with a stand-in for the Rollout.
fn replica_set(stage: &Stage, revision: u32, version: &str, replicas: usize) -> Value {
    let mut set = workload(stage, "ReplicaSet", "biz1", Some(replicas), version);
    let name = format!("biz1-{version}");
    set["metadata"] = json!({
        "name": name,
        "annotations": { "rollout.argoproj.io/revision": revision.to_string() },
        "ownerReferences": [{
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "biz1", "controller": true,
            "uid": "11111111-2222-3333-4444-555555555555",
        }],
    });
    let hash = "rollouts-pod-template-hash";
    set["spec"]["selector"]["matchLabels"][hash] = json!(version);
    set["spec"]["template"]["metadata"]["labels"][hash] = json!(version);
    // As its controller makes it: with the labels of the template.
    set["metadata"]["labels"] = set["spec"]["template"]["metadata"]["labels"].clone();
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_no_deployment_can_be_undone() -> Result<()> {
    let stage = Stage::set_with("fault-rollout", impatient).await?;
    let base = stage.base(BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") }).await?;
    stage.apply(&replica_set(&stage, 1, "1", 1)).await?;
    ready_pods(&stage, "1", 1).await?;
    stage.apply(&replica_set(&stage, 2, "2", 1)).await?;
    ready_pods(&stage, "2", 1).await?;
    stage.apply(&replica_set(&stage, 1, "1", 0)).await?;
    alone(std::slice::from_ref(&base), "biz1", "2", SOON).await?;
    // Undone: the older one has the higher revision, and a Pod before the other's goes.
    stage.apply(&replica_set(&stage, 3, "1", 1)).await?;
    eventually("the older version takes over", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/version=1").await?;
        let states: Vec<_> = pods.iter().map(|p| (is_ready(p), container_reason(p).map(str::to_owned))).collect();
        ensure!(pods.iter().any(is_ready), "{states:?}");
        Ok(())
    })
    .await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated));
    stage.apply(&replica_set(&stage, 2, "2", 0)).await?;
    alone(std::slice::from_ref(&base), "biz1", "1", SOON).await?;
    told_becomes(&base, "biz1", &["install 1", "install 2", "uninstall 1", "install 1", "uninstall 2"]).await?;
    stage.ends_quietly().await
}

/// What OpenKruise makes for a workload: a `ControllerRevision` for each template, and Pods that name theirs in a label.
async fn revision(stage: &Stage, kind: &str, module: &str, number: i64) -> Result<()> {
    let owner = json!([{
        "apiVersion": "apps.kruise.io/v1alpha1", "kind": kind, "name": module, "controller": true,
        "uid": format!("22222222-3333-4444-5555-{module:0>12}"),
    }]);
    let name = format!("{module}-r{number}");
    stage
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": number,
            "metadata": { "name": name, "ownerReferences": owner, "labels": { "controller-revision-hash": name } },
        }))
        .await?;
    let version = number.to_string();
    let mut pod = module_pod(&stage.name, &format!("{module}-{number}"), &[(module, &version)]);
    pod["metadata"]["ownerReferences"] = owner;
    pod["metadata"]["labels"]["controller-revision-hash"] = json!(name);
    stage.create_pod(pod).await?;
    stage.pod_ready(&format!("{module}-{number}")).await.map(drop)
}

/// A `CloneSet` and an advanced `DaemonSet`, with stand-ins for both: the newer revision takes over, the older Pod gives way.
#[tokio::test(flavor = "multi_thread")]
async fn workloads_of_openkruise_are_released_by_their_revisions() -> Result<()> {
    let stage = Stage::set_with("fault-kruise", impatient).await?;
    let base = stage.base(BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") }).await?;
    for (kind, module) in [("CloneSet", "biz1"), ("DaemonSet", "biz2")] {
        revision(&stage, kind, module, 1).await?;
        revision(&stage, kind, module, 2).await?;
        let old = format!("{module}-1");
        stage.pod_until(&old, "superseded", |pod| container_reason(pod) == Some("BizDeactivate")).await?;
        stage.delete_pod(&old).await?;
        alone(std::slice::from_ref(&base), module, "2", SOON).await?;
        told_becomes(&base, module, &["install 1", "install 2", "uninstall 1"]).await?;
        stage.delete_pod(&format!("{module}-2")).await?;
    }
    stage.ends_quietly().await
}

/// With room beside the old Pod the new one finds its version running.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_same_version_starts_the_module_anew_or_says_that_it_does_not() -> Result<()> {
    let stage = Stage::set_with("fault-restart", impatient).await?;
    let bases = bases(&stage, 1, Activation::Default).await?;
    let mut release = workload(&stage, "Deployment", "biz1", Some(1), "1");
    release["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    stage.apply(&release).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    stage.kubectl(&["rollout", "restart", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let new = eventually("only the new Pod", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        ensure!(pods.len() == 1, "{}", pods.len());
        pods[0].metadata.name.clone().context("no name")
    })
    .await?;
    eventually("a start or a word", Duration::from_secs(10), async || {
        let (started, told) = (told(&bases[0], "biz1").len() > 1, stage.told_about(&new).await?);
        let said = told.iter().any(|text| text.contains("not started") || text.contains("already"));
        ensure!(started || said, "{told:?}");
        Ok(())
    })
    .await?;
    // And at the Deployment, where who restarted it looks.
    eventually("a word at the Deployment", Duration::from_secs(10), async || {
        let text = stage.kubectl(&["describe", "deployment", "biz1"]).await?;
        ensure!(text.contains("AlreadyRunning"), "{text}");
        Ok(())
    })
    .await?;
    stage.ends_quietly().await
}

/// Everything is ordered twice; whoever does not see that in the modules sees it here.
#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_of_one_environment_are_noticed_and_said() -> Result<()> {
    let stage = Stage::set("fault-two").await?;
    let options = modulet_testkit::controller::ControllerOptions::new(
        env!("CARGO_BIN_EXE_modulet"),
        stage.cluster.kubeconfig(),
        stage.broker.address(),
    );
    let second = modulet_testkit::controller::Controller::start(
        // One that does not ask who leads, as controllers of before did not.
        options.env("ENV", &stage.name).env("CLIENT_ID", "the-second-of-one").env("MODULET_LEADER_ELECTION", "false"),
    )
    .await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    // Each release is written by both, and who writes on for ten seconds is no predecessor on its way out.
    let number = std::sync::atomic::AtomicUsize::new(0);
    eventually("both say it", Duration::from_secs(60), async || {
        let next = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        stage.create_pod(crate::faults_help::bound(&stage, "base-1", &format!("biz{next}"), "1")).await?;
        for controller in [&stage.controller, &second] {
            let contested = controller.metric("modulet_other_controller", &[]).await?;
            ensure!(contested > 0.0, "{contested}");
        }
        Ok(())
    })
    .await?;
    stage.log_line(&["WARN", "another controller of this environment"]).await?;
    let record = format!("modulet-ordered.{}", stage.name);
    eventually("the Event", SOON, async || {
        let of = format!("involvedObject.name={record}");
        let events = stage.kubectl(&["get", "events", "-n", "default", "--field-selector", &of]).await?;
        ensure!(events.contains("AnotherController"), "{events}");
        Ok(())
    })
    .await?;
    stage.ends_without_quiet("two controllers are at work");
    Ok(())
}
