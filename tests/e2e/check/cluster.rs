//! What is said of a cluster in which something will not work.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{LimitRange, Node, Pod},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use modulet_testkit::{
    broker::Mosquitto,
    control_plane::{ControlPlane, ControlPlaneOptions},
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};

use super::{check, create};
use crate::stage::{SOON, Stage, module_pod};

/// As kube-proxy and many agents have it.
fn agent() -> Value {
    json!({
        "metadata": { "name": "agent", "labels": { "app": "agent" } },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": {
                    "tolerations": [{ "operator": "Exists" }],
                    "containers": [{ "name": "agent", "image": "agent:1" }],
                },
            },
        },
    })
}

async fn machine(nodes: &Api<Node>, name: &str, zone: &str) -> Result<()> {
    let condition = json!({ "type": "Ready", "status": "True" });
    let labels = json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone });
    let capacity = json!({ "cpu": "4", "memory": "8Gi", "pods": "110" });
    let status = json!({ "capacity": capacity, "allocatable": capacity, "conditions": [condition] });
    create(nodes, json!({ "metadata": { "name": name, "labels": labels }, "status": status })).await?;
    Ok(())
}

/// Plays the kubelets of ordinary Nodes: what is bound there runs, and what is deleted there goes.
async fn kubelets(client: &Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), "kube-system");
    for pod in pods.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        if !node.starts_with("machine-") {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        } else if pod.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Running")) {
            let ready = json!({ "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
            let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_work_is_named_and_the_patch_that_is_offered_mends_it() -> Result<()> {
    let cluster = ControlPlane::start_own(ControlPlaneOptions::default()).await?;
    let mut stage = Stage::set_on(cluster, "unwell", |options| options.env("MODULET_ZONE_PER_BASE", "false")).await?;
    let (client, address) = (stage.client.clone(), stage.broker.address().clone());
    let base = stage.base(stage.base_options("base-1")).await?;
    let base_node = stage.node_name("base-1");
    for (name, zone) in [("machine-1", "east"), ("machine-2", "west")] {
        machine(&stage.nodes(), name, zone).await?;
    }
    let sets = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
    create(&sets, agent()).await?;
    let limits = json!({ "metadata": { "name": "limits" }, "spec": { "limits": [
        { "type": "Container", "default": { "example.com/gpu": "1" } }] } });
    create(&Api::<LimitRange>::namespaced(client.clone(), "unwell"), limits).await?;
    stage.create_pod(module_pod("unwell", "module", &[("biz1", "1")])).await?;

    let zones = [("MODULET_ZONE_PER_BASE", "true")];
    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &zones).await?;
    said.has(&["[warning] kube-system/agent puts Pods on bases"])
        .has(&["kubectl patch daemonset agent --namespace kube-system"])
        .has(&["[PROBLEM]", "zones (east, west)"])
        .has(&["[PROBLEM] unwell/limits makes module Pods ask for example.com/gpu"])
        .has(&["[ok] modulet-under-test holds the bases of environment unwell"])
        .ends_with(1);
    // The same from another replica: who leads is known.
    let other_name = [("CLIENT_ID", "another")];
    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &other_name).await?;
    said.has(&["[ok] modulet-under-test holds the bases of environment unwell"]);

    // Its Pods come to the base too.
    let on_base = ListParams::default().fields(&format!("spec.nodeName={base_node}"));
    let pods = Api::<Pod>::namespaced(client.clone(), "kube-system");
    eventually("a Pod of the DaemonSet on the base", SOON, async || {
        ensure!(!pods.list(&on_base).await?.items.is_empty(), "there is none");
        Ok(())
    })
    .await?;
    // The controller says so when it starts.
    stage.controller.restart().await?;
    stage.log_line(&["WARN", "kube-system/agent", "kubectl patch daemonset agent"]).await?;

    // What it offers is run as it is.
    let command =
        said.text.lines().find(|line| line.contains("kubectl patch")).context("no command")?.trim().to_owned();
    let kubectl = Tool::ControlPlane.program("kubectl").await?;
    let path = kubectl.parent().context("no directory")?.display().to_string();
    let shell = tokio::process::Command::new("/bin/sh")
        .env("PATH", path)
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["-c", &command])
        .output()
        .await?;
    ensure!(shell.status.success(), "{command}: {}", String::from_utf8_lossy(&shell.stderr));
    let newer =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "agent", "image": "agent:2" }] } } } });
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(newer)).await?;
    eventually("the update on both machines, and nothing on the base", SOON * 2, async || {
        kubelets(&client).await?;
        let set = sets.get("agent").await?;
        let status = set.status.context("no status")?;
        let seen = status.observed_generation == set.metadata.generation;
        let numbers = (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
        ensure!(seen && numbers == (2, Some(2), Some(2)), "{}", json!(status));
        ensure!(pods.list(&on_base).await?.items.is_empty(), "there is one on the base");
        Ok(())
    })
    .await?;

    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &[("MODULET_ZONE_PER_BASE", "false")]).await?;
    said.has(&["[ok] none of 1 puts Pods on bases"]).has(&["[ok] ordinary Nodes have zones (east, west)"]);
    assert!(base.connected());
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_and_a_cluster_that_is_away_is_not_called_unwell() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let client = cluster.client().await?;
    let broker = Mosquitto::start().await?;
    cluster.create_namespace("check-rights").await?;
    let account = cluster.kubeconfig_for_service_account("check-rights", "half").await?;
    let rules = json!([
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch", "patch", "delete"] },
        { "apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"] },
        { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"] },
        { "apiGroups": ["apps"], "resources": ["replicasets", "controllerrevisions"], "verbs": ["list", "watch"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
          "verbs": ["get", "list", "watch", "create", "patch"] },
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch", "create", "patch"] },
    ]);
    create(&Api::<ClusterRole>::all(client.clone()), json!({ "metadata": { "name": "check-rights" }, "rules": rules }))
        .await?;
    let binding = json!({
        "metadata": { "name": "check-rights" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "check-rights" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "check-rights", "name": "half" }],
    });
    create(&Api::<ClusterRoleBinding>::all(client), binding).await?;
    let mut pod = module_pod("check-rights", "module", &[("biz1", "1")]);
    pod["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "login" } }]);
    create(&Api::<Pod>::namespaced(cluster.client().await?, "check-rights"), pod).await?;
    let said = eventually("the rights", SOON, async || {
        let said = check(&account, broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
        ensure!(!said.text.contains("may not list nodes"), "{}", said.text);
        Ok(said)
    })
    .await?;
    said.has(&["[PROBLEM] system:serviceaccount:check-rights:half may not create nodes, update leases.coordination.k8s.io in its own namespace: "])
        .has(&["[warning]", "may not list daemonsets.apps, watch daemonsets.apps: "])
        .has(&["[warning]", "list deployments.apps", "patch deployments.apps/scale", "peer Deployments"])
        .has(&["[PROBLEM]", "may not get secrets in ", "check-rights"])
        .has(&["[cannot look] needs the right to list daemonsets.apps"])
        .ends_with(1);

    let away = tempfile::NamedTempFile::new()?;
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        "users": [{ "name": "c", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
    });
    fs::write(away.path(), nowhere.to_string())?;
    let said = check(away.path(), broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
    said.has(&["[CANNOT LOOK]", "127.0.0.1:1", "onnection refused"]).has(&["[ok]", "logged in"]).ends_with(2);
    // Who it is nobody believes: neither well nor unwell.
    let mut stranger: Value = serde_json::from_str(&fs::read_to_string(&account)?)?;
    stranger["users"][0]["user"]["token"] = json!("nobody's");
    fs::write(away.path(), stranger.to_string())?;
    let said = check(away.path(), broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
    said.has(&["[CANNOT LOOK]", "Unauthorized"]).ends_with(2);
    let said = check(&PathBuf::from("/nowhere"), broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
    said.has(&["[CANNOT LOOK]", "/nowhere"]).ends_with(2);
    Ok(())
}
