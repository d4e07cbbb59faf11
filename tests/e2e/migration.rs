//! From the Go module-controller: what it left in the cluster and on the broker, and what modulet makes of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    broker::Spy,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, is_ready, phase};

/// The host of the base, which the Go controller writes into `kubernetes.io/hostname`.
const HOST: &str = "machine-7";

/// A base with the modules that the Go controller has installed, and one that nobody of Kubernetes has.
async fn base_in_use(stage: &Stage) -> Result<SimulatedBase> {
    let base = SimulatedBase::start(BaseOptions {
        cluster: "default".into(),
        host_name: HOST.into(),
        ip: "192.0.2.7".into(),
        activation: Activation::ActivateNew,
        heartbeat: Duration::from_secs(1),
        ..stage.base_options("base-1")
    })
    .await?;
    for module in ["biz1", "biz2", "by-hand"] {
        base.install_by_hand(module, "0.0.1");
    }
    Ok(base)
}

/// As `buildNode` and `MergeNodeFromProvider` of `koupleless/virtual-kubelet` make it, for a JVM without a limit.
fn node_of_the_go_controller(stage: &Stage) -> Value {
    let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status });
    json!({
        "metadata": { "name": stage.node_name("base-1"), "labels": {
            "type": "virtual-kubelet", "kubernetes.io/role": "agent", "kubernetes.io/hostname": HOST,
            "base.koupleless.io/name": stage.name, "base.koupleless.io/version": "1.0.0",
            "base.koupleless.io/cluster-name": "default", "base.koupleless.io/host-name": HOST,
            "virtual-kubelet.koupleless.io/component": "vnode", "virtual-kubelet.koupleless.io/env": stage.name,
        } },
        "spec": { "taints": [
            { "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" },
            { "key": "schedule.koupleless.io/node-env", "value": stage.name, "effect": "NoExecute" },
        ] },
        "status": {
            "phase": "Running",
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.7" }, { "type": "Hostname", "address": HOST }],
            "capacity": { "pods": "65535", "memory": "0" },
            "allocatable": { "pods": "65535", "memory": "0" },
            "conditions": [
                condition("Ready", "True"), condition("MemoryPressure", "False"), condition("DiskPressure", "False"),
                condition("PIDPressure", "False"), condition("NetworkUnavailable", "False"),
            ],
        },
    })
}

/// As `NewLease` makes it.
fn lease_of_the_go_controller(stage: &Stage) -> Value {
    json!({
        "metadata": { "name": stage.node_name("base-1"), "labels": {
            "virtual-kubelet.koupleless.io/component": "vnode-lease", "virtual-kubelet.koupleless.io/env": stage.name,
        } },
        "spec": {
            "holderIdentity": "the-go-controller", "leaseDurationSeconds": 40,
            "renewTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        },
    })
}

/// The manifest of its quick start (`example/quick-start/module.yaml`), for the bases of this stage.
fn manifest(stage: &Stage, module: &str, version: &str) -> Value {
    let within = |key: &str, value: &str| json!({ "key": format!("base.koupleless.io/{key}"), "operator": "In", "values": [value] });
    let terms = json!([{ "matchExpressions": [
        within("name", &stage.name), within("version", "1.0.0"), within("cluster-name", "default")] }]);
    let tolerated = |key: &str, value: &str| json!({ "key": format!("schedule.koupleless.io/{key}"), "operator": "Equal", "value": value, "effect": "NoExecute" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": module, "labels": { "virtual-kubelet.koupleless.io/component": "module-deployment" },
        },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "module": module } },
            "template": {
                "metadata": { "labels": { "module": module, "virtual-kubelet.koupleless.io/component": "module" } },
                "spec": {
                    "containers": [{
                        "name": module, "image": crate::stage::url(module, version),
                        "env": [{ "name": "BIZ_VERSION", "value": version }],
                    }],
                    "affinity": { "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } },
                    "tolerations": [tolerated("virtual-node", "True"), tolerated("node-env", &stage.name)],
                },
            },
        },
    })
}

/// As `GetPodStatus` makes it of a module that is activated; its merge patch leaves no other condition.
fn status_by_the_go_controller(pod: &Pod) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
    let condition =
        |type_: &str| json!({ "type": type_, "status": "True", "lastProbeTime": now, "lastTransitionTime": null });
    json!({ "status": {
        "phase": "Running", "podIP": "192.0.2.7", "podIPs": [{ "ip": "192.0.2.7" }],
        "conditions": [condition("Ready"), condition("ContainersReady")],
        "containerStatuses": [{
            "name": container.name, "containerID": container.name, "image": container.image, "imageID": container.image,
            "ready": true, "started": true, "restartCount": 0, "state": { "running": { "startedAt": now } },
        }],
    } })
}

/// The one Pod of a Deployment, bound to the base.
async fn bound(stage: &Stage, module: &str) -> Result<Pod> {
    eventually(&format!("a Pod of {module} on the base"), SOON, async || {
        let pod = stage.pods_with(&format!("module={module}")).await?.pop().context("no Pod")?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        ensure!(node == Some(stage.node_name("base-1")), "{node:?}: {}", json!(pod.status));
        Ok(pod)
    })
    .await
}

/// A cluster that the Go controller has served, and has just left; modulet does not run yet.
async fn left(stage: &Stage) -> Result<()> {
    let node: Node = serde_json::from_value(node_of_the_go_controller(stage))?;
    stage.nodes().create(&PostParams::default(), &node).await?;
    let leases = Api::<Lease>::namespaced(stage.client.clone(), "kube-node-lease");
    leases.create(&PostParams::default(), &serde_json::from_value(lease_of_the_go_controller(stage))?).await?;
    for module in ["biz1", "biz2"] {
        stage.apply(&manifest(stage, module, "0.0.1")).await?;
        let pod = bound(stage, module).await?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = status_by_the_go_controller(&pod);
        stage.pods().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(())
}

async fn held_by_modulet(stage: &Stage) -> Result<()> {
    let leases = Api::<Lease>::namespaced(stage.client.clone(), "kube-node-lease");
    eventually("its Lease held by modulet", SOON, async || {
        let holder = leases.get(&stage.node_name("base-1")).await?.spec.and_then(|spec| spec.holder_identity);
        ensure!(holder.as_deref() == Some("modulet-under-test"), "{holder:?}");
        Ok(())
    })
    .await
}

/// What modulet told bases to do to modules; what another controller left on the broker is retained.
fn told(spy: &Spy) -> Vec<String> {
    let orders = |topic: &str| topic.ends_with("/installBiz") || topic.ends_with("/uninstallBiz");
    let told = spy.messages().into_iter().filter(|m| !m.retained && orders(&m.topic));
    told.map(|m| format!("{} {}", m.topic.rsplit('/').next().unwrap_or_default(), m.json()["bizName"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_go_controller_left_is_taken_over_without_a_command_and_is_modulets_from_then_on() -> Result<()> {
    let mut stage = Stage::set("migration").await?;
    stage.controller.terminate().await?;
    left(&stage).await?;
    let base = base_in_use(&stage).await?;
    let spy = Spy::start(stage.broker.address(), "koupleless_migration/#").await?;

    stage.controller.restart().await?;
    let name = stage.node_name("base-1");
    held_by_modulet(&stage).await?;
    stage.ends_quietly().await?;
    let node = json!(stage.node_ready(&name, "True").await?);
    let taints = node["spec"]["taints"].to_string();
    assert!(taints.contains("virtual-node") && !taints.contains("node-env"), "{taints}");
    assert_ne!(node["status"]["allocatable"]["memory"], "0", "a JVM without a limit has room");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], json!(name));
    for module in ["biz1", "biz2"] {
        let pod = bound(&stage, module).await?;
        assert!(is_ready(&pod) && phase(&pod) == "Running", "{}", json!(pod.status));
    }
    assert_eq!(told(&spy), [""; 0], "what runs is left as it is");

    // The manifest that was written for the Go controller is scheduled; what it installs is one install.
    stage.apply(&manifest(&stage, "biz3", "0.0.1")).await?;
    base.wait_for_state("biz3", "0.0.1", Some(BizState::Activated), SOON).await?;
    // The spy has a connection of its own, and may hear it a moment later.
    eventually("one install", SOON, async || {
        let told = told(&spy);
        ensure!(told == ["installBiz \"biz3\""], "{told:?}");
        Ok(())
    })
    .await?;

    // A module that was taken over is updated and removed as any other.
    stage.apply(&manifest(&stage, "biz1", "0.0.2")).await?;
    base.wait_for_state("biz1", "0.0.1", None, SOON * 2).await?;
    assert_eq!(base.state_of("biz1", "0.0.2"), Some(BizState::Activated));
    for module in ["biz1", "biz2"] {
        stage.kubectl(&["delete", "deployment", module]).await?;
    }
    base.wait_for_state("biz2", "0.0.1", None, SOON).await?;
    base.wait_for_state("biz1", "0.0.2", None, SOON).await?;
    stage.ends_quietly().await?;
    let expected = ["biz3", "by-hand"].map(|module| (module.to_owned(), "0.0.1".to_owned(), BizState::Activated));
    assert_eq!(base.modules(), expected, "what no Pod ever asked for is left alone");
    assert_eq!(told(&spy).len(), 5, "{:?}", told(&spy));
    stage.ends_quietly().await
}

/// It publishes every command retained: a base carries them out again each time it connects.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_the_go_controller_left_on_the_broker_are_seen_and_cleared_as_documented() -> Result<()> {
    let mut stage = Stage::set("migration-kept").await?;
    stage.controller.terminate().await?;
    left(&stage).await?;
    let spy = Spy::start(stage.broker.address(), "koupleless_migration-kept/#").await?;
    let order = json!({ "bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": crate::stage::url("biz1", "0.0.1") });
    let of_base = |command: &str| format!("koupleless_migration-kept/base-1/{command}");
    spy.publish_retained(&of_base("installBiz"), order.to_string()).await?;
    let removed = json!({ "bizName": "biz9", "bizVersion": "0.0.1" });
    spy.publish_retained(&of_base("uninstallBiz"), removed.to_string()).await?;
    spy.publish_retained(&of_base("health"), "{}").await?;
    spy.wait_for("all of it", SOON, |all| (all.len() == 3).then_some(())).await?;

    let checked = async || {
        let address = stage.broker.address();
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_modulet"))
            .env_clear()
            .envs([("ENV", "migration-kept"), ("MQTT_BROKER", &address.host), ("MQTT_PORT", &address.port.to_string())])
            .envs([("MQTT_USERNAME", &address.username), ("MQTT_PASSWORD", &address.password)])
            .env("KUBECONFIG", stage.cluster.kubeconfig())
            .args(["check", "--listen", "0"])
            .output()
            .await?;
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    let said = checked().await?;
    let line = said.lines().find(|line| line.contains("keeps 3 commands")).with_context(|| said.clone())?;
    assert!(line.contains("[warning]") && line.contains("base-1/installBiz"), "{line}");
    assert!(said.contains("the-go-controller (1 Nodes) holds the bases"), "{said}");
    assert!(said.contains("kept by a controller that is not modulet"), "{said}");

    // modulet lives with them, whenever the base connects.
    let base = base_in_use(&stage).await?;
    stage.controller.restart().await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    stage.ends_quietly().await?;
    assert!(is_ready(&bound(&stage, "biz1").await?));
    assert_eq!(base.received("uninstallBiz"), 1, "the broker's, not modulet's");

    // As `mosquitto_pub --retain --null-message` does it.
    for command in ["installBiz", "uninstallBiz", "health"] {
        spy.publish_retained(&of_base(command), "").await?;
    }
    eventually("nothing kept", SOON, async || {
        let said = checked().await?;
        ensure!(!said.contains("keeps"), "{said}");
        Ok(())
    })
    .await?;
    base.restart().await?;
    stage.ends_quietly().await
}

/// Where it hears a base first. It lets go of a Node whose Lease somebody else holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_go_controller_at_work_beside_modulet_is_noticed_and_nobody_fights() -> Result<()> {
    let stage = Stage::set("migration-beside").await?;
    assert!(stage.controller.metric("modulet_other_controller", &[]).await? < 1.0);
    left(&stage).await?;
    let base = base_in_use(&stage).await?;
    let name = stage.node_name("base-1");
    stage.log_line(&["WARN", "another controller of this environment is at work", &name]).await?;
    eventually("the metric", SOON, async || {
        let noticed = stage.controller.metric("modulet_other_controller", &[]).await?;
        ensure!(noticed > 0.0, "{noticed}");
        Ok(())
    })
    .await?;
    let of = format!("involvedObject.name=modulet-ordered.{}", stage.name);
    eventually("the Event", SOON, async || {
        let events = stage.kubectl(&["get", "events", "-n", "default", "--field-selector", &of]).await?;
        ensure!(events.contains("AnotherController") && events.contains(&name), "{events}");
        Ok(())
    })
    .await?;
    held_by_modulet(&stage).await?;
    assert!(is_ready(&bound(&stage, "biz1").await?));
    assert_eq!(base.received("installBiz") + base.received("uninstallBiz"), 0, "what runs is left as it is");
    stage.ends_quietly().await
}
