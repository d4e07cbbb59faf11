//! What of a container's `args` and `env` reaches the base.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, container_message, container_reason, module_pod};

fn pod(stage: &str, name: &str, env: Value, args: Value) -> Value {
    let mut pod = module_pod(stage, name, &[("biz1", "0.0.1")]);
    let container = &mut pod["spec"]["containers"][0];
    let mut all = container["env"].as_array().cloned().unwrap_or_default();
    all.extend(env.as_array().cloned().unwrap_or_default());
    container["env"] = json!(all);
    container["args"] = args;
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn values_config_maps_secrets_and_fields_reach_the_base() -> Result<()> {
    let stage = Stage::set("environment").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let config = json!({ "metadata": { "name": "config" }, "data": { "GREETING": "hello" } });
    let configs: Api<ConfigMap> = Api::namespaced(stage.client.clone(), &stage.name);
    configs.create(&Default::default(), &serde_json::from_value(config)?).await?;
    let env = json!([
        { "name": "PLAIN", "value": "x" },
        { "name": "GREETING", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "GREETING" } } },
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "password" } } },
        { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
    ]);
    stage.create_pod(pod(&stage.name, "biz1", env, json!(["--greeting=$(GREETING)"]))).await?;

    // The Secret is missing: said so, as a kubelet says it, and nothing is sent.
    let waits = |p: &_| {
        container_reason(p) == Some("CreateContainerConfigError")
            && container_message(p).is_some_and(|m| m.contains("Secret environment/secret does not exist"))
    };
    stage.pod_until("biz1", "to wait for its Secret", waits).await?;
    assert_eq!(base.received("installBiz"), 0);

    let secret = json!({ "metadata": { "name": "secret" }, "stringData": { "password": "s3cret" } });
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.name);
    secrets.create(&Default::default(), &serde_json::from_value(secret)?).await?;
    stage.pod_ready("biz1").await?;
    base.wait_for_command("installBiz", SOON).await?;
    let install = base.commands().into_iter().find(|c| c.command == "installBiz").context("no install")?;
    let expected = json!({
        "PLAIN": "x", "GREETING": "hello", "PASSWORD": "s3cret",
        "NODE": stage.node_name("base-1"), "IP": "192.0.2.10",
    });
    assert_eq!(install.payload["envs"], expected);
    assert_eq!(install.payload["args"], json!(["--greeting=hello"]));
    assert!(!stage.controller.log_text().contains("s3cret"), "secrets stay out of the log");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_without_what_injectors_put_into_it() -> Result<()> {
    let stage = Stage::set("side-car").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let mut with_side_car = module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")]);
    let side_car = json!({ "name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.26.0" });
    with_side_car["spec"]["containers"].as_array_mut().context("containers")?.push(side_car);
    with_side_car["spec"]["initContainers"] =
        json!([{ "name": "istio-init", "image": "docker.io/istio/proxyv2:1.26.0" }]);
    stage.create_pod(with_side_car).await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(base.received("installBiz"), 1);
    let line = stage.kubectl(&["get", "pod", "biz1", "--no-headers"]).await?;
    let words: Vec<_> = line.split_whitespace().take(3).collect();
    assert_eq!(words, ["biz1", "1/2", "Running"]);
    for expected in ["SideCarIgnored", "FieldsIgnored"] {
        stage.event_with("biz1", &[expected]).await?;
    }
    stage.pods().delete("biz1", &Default::default()).await?;
    stage.pod_gone("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_pod_is_installed_and_removed_like_a_small_one() -> Result<()> {
    let stage = Stage::set("huge-pod").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let names: Vec<_> = (0..60).map(|number| format!("biz{number}")).collect();
    let modules: Vec<_> = names.iter().map(|name| (name.as_str(), "0.0.1")).collect();
    let mut pod = module_pod(&stage.name, "huge", &modules);
    // About 600 kB in all: an API server takes up to 1.5 MB.
    for container in pod["spec"]["containers"].as_array_mut().context("containers")? {
        let large = json!({ "name": "LARGE", "value": "x".repeat(10_000) });
        container["env"].as_array_mut().context("env")?.push(large);
    }
    stage.create_pod(pod).await?;
    stage.pod_ready("huge").await?;
    assert_eq!(base.received("installBiz"), 60);
    let install = base.commands().into_iter().find(|c| c.command == "installBiz").context("no install")?;
    assert_eq!(install.payload["envs"]["LARGE"].as_str().map(str::len), Some(10_000));
    stage.pods().delete("huge", &Default::default()).await?;
    stage.pod_gone("huge").await?;
    assert_eq!(base.modules(), []);
    assert_eq!(base.received("uninstallBiz"), 60);
    stage.ends_quietly().await
}
