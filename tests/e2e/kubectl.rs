//! What people see and do with the real kubectl.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};
use serde_json::json;

use crate::stage::{SOON, Stage, container_reason, is_ready, module_pod, module_template, phase};

async fn base_1(stage: &Stage, activation: Activation) -> Result<SimulatedBase> {
    stage.base(BaseOptions { activation, ..stage.base_options("base-1") }).await
}

fn row<'a>(table: &'a [BTreeMap<String, String>], name: &str) -> Result<&'a BTreeMap<String, String>> {
    table.iter().find(|row| row["NAME"] == name).with_context(|| format!("no {name} in {table:?}"))
}

/// The text between a heading of `kubectl describe` and the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let Some(start) = text.find(&format!("\n{heading}:")) else { return "" };
    let rest = &text[start + 1..];
    let end = rest
        .match_indices('\n')
        .map(|(at, _)| at)
        .find(|at| rest[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic()));
    &rest[..end.unwrap_or(rest.len())]
}

/// Whether a line has these words in this order.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        words.iter().all(|word| match rest.find(word) {
            Some(at) => {
                rest = &rest[at + word.len()..];
                true
            }
            None => false,
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn get_nodes_reads_well() -> Result<()> {
    let stage = Stage::set("kubectl-nodes").await?;
    let _base = base_1(&stage, Activation::Default).await?;
    let ours = "virtual-kubelet.koupleless.io/env=kubectl-nodes";
    let table = stage.kubectl_table(&["get", "nodes", "-o", "wide", "-l", ours]).await?;
    let node = row(&table, &stage.node_name("base-1"))?;
    let api_server = stage.client.apiserver_version().await?.git_version;
    let version = format!("{api_server}-modulet-v{}", env!("CARGO_PKG_VERSION"));
    for (column, value) in [
        ("STATUS", "Ready"),
        ("ROLES", "base"),
        ("VERSION", &version),
        ("INTERNAL-IP", "192.0.2.10"),
        ("OS-IMAGE", "kubectl-nodes 1.0.0"),
        ("CONTAINER-RUNTIME", "java://17.0.15"),
    ] {
        assert_eq!(node[column], value, "{column} in {node:?}");
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_node_tells_all_about_the_base() -> Result<()> {
    let stage = Stage::set("kubectl-describe-node").await?;
    let options = BaseOptions { metaspace: 268_435_456, ..stage.base_options("base-1") };
    let _base = stage.base(options).await?;
    let name = stage.node_name("base-1");
    let text = eventually("Lease and Events described", SOON, async || {
        let text = stage.kubectl(&["describe", "node", &name]).await?;
        ensure!(has_line(section(&text, "Lease"), &["RenewTime:", "20"]), "{text}");
        ensure!(section(&text, "Events").contains("BaseReady"), "{text}");
        Ok(text)
    })
    .await?;
    assert!(has_line(&text, &["Roles:", "base"]), "{text}");
    assert!(has_line(&text, &["Taints:", "schedule.koupleless.io/virtual-node=True:NoExecute"]), "{text}");
    assert!(has_line(section(&text, "Lease"), &["HolderIdentity:", "modulet-under-test"]), "{text}");
    let conditions = section(&text, "Conditions");
    assert!(has_line(conditions, &["Ready", "True", "BaseReady", "the base answers"]), "{text}");
    assert!(has_line(conditions, &["MemoryPressure", "False"]), "{text}");
    assert!(has_line(section(&text, "Addresses"), &["InternalIP:", "192.0.2.10"]), "{text}");
    assert!(has_line(section(&text, "Addresses"), &["Hostname:", &name]), "{text}");
    for part in ["Capacity", "Allocatable"] {
        assert!(has_line(section(&text, part), &["memory:", "268435456"]), "{text}");
        assert!(has_line(section(&text, part), &["pods:", "1k"]), "{text}");
    }
    let system = section(&text, "System Info");
    assert!(has_line(system, &["OS Image:", "kubectl-describe-node 1.0.0"]), "{text}");
    assert!(has_line(system, &["Container Runtime Version:", "java://17.0.15"]), "{text}");
    assert!(!text.contains("<unknown>"), "{text}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_reads_well() -> Result<()> {
    let stage = Stage::set("kubectl-running").await?;
    let _base = base_1(&stage, Activation::Default).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")])).await?;
    stage.pod_ready("biz1").await?;
    let table = stage.kubectl_table(&["get", "pods", "-o", "wide"]).await?;
    let pod = row(&table, "biz1")?;
    for (column, value) in [
        ("READY", "1/1"),
        ("STATUS", "Running"),
        ("RESTARTS", "0"),
        ("IP", "192.0.2.10"),
        ("NODE", &stage.node_name("base-1")),
    ] {
        assert_eq!(pod[column], value, "{column} in {pod:?}");
    }

    let text = eventually("the whole story", SOON, async || {
        let text = stage.kubectl(&["describe", "pod", "biz1"]).await?;
        let events = section(&text, "Events");
        let at: Vec<_> =
            ["Scheduled", "Installing", "Installed"].iter().map(|e| events.find(&format!(" {e} "))).collect();
        ensure!(at.iter().all(Option::is_some) && at.is_sorted(), "{text}");
        Ok(text)
    })
    .await?;
    assert!(has_line(&text, &["State:", "Running"]), "{text}");
    assert!(has_line(&text, &["Started:", "20"]), "{text}");
    assert!(has_line(&text, &["Ready:", "True"]), "{text}");
    assert!(has_line(section(&text, "Conditions"), &["Ready", "True"]), "{text}");
    assert!(has_line(&text, &["IP:", "192.0.2.10"]), "{text}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_pod_says_by_what() -> Result<()> {
    let stage = Stage::set("kubectl-superseded").await?;
    let _base = base_1(&stage, Activation::ActivateNew).await?;
    for (pod, version) in [("old", "0.0.1"), ("new", "0.0.2")] {
        stage.create_pod(module_pod(&stage.name, pod, &[("biz1", version)])).await?;
        stage.pod_ready(pod).await?;
    }
    stage.pod_until("old", "Failed", |pod| phase(pod) == "Failed").await?;
    let table = stage.kubectl_table(&["get", "pods"]).await?;
    assert_eq!(row(&table, "old")?["STATUS"], "BizDeactivate");
    assert_eq!(row(&table, "old")?["READY"], "0/1");
    let text = eventually("the Event", SOON, async || {
        let text = stage.kubectl(&["describe", "pod", "old"]).await?;
        ensure!(section(&text, "Events").contains("BizDeactivate"), "{text}");
        Ok(text)
    })
    .await?;
    assert!(has_line(&text, &["Status:", "Failed"]), "{text}");
    assert!(has_line(&text, &["Reason:", "BizDeactivate"]), "{text}");
    assert!(has_line(&text, &["Message:", "biz1:0.0.2 was installed later", "kubectl-superseded/new"]), "{text}");
    assert!(has_line(&text, &["State:", "Terminated"]), "{text}");
    assert!(has_line(&text, &["Finished:", "20"]), "{text}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_pod_shows_the_root_cause() -> Result<()> {
    let stage = Stage::set("kubectl-failing").await?;
    let _base = base_1(&stage, Activation::Default).await?;
    let mut pod = module_pod(&stage.name, "bad", &[("biz1", "0.0.1")]);
    pod["spec"]["containers"][0]["image"] = json!("https://modules.example.com/biz1-broken-0.0.1-ark-biz.jar");
    stage.create_pod(pod).await?;
    stage.pod_until("bad", "failing", |pod| container_reason(pod) == Some("InstallFailed")).await?;
    let text = eventually("the Event", SOON, async || {
        let text = stage.kubectl(&["describe", "pod", "bad"]).await?;
        ensure!(has_line(section(&text, "Events"), &["Warning", "InstallFailed", "broken on purpose"]), "{text}");
        Ok(text)
    })
    .await?;
    // Of a waiting container kubectl shows the reason alone; the message is in the last state.
    assert!(has_line(&text, &["Reason:", "InstallFailed"]), "{text}");
    let last = text.split_once("Last State:").context("no last state")?.1;
    let last = last.split("Ready:").next().unwrap_or_default();
    assert!(has_line(last, &["Reason:", "InstallFailed"]), "{text}");
    assert!(has_line(last, &["Message:", "IllegalStateException: broken on purpose"]), "{text}");
    assert!(!text.contains("InvocationTargetException") && !text.contains(" 0001 "), "{text}");
    eventually("the second try", SOON, async || {
        let table = stage.kubectl_table(&["get", "pods"]).await?;
        ensure!(row(&table, "bad")?["RESTARTS"].starts_with('1'), "{table:?}");
        Ok(())
    })
    .await?;
    stage.ends_quietly().await
}

/// One Pod for each thing that can be the matter with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_column_says_what_is_the_matter() -> Result<()> {
    let stage = Stage::set("kubectl-states").await?;
    let base = base_1(&stage, Activation::ActivateNew).await?;
    let with_url = |pod: &str, module: &str, file: &str| {
        let mut pod = module_pod(&stage.name, pod, &[(module, "0.0.1")]);
        pod["spec"]["containers"][0]["image"] = json!(format!("https://modules.example.com/{file}"));
        pod
    };
    stage.create_pod(with_url("installing", "slow", "slow-600000-0.0.1-ark-biz.jar")).await?;
    stage.create_pod(with_url("broken", "bad", "bad-broken-0.0.1-ark-biz.jar")).await?;
    stage.create_pod(with_url("missing", "lost", "missing.jar")).await?;
    stage.create_pod(with_url("mismatch", "one", "other-0.0.9-ark-biz.jar")).await?;
    let mut invalid = with_url("invalid", "noversion", "noversion-0.0.1-ark-biz.jar");
    invalid["spec"]["containers"][0]["env"] = json!([]);
    invalid["metadata"]["labels"]["module.koupleless.io/version"] = json!("");
    stage.create_pod(invalid).await?;
    let mut foreign = module_pod(&stage.name, "foreign", &[("nginx", "1")]);
    foreign["metadata"]["labels"] = json!({ "app": "nginx" });
    stage.create_pod(foreign).await?;

    // The replacement of a Pod that gave way waits for as long as the other version lasts.
    let replica_set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "old" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "module.koupleless.io/name": "biz1", "module.koupleless.io/version": "0.0.1" } },
            "template": module_template(&stage.name, &[("biz1", "0.0.1")]),
        },
    });
    stage.apply(&replica_set).await?;
    base.wait_for_state("biz1", "0.0.1", Some(BizState::Activated), SOON).await?;
    eventually("the old version Running", SOON, async || {
        let table = stage.kubectl_table(&["get", "pods"]).await?;
        ensure!(table.iter().any(|row| row["NAME"].starts_with("old-") && row["STATUS"] == "Running"), "{table:?}");
        Ok(())
    })
    .await?;
    stage.create_pod(module_pod(&stage.name, "new", &[("biz1", "0.0.2")])).await?;
    stage.pod_ready("new").await?;
    eventually("every state in the column", SOON, async || {
        let table = stage.kubectl_table(&["get", "pods"]).await?;
        for (pod, status) in [
            ("installing", "Installing"),
            ("broken", "InstallFailed"),
            ("missing", "InstallFailed"),
            ("mismatch", "ModuleMismatch"),
            ("invalid", "InvalidModule"),
            ("foreign", "NotAModule"),
            ("new", "Running"),
        ] {
            let is = &row(&table, pod)?["STATUS"];
            ensure!(is == status, "{pod} is {is} and should be {status}");
        }
        let old: Vec<_> = table.iter().filter(|row| row["NAME"].starts_with("old-")).collect();
        for status in ["BizDeactivate", "Held"] {
            ensure!(old.iter().filter(|row| row["STATUS"] == status).count() == 1, "{old:?}");
        }
        ensure!(old.len() == 2, "{old:?}");
        Ok(())
    })
    .await?;
    assert_eq!(base.commands().iter().filter(|c| c.payload.to_string().contains("nginx")).count(), 0);

    let missing = stage.kubectl(&["describe", "pod", "missing"]).await?;
    assert!(missing.contains("FileNotFoundException") && missing.contains("missing.jar"), "{missing}");
    let mismatch = stage.kubectl(&["describe", "pod", "mismatch"]).await?;
    assert!(mismatch.contains("one:0.0.1") && mismatch.contains("other:0.0.9"), "{mismatch}");
    stage.delete_pod("foreign").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_do_to_a_node_survives_our_writes() -> Result<()> {
    let stage = Stage::set_with("kubectl-users", |options| options.env("MODULET_UNREACHABLE_AFTER", "5")).await?;
    let base = base_1(&stage, Activation::Default).await?;
    let node = stage.node_name("base-1");
    stage.kubectl(&["cordon", &node]).await?;
    stage.kubectl(&["label", "node", &node, "team=blue"]).await?;
    stage.kubectl(&["annotate", "node", &node, "note=keep"]).await?;
    stage.kubectl(&["taint", "node", &node, "maintenance=soon:PreferNoSchedule"]).await?;
    // Ours come back, without harm to theirs.
    stage.kubectl(&["taint", "node", &node, "schedule.koupleless.io/virtual-node-"]).await?;
    stage.kubectl(&["label", "node", &node, "base.koupleless.io/name=wrong", "--overwrite"]).await?;
    // The status is written twice.
    base.hang();
    stage.node_ready(&node, "Unknown").await?;
    base.resume();
    stage.node_ready(&node, "True").await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")]);
    pod["spec"]["nodeName"] = json!(node);
    stage.create_pod(pod).await?;
    stage.pod_ready("biz1").await?;

    eventually("the Node in order", SOON, async || {
        let node = json!(stage.nodes().get(&node).await?);
        let taints = node["spec"]["taints"].to_string();
        ensure!(taints.contains("maintenance") && taints.contains("schedule.koupleless.io/virtual-node"), "{taints}");
        ensure!(taints.contains("node.kubernetes.io/unschedulable"), "{taints}");
        ensure!(node["spec"]["unschedulable"] == true, "it is schedulable");
        let meta = &node["metadata"];
        ensure!(meta["labels"]["team"] == "blue" && meta["annotations"]["note"] == "keep", "{meta}");
        ensure!(meta["labels"]["base.koupleless.io/name"] == stage.name.as_str(), "{meta}");
        Ok(())
    })
    .await?;
    let table = stage.kubectl_table(&["get", "nodes", &node]).await?;
    assert_eq!(row(&table, &node)?["STATUS"], "Ready,SchedulingDisabled");
    stage.kubectl(&["uncordon", &node]).await?;
    stage.kubectl(&["taint", "node", &node, "maintenance-"]).await?;
    stage.create_pod(module_pod(&stage.name, "biz2", &[("biz2", "0.0.1")])).await?;
    stage.pod_ready("biz2").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_empties_a_base() -> Result<()> {
    let stage = Stage::set("kubectl-drain").await?;
    let base = base_1(&stage, Activation::Default).await?;
    let other = stage.base(stage.base_options("base-2")).await?;
    let node = stage.node_name("base-1");
    stage.kubectl(&["cordon", &stage.node_name("base-2")]).await?;
    stage.create_pod(module_pod(&stage.name, "bare", &[("bare", "0.0.1")])).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "biz1" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
            "template": module_template(&stage.name, &[("biz1", "0.0.1")]),
        },
    });
    stage.apply(&deployment).await?;
    stage.pod_ready("bare").await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;
    assert_eq!(base.modules().len(), 2);

    stage.kubectl(&["uncordon", &stage.node_name("base-2")]).await?;
    stage.kubectl(&["drain", &node, "--force", "--timeout=40s"]).await?;
    assert_eq!(base.modules(), [], "kubectl waits until the Pods are gone, and they wait for their modules");
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;
    other.wait_for_state("biz1", "0.0.1", Some(BizState::Activated), SOON).await?;
    let left = stage.pods_with("module.koupleless.io/name").await?;
    assert!(left.len() == 1 && is_ready(&left[0]), "{left:?}");
    stage.ends_quietly().await
}
