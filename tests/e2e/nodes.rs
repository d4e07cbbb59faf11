//! A base becomes a Node, and the Node tells the truth about it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{Api, api::DeleteParams};
use modulet_testkit::{
    base::{BaseOptions, BizState, SimulatedBase},
    broker::Spy,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, is_ready, log_line, module_pod};

fn labels(node: &Node) -> BTreeMap<String, String> {
    let mut labels = node.metadata.labels.clone().unwrap_or_default();
    labels.remove("beta.kubernetes.io/os"); // added by the control plane, some time
    labels
}

/// Kubernetes' own taints aside.
fn taints(node: &Node) -> Value {
    let all = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    json!(all.into_iter().filter(|t| t.key.starts_with("schedule.koupleless.io/")).collect::<Vec<_>>())
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|c| c["type"] == type_).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_its_base_is() -> Result<()> {
    let stage = Stage::set("node-says").await?;
    let options = BaseOptions {
        cluster: "blue".into(),
        host_name: "machine-7".into(),
        ip: "192.0.2.77".into(),
        version: "2.5.1".into(),
        metaspace: 268_435_456,
        ..stage.base_options("base-1")
    };
    let _base = stage.base(options).await?;
    let name = stage.node_name("base-1");
    let node = stage.nodes().get(&name).await?;

    let has = labels(&node);
    for (key, value) in [
        ("base.koupleless.io/name", "node-says"),
        ("base.koupleless.io/version", "2.5.1"),
        ("base.koupleless.io/cluster-name", "blue"),
        ("base.koupleless.io/host-name", "machine-7"),
        ("virtual-kubelet.koupleless.io/component", "vnode"),
        ("virtual-kubelet.koupleless.io/env", "node-says"),
        ("type", "virtual-kubelet"),
        ("kubernetes.io/hostname", &name),
        ("kubernetes.io/os", "jvm"),
        ("node.kubernetes.io/exclude-from-external-load-balancers", ""),
        ("base.koupleless.io/stack", "java"),
        ("vnode.koupleless.io/name", "node-says"),
        ("vnode.koupleless.io/version", "2.5.1"),
        ("vnode.koupleless.io/tunnel", "mqtt_tunnel_provider"),
        ("topology.kubernetes.io/zone", &name),
        ("node-role.kubernetes.io/base", ""),
    ] {
        assert_eq!(has.get(key).map(String::as_str), Some(value), "{key}");
    }
    let virtual_node = json!({ "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" });
    assert_eq!(taints(&node), json!([virtual_node]));

    let status = json!(node.status);
    for part in ["capacity", "allocatable"] {
        let plenty = json!({ "pods": "1k", "memory": "268435456", "cpu": "100k", "ephemeral-storage": "100T" });
        assert_eq!(status[part], plenty, "{part}");
    }
    let addresses = json!([
        { "type": "InternalIP", "address": "192.0.2.77" },
        { "type": "Hostname", "address": name },
    ]);
    assert_eq!(status["addresses"], addresses);
    let api_server = stage.client.apiserver_version().await?.git_version;
    let version = format!("{api_server}-modulet-v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(status["nodeInfo"]["kubeletVersion"], version);
    assert_eq!(condition(&status, "Ready")["status"], "True");
    for pressure in ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"] {
        assert_eq!(condition(&status, pressure)["status"], "False", "{pressure}");
    }

    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), "kube-node-lease");
    let first = eventually("a Lease", SOON, async || anyhow::Ok(leases.get(&name).await?)).await?;
    assert_eq!(json!(first.metadata.owner_references)[0]["uid"], json!(node.metadata.uid));
    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|s| s.renew_time.clone()).map(|t| t.0);
    eventually("the Lease renewed", SOON, async || {
        let again = leases.get(&name).await?;
        ensure!(renewed(&again) > renewed(&first), "it is from {:?}", renewed(&again));
        Ok(())
    })
    .await?;
    // Made once and then left alone: what the API server shows is what was written.
    for (result, most) in [("ok", 2.0), ("conflict", 0.0), ("refused", 0.0)] {
        let labels = [("kind", "node"), ("result", result)];
        let writes = stage.controller.metric("modulet_api_writes_total", &labels).await?;
        assert!(writes <= most, "{writes} writes of the Node were {result}");
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jvm_without_a_limit_has_memory_in_plenty_and_the_env_taint_comes_only_when_switched_on() -> Result<()> {
    let stage = Stage::set_with("node-taint", |options| {
        options.env("MODULET_ENV_TAINT", "true").env("MODULET_ZONE_PER_BASE", "false").env("MODULET_MAX_PODS", "7")
    })
    .await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let node = stage.nodes().get(&stage.node_name("base-1")).await?;
    assert_eq!(
        taints(&node),
        json!([
            { "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" },
            { "key": "schedule.koupleless.io/node-env", "value": "node-taint", "effect": "NoExecute" },
        ])
    );
    assert_eq!(labels(&node).get("topology.kubernetes.io/zone"), None);
    let capacity = json!({ "pods": "7", "memory": "100T", "cpu": "100k", "ephemeral-storage": "100T" });
    assert_eq!(json!(node.status)["capacity"], capacity);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_that_make_no_node_are_refused_with_a_warning() -> Result<()> {
    let stage = Stage::set("node-refused").await?;
    let long = "a".repeat(60);
    let mut bases = Vec::new();
    for id in ["Base-1", "group/base-1", "base_1", &long] {
        bases.push(SimulatedBase::start(stage.base_options(id)).await?);
        stage.log_line(&["WARN", "refused", id]).await?;
    }
    let bad_label = BaseOptions { name: "a name".into(), ..stage.base_options("labels") };
    bases.push(SimulatedBase::start(bad_label).await?);
    stage.log_line(&["WARN", "refused", "a name"]).await?;

    let spy = Spy::start(stage.broker.address(), "koupleless_node-refused/+/base/heart").await?;
    let honest = stage.base(stage.base_options("honest")).await?;
    let beat = |all: &[modulet_testkit::broker::Message]| {
        all.iter().find(|m| m.topic.contains("/honest/")).map(modulet_testkit::broker::Message::text)
    };
    let text = spy.wait_for("a heartbeat", SOON, beat).await?;
    spy.publish("koupleless_node-refused/liar/base/heart", text).await?;
    stage.log_line(&["WARN", "refused", "liar", "honest"]).await?;

    for (reason, least) in [("identity", 4.0), ("malformed", 1.0), ("label", 1.0)] {
        let count = stage.controller.metric("modulet_messages_refused_total", &[("name", reason)]).await?;
        assert!(count >= least, "{reason}: {count}");
    }
    let all =
        stage.kubectl(&["get", "nodes", "-l", "virtual-kubelet.koupleless.io/env=node-refused", "-o", "name"]).await?;
    assert_eq!(all.trim(), "node/vnode.honest.node-refused");
    assert!(honest.connected());
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_base_is_not_ready_within_30_seconds_and_ready_again_when_it_answers() -> Result<()> {
    let stage = Stage::set("node-hangs").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let node = stage.node_name("base-1");
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")])).await?;
    stage.pod_ready("biz1").await?;

    base.hang();
    let hung = std::time::Instant::now();
    let silent = stage.node_ready(&node, "Unknown").await?;
    let took = hung.elapsed();
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert_eq!(condition(&json!(silent.status), "Ready")["reason"], "BaseUnreachable");
    stage.pod_until("biz1", "not Ready", |pod| !is_ready(pod)).await?;

    base.resume();
    stage.node_ready(&node, "True").await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(base.received("installBiz"), 1);
    assert_eq!(base.received("uninstallBiz"), 0);
    let events = stage
        .kubectl(&["-n", "default", "get", "events", "--field-selector", &format!("involvedObject.name={node}")])
        .await?;
    assert!(events.contains("BaseUnreachable") && events.contains("BaseReady"), "{events}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_heart_stopped_but_that_answers_stays_ready() -> Result<()> {
    let stage = Stage::set_with("node-heartless", |options| options.env("MODULET_UNREACHABLE_AFTER", "5")).await?;
    // The heartbeat of its start is the only one.
    let options = BaseOptions { heartbeat: Duration::from_hours(1), ..stage.base_options("base-1") };
    let base = stage.base(options).await?;
    let asked = base.received("health");
    // Each question means that the base was silent for 2 s.
    base.wait_for_commands("health", asked + 6, SOON).await?;
    assert_eq!(base.counters().heartbeats, 1);
    assert_eq!(log_line(&stage.controller, &["state=Unreachable"]), None);
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_deleted_by_somebody_else_is_made_again() -> Result<()> {
    let stage = Stage::set("node-deleted").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let name = stage.node_name("base-1");
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")])).await?;
    stage.pod_ready("biz1").await?;
    let before = stage.nodes().get(&name).await?;

    stage.nodes().delete(&name, &DeleteParams::default()).await?;
    let after = eventually("another Node", SOON, async || {
        let node = stage.nodes().get(&name).await?;
        ensure!(node.metadata.uid != before.metadata.uid, "it is the old one");
        Ok(node)
    })
    .await?;
    assert_eq!(labels(&after), labels(&before));
    assert_eq!(taints(&after), taints(&before));
    stage.recorded("base-1", "biz1", SOON).await?;
    stage.node_ready(&name, "True").await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(base.received("installBiz"), 1);
    assert_eq!(base.received("uninstallBiz"), 0);
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), "kube-node-lease");
    eventually("a Lease of the new Node", SOON, async || {
        let owners = json!(leases.get(&name).await?.metadata.owner_references);
        ensure!(owners[0]["uid"] == json!(after.metadata.uid), "{owners}");
        Ok(())
    })
    .await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_a_base_that_stays_away_is_deleted_and_comes_back_with_it() -> Result<()> {
    let stage = Stage::set_with("node-dead", |options| {
        options.env("MODULET_UNREACHABLE_AFTER", "5").env("MODULET_DEAD_AFTER", "4")
    })
    .await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let node = stage.node_name("base-1");
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")])).await?;
    stage.pod_ready("biz1").await?;

    base.kill();
    stage.node_ready(&node, "Unknown").await?;
    // Its deletion waits for the base, or for the end of the Node.
    stage.pods().delete("biz1", &DeleteParams::default()).await?;
    stage.node_gone(&node).await?;
    stage.pod_gone("biz1").await?;
    base.restart().await?;
    stage.node_ready(&node, "True").await?;
    assert_eq!(base.modules(), []);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_base_keeps_its_node_and_gets_its_modules_again() -> Result<()> {
    let stage = Stage::set("node-restart").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let name = stage.node_name("base-1");
    stage.create_pod(module_pod(&stage.name, "both", &[("biz1", "0.0.1"), ("biz2", "0.0.1")])).await?;
    stage.pod_ready("both").await?;
    let before = stage.nodes().get(&name).await?;

    base.kill();
    base.restart().await?;
    for module in ["biz1", "biz2"] {
        base.wait_for_state(module, "0.0.1", Some(BizState::Activated), SOON).await?;
    }
    let pod = stage
        .pod_until("both", "Ready after a restart", |pod| {
            let statuses = json!(pod.status)["containerStatuses"].clone();
            is_ready(pod) && statuses.as_array().is_some_and(|s| s.iter().all(|c| c["restartCount"] == 1))
        })
        .await?;
    let statuses = json!(pod.status)["containerStatuses"].clone();
    let last = statuses[0]["lastState"]["terminated"].as_object().context("no last state")?;
    assert!(last.contains_key("finishedAt"), "{last:?}");
    let after = stage.nodes().get(&name).await?;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    stage.ends_quietly().await
}
