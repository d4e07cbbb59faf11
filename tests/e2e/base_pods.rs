//! Bases' own Pods: their readiness gate for modules.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{Patch, PatchParams};
use modulet_testkit::{
    base::{BaseOptions, UrlBehaviour},
    wait::eventually,
};
use serde_json::json;

use crate::stage::{SOON, Stage, is_ready, module_pod, url};

const GATE: &str = "modulet.koupleless.io/modules-ready";
const HOST: &str = "shop-base-7d9f-x2x4z";
const ADDRESS: &str = "192.0.2.77";

/// The base's own Pod, on a machine, as its kubelet reports it.
async fn base_pod(stage: &Stage) -> Result<()> {
    stage
        .create_pod(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": HOST },
            "spec": {
                "nodeName": "machine-of-bases", "containers": [{ "name": "base", "image": "x" }],
                "readinessGates": [{ "conditionType": GATE }],
            },
        }))
        .await?;
    let status = json!({ "status": { "phase": "Running", "podIP": ADDRESS, "podIPs": [{ "ip": ADDRESS }],
        "conditions": [{ "type": "ContainersReady", "status": "True" }] } });
    stage.pods().patch_status(HOST, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

fn condition(pod: &Pod) -> Option<PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == GATE).cloned()
}

async fn says(stage: &Stage, status: &str) -> Result<PodCondition> {
    let what = format!("with {GATE}={status}");
    let is_so = |pod: &Pod| condition(pod).is_some_and(|condition| condition.status == status);
    condition(&stage.pod_until(HOST, &what, is_so).await?).context("no condition")
}

async fn writes(stage: &Stage) -> Result<u64> {
    let metrics = stage.controller.metrics().await?;
    let ours = metrics.lines().filter(|line| line.contains("api_writes_total") && line.contains("kind=\"base_pod\""));
    Ok(ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bases_own_pod_is_told_whether_its_modules_are_ready() -> Result<()> {
    const NAME: &str = "base-pods";
    let mut stage = Stage::set_with(NAME, |options| options.env("MODULET_BASE_POD_NAMESPACES", NAME)).await?;
    base_pod(&stage).await?;
    let at = |id: &str, address: &str| BaseOptions {
        host_name: HOST.to_owned(),
        ip: address.to_owned(),
        ..stage.base_options(id)
    };
    let forged = stage.base(at("forged", "192.0.2.66")).await?;
    let base = stage.base(at("one", ADDRESS)).await?;
    base.set_url_behaviour(&url("slow", "1"), UrlBehaviour::StartsSlowly(Duration::from_secs(2)));
    for name in ["quick", "slow"] {
        let mut pod = module_pod(NAME, name, &[(name, "1")]);
        pod["spec"]["nodeName"] = json!(stage.node_name("one"));
        stage.create_pod(pod).await?;
    }
    let missing = says(&stage, "False").await?;
    assert_eq!(missing.reason.as_deref(), Some("ModulesNotReady"));
    eventually("the module that is missing, by its name", SOON, async || {
        let message = condition(&stage.pods().get(HOST).await?).and_then(|c| c.message).context("no message")?;
        ensure!(message == format!("1 of 2 module Pods are not Ready: {NAME}/slow"), "{message}");
        Ok(())
    })
    .await?;
    let complete = says(&stage, "True").await?;
    assert!(is_ready(&stage.pods().get("slow").await?), "not before");
    assert!(complete.last_transition_time.is_some(), "{complete:?}");
    let pod = stage.pods().get(HOST).await?;
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    assert!(conditions.clone().any(|c| c.type_ == "ContainersReady" && c.status == "True"), "the kubelet's own stay");

    stage.delete_pod("slow").await?;
    stage.controller.restart().await?;
    base.wait_for_commands("queryAllBiz", base.received("queryAllBiz") + 1, SOON).await?;
    let version = stage.pods().get(HOST).await?.metadata.resource_version;
    stage.ends_quietly().await?;
    assert_eq!(writes(&stage).await?, 0, "nothing is new");
    assert_eq!(stage.pods().get(HOST).await?.metadata.resource_version, version);
    assert!(forged.connected());
    Ok(())
}
