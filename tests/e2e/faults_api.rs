//! What the API server does, and what we write into it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::Api;
use modulet_testkit::{
    base::BaseOptions, control_plane::ControlPlane, controller::ControllerOptions, ports::free_port, proxy::Proxy,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::{Log, bound, installed, lasts},
    stage::{SOON, Stage},
    starting::kubeconfig_at,
};

fn options_of_kubeconfig(options: ControllerOptions, kubeconfig: &std::path::Path) -> ControllerOptions {
    options.env("KUBECONFIG", kubeconfig.display().to_string())
}

fn labels(node: &Node) -> Value {
    json!(node.metadata.labels)
}

fn taints(node: &Node) -> String {
    json!(node.spec)["taints"].to_string()
}

/// Each was switched on, and is not any more. What others put there stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_any_more_is_taken_back_and_what_others_put_there_stays() -> Result<()> {
    let mut stage = Stage::set_with("fault-taken-back", |options| {
        options
            .env("MODULET_ENV_TAINT", "true")
            .env("MODULET_ZONE_PER_BASE", "true")
            .env("MODULET_UNREACHABLE_AFTER", "5")
    })
    .await?;
    let name = stage.node_name("base-1");
    let options = BaseOptions { cluster: "blue".into(), ..stage.base_options("base-1") };
    let base = stage.base(options.clone()).await?;
    // It tolerates the second taint too.
    let mut pod = bound(&stage, "base-1", "biz1", "1");
    pod["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
    stage.create_pod(pod).await?;
    stage.pod_ready("biz1").await?;
    let node = stage.nodes().get(&name).await?;
    assert!(taints(&node).contains("node-env") && labels(&node)["topology.kubernetes.io/zone"].is_string());
    stage.kubectl(&["taint", "node", &name, "maintenance=soon:PreferNoSchedule"]).await?;
    stage.kubectl(&["label", "node", &name, "team=blue", "topology.kubernetes.io/region=north"]).await?;
    stage.kubectl(&["annotate", "node", &name, "note=keep"]).await?;
    stage.controller.terminate().await?;

    stage.controller.set_env("MODULET_ENV_TAINT", "false");
    stage.controller.set_env("MODULET_ZONE_PER_BASE", "false");
    stage.controller.restart().await?;
    base.kill();
    let base = stage.base(BaseOptions { cluster: String::new(), ..options }).await?;
    stage.pod_ready("biz1").await?;
    eventually("what is not wanted gone", SOON, async || {
        let node = stage.nodes().get(&name).await?;
        let (taints, labels) = (taints(&node), labels(&node));
        ensure!(!taints.contains("node-env"), "{taints}");
        ensure!(labels["topology.kubernetes.io/zone"].is_null(), "{labels}");
        ensure!(labels["base.koupleless.io/cluster-name"].as_str().unwrap_or_default() != "blue", "{labels}");
        ensure!(labels["team"] == "blue" && labels["topology.kubernetes.io/region"] == "north", "{labels}");
        ensure!(taints.contains("maintenance") && taints.contains("schedule.koupleless.io/virtual-node"), "{taints}");
        ensure!(json!(node.metadata.annotations)["note"] == "keep", "{:?}", node.metadata.annotations);
        Ok(())
    })
    .await?;
    assert!(base.connected());
    stage.ends_quietly().await
}

/// Who of the field's managers are ours.
fn managers(object: &Value) -> Vec<String> {
    let fields = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    fields.iter().filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_write_bears_our_name() -> Result<()> {
    let stage = Stage::set("fault-named").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let name = stage.node_name("base-1");
    installed(&stage, "base-1", "biz1", "1").await?;
    stage.ends_quietly().await?;
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), "kube-node-lease");
    let all = [
        ("Node", json!(stage.nodes().get(&name).await?)),
        ("Pod", json!(stage.pods().get("biz1").await?)),
        ("Lease", json!(leases.get(&name).await?)),
    ];
    for (kind, object) in &all {
        let managers = managers(object);
        assert!(managers.iter().any(|m| m == "modulet"), "{kind}: {managers:?}");
        assert!(managers.iter().all(|m| m != "unknown" && !m.is_empty()), "{kind}: {managers:?}");
    }
    Ok(())
}

/// A service account with all rights but those that are taken away, and none for `ModuleRollout`s.
pub(crate) async fn with_rights(stage: &Stage, verbs_on_pods: &[&str]) -> Result<PathBuf> {
    grant(stage, verbs_on_pods).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": stage.name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": stage.name },
        "subjects": [{ "kind": "ServiceAccount", "name": "modulet", "namespace": stage.name }],
    });
    stage.apply(&binding).await?;
    stage.cluster.kubeconfig_for_service_account(&stage.name, "modulet").await
}

async fn grant(stage: &Stage, verbs_on_pods: &[&str]) -> Result<()> {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let others = [
        "nodes",
        "nodes/status",
        "pods/status",
        "configmaps",
        "secrets",
        "events",
        "services",
        "namespaces",
        "limitranges",
    ];
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": stage.name },
        "rules": [
            { "apiGroups": [""], "resources": others, "verbs": all },
            { "apiGroups": [""], "resources": ["pods"], "verbs": verbs_on_pods },
            { "apiGroups": ["apps", "coordination.k8s.io", "events.k8s.io", "batch", "autoscaling"], "resources": ["*"], "verbs": all },
        ],
    });
    stage.apply(&role).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_forbidden_is_said_once_and_comes_back_when_it_is_granted() -> Result<()> {
    said_once_and_comes_back("fault-forbidden", &["get", "patch", "delete"]).await
}

/// The library lists whenever it begins anew, so something comes before each refusal.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_granted_without_its_watch_is_said_once_and_comes_back_when_it_is_granted() -> Result<()> {
    said_once_and_comes_back("fault-list-only", &["get", "list", "patch", "delete"]).await
}

async fn said_once_and_comes_back(name: &str, verbs_on_pods: &[&str]) -> Result<()> {
    const ALL: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
    const REFUSED: Duration = Duration::from_secs(20);
    let mut stage = Stage::set(name).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "before", "1").await?;
    let kubeconfig = with_rights(&stage, verbs_on_pods).await?;
    stage.controller.terminate().await?;
    let options =
        ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), stage.cluster.kubeconfig(), stage.broker.address());
    let options = options_of_kubeconfig(options.env("ENV", &stage.name), &kubeconfig);
    stage.controller = modulet_testkit::controller::Controller::start_unready(options)?;
    stage.log_line(&["cannot watch", "orbidden"]).await?;
    lasts(REFUSED).await;
    let said = stage.controller.log_text().lines().filter(|line| line.contains("is forbidden")).count();
    assert_eq!(said, 1, "in {REFUSED:?}");
    let errors = stage.controller.metric("modulet_watch_errors_total", &[]).await?;
    assert!(errors <= 12.0, "{errors} attempts in {REFUSED:?}");
    assert_eq!(base.received("uninstallBiz"), 0, "what cannot be seen is not gone");
    stage.create_pod(bound(&stage, "base-1", "after", "1")).await?;

    grant(&stage, &ALL).await?;
    eventually("Ready", Duration::from_secs(60), async || {
        let pod = stage.pods().get("after").await?;
        ensure!(crate::stage::is_ready(&pod), "{}", json!(pod.status));
        Ok(())
    })
    .await?;
    assert_eq!((base.received("installBiz"), base.received("uninstallBiz")), (2, 0));
    stage.log_line(&["watching again", "Pods"]).await?;
    stage.kubectl(&["delete", "clusterrolebinding,clusterrole", &stage.name]).await.context("the rights")?;
    stage.ends_without_quiet("its rights are gone");
    Ok(())
}

/// The network forgets the connections to the API server, and tells nobody.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_api_server_that_are_dead_without_a_word_are_noticed_within_a_minute() -> Result<()> {
    const MINUTE: Duration = Duration::from_secs(60);
    let cluster = ControlPlane::shared().await?;
    let (directory, port) = (tempfile::tempdir()?, free_port()?);
    let (kubeconfig, real) = kubeconfig_at(cluster, directory.path(), port)?;
    let proxy = Proxy::start(port, &real).await?;
    let stage = Stage::set_with("fault-half-open", |options| options_of_kubeconfig(options, &kubeconfig)).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let not_ready = Log::of_nodes(&stage);
    installed(&stage, "base-1", "before", "1").await?;
    for pod in ["first", "second"] {
        proxy.swallow();
        let swallowed = Instant::now();
        stage.create_pod(bound(&stage, "base-1", pod, "1")).await?;
        eventually(&format!("{pod} Ready"), MINUTE, async || {
            let pod = stage.pods().get(pod).await?;
            ensure!(crate::stage::is_ready(&pod), "{}", json!(pod.status));
            Ok(())
        })
        .await?;
        assert!(swallowed.elapsed() < MINUTE, "{:?}", swallowed.elapsed());
    }
    assert_eq!(base.received("installBiz"), 3);
    assert_eq!(not_ready.found(), Vec::<String>::new(), "its Lease was renewed in time");
    stage.ends_quietly().await
}
