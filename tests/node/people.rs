//! What people release on the bases.

use anyhow::Result;
use kube::api::DeleteParams;
use modulet_testkit::{java_base::module_url, wait::eventually};
use serde_json::{Value, json};

use crate::stage::{MODULES, REAL, SIMULATED, SOON, Stage};

/// The workload with a Pod for each simulated base.
pub(crate) const EVERYWHERE: &str = "module.koupleless.io/name=everywhere";
/// The one on the real base, and where its module answers.
pub(crate) const ON_REAL: &str = "module.koupleless.io/name=biz1";
pub(crate) const ASKED: &str = "biz1";
/// Both.
pub(crate) const STAYING: &str = "module.koupleless.io/name in (everywhere,biz1)";

fn template(base: &str, module: &str, version: &str, url: &str) -> Value {
    json!({
        "metadata": { "labels": {
            "module-controller.koupleless.io/component": "module",
            "module.koupleless.io/name": module,
            "module.koupleless.io/version": version,
        } },
        "spec": {
            "containers": [{ "name": module, "image": url, "env": [{ "name": "BIZ_VERSION", "value": version }] }],
            "nodeSelector": { "base.koupleless.io/name": base },
            "tolerations": [{
                "key": "schedule.koupleless.io/virtual-node",
                "operator": "Equal", "value": "True", "effect": "NoExecute",
            }],
        },
    })
}

fn url(module: &str, version: &str) -> String {
    format!("https://modules.example.com/{module}-{version}-ark-biz.jar")
}

fn deployment(name: &str, labels: Value, template: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "labels": labels },
        // Without `replicas`: there is one until modulet says more.
        "spec": {
            "selector": { "matchLabels": { "module.koupleless.io/name": name } },
            "template": template,
        },
    })
}

/// A module on each simulated base, outside and in the cluster.
pub(crate) fn everywhere(version: &str) -> Value {
    let template = template(SIMULATED, "everywhere", version, &url("everywhere", version));
    let labels = json!({
        "virtual-kubelet.koupleless.io/strategy": "peer",
        "virtual-kubelet.koupleless.io/env": "dev",
    });
    deployment("everywhere", labels, template)
}

/// A module on the real base.
pub(crate) fn on_the_real_base(version: &str) -> Value {
    deployment("biz1", json!({}), template(REAL, "biz1", version, &module_url("biz1", version)))
}

/// A Pod with a module of its name on this very base.
pub(crate) fn on_node(node: &str, module: &str) -> Value {
    let mut pod = pod(module);
    pod["spec"]["nodeName"] = json!(node);
    pod
}

fn pod(module: &str) -> Value {
    let mut pod = template(SIMULATED, module, "1.0.0", &url(module, "1.0.0"));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(module);
    pod
}

/// That modulet does its job: a module comes and goes.
pub(crate) async fn release_and_remove(stage: &Stage, module: &str) -> Result<()> {
    stage.apply(&pod(module)).await?;
    stage.modules_ready(&format!("module.koupleless.io/name={module}"), 1).await?;
    let pods = stage.pods(MODULES);
    pods.delete(module, &DeleteParams::default()).await?;
    eventually(&format!("Pod {module} gone"), SOON, async || anyhow::Ok(pods.get_opt(module).await?.is_none())).await?;
    Ok(())
}
