//! Peer deployment by Deployment: as many replicas as there are bases for it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use modulet_testkit::{base::BizState, wait::eventually};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, module_template};

/// Bases that join one after the other.
const JOINING: usize = 8;

fn deployment(stage: &str, labels: &Value) -> Value {
    let mut template = module_template(stage, &[("biz1", "0.0.1")]);
    template["spec"]["affinity"] = json!({ "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
            "topologyKey": "topology.kubernetes.io/zone",
        }],
    } });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "biz1", "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
            "template": template,
        },
    })
}

fn deployments(stage: &Stage) -> Api<Deployment> {
    Api::namespaced(stage.client.clone(), &stage.name)
}

/// Applies a peer Deployment of biz1:0.0.1 for the stage's bases, one Pod on each.
pub(crate) async fn applied(stage: &Stage) -> Result<()> {
    let labels = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
    let object = serde_json::from_value(deployment(&stage.name, &labels))?;
    deployments(stage).create(&Default::default(), &object).await?;
    Ok(())
}

/// Changes whenever somebody changes its replicas.
pub(crate) async fn generation(stage: &Stage) -> Result<Option<i64>> {
    Ok(deployments(stage).get("biz1").await?.metadata.generation)
}

async fn replicas_become(stage: &Stage, wanted: i32) -> Result<()> {
    eventually(&format!("{wanted} replicas"), SOON, async || {
        let has = deployments(stage).get("biz1").await?.spec.and_then(|s| s.replicas);
        if has == Some(wanted) { Ok(()) } else { bail!("{has:?}") }
    })
    .await
    .with_context(|| stage.controller.process().map(|p| p.log_tail(40)).unwrap_or_default())
}

/// Waits until there is a Pod on each of these bases, and no other.
async fn pods_are_on(stage: &Stage, ids: &[impl AsRef<str>]) -> Result<()> {
    let wanted: BTreeSet<_> = ids.iter().map(|id| stage.node_name(id.as_ref())).collect();
    eventually("a Pod on each base", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/name=biz1").await?;
        let on: Vec<_> = pods.iter().map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        let all: BTreeSet<_> = on.iter().flatten().cloned().collect();
        if all == wanted && on.len() == wanted.len() { Ok(()) } else { bail!("on {on:?}") }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_the_bases_that_the_template_admits() -> Result<()> {
    let stage = Stage::set("peers").await?;
    let _one = stage.base(stage.base_options("one")).await?;
    let two = stage.base(stage.base_options("two")).await?;
    let labels = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
    let mut object = deployment(&stage.name, &labels);
    // Its Pods leave a base that is away at once.
    if let Some(tolerations) = object["spec"]["template"]["spec"]["tolerations"].as_array_mut() {
        tolerations.push(json!({
            "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1,
        }));
    }
    deployments(&stage).create(&Default::default(), &serde_json::from_value(object)?).await?;
    replicas_become(&stage, 2).await?;

    let three = stage.base(stage.base_options("three")).await?;
    replicas_become(&stage, 3).await?;
    // It came with the baseline, before its Pod.
    three.wait_for_state("biz1", "0.0.1", Some(BizState::Activated), SOON).await?;

    stage.kubectl(&["cordon", &stage.node_name("three")]).await?;
    replicas_become(&stage, 2).await?;
    stage.kubectl(&["uncordon", &stage.node_name("three")]).await?;
    replicas_become(&stage, 3).await?;

    stage.kubectl(&["scale", "deployment/biz1", "--replicas=7"]).await?;
    replicas_become(&stage, 3).await?;
    eventually("an Event that says so", SOON, async || {
        let reasons = stage.events("biz1").await?;
        if reasons.iter().any(|r| r == "PeerReplicasPutBack") { Ok(()) } else { bail!("{reasons:?}") }
    })
    .await?;

    two.kill();
    replicas_become(&stage, 2).await?;
    two.restart().await?;
    replicas_become(&stage, 3).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_does_not_ask_or_opts_out_is_left_alone() -> Result<()> {
    let stage = Stage::set("peers-not").await?;
    let _base = stage.base(stage.base_options("one")).await?;
    let opted_out = json!({
        "virtual-kubelet.koupleless.io/strategy": "peer",
        "virtual-kubelet.koupleless.io/replicas-control": "true",
    });
    let mut object = deployment(&stage.name, &opted_out);
    object["spec"]["replicas"] = json!(5);
    deployments(&stage).create(&Default::default(), &serde_json::from_value(object)?).await?;
    // A second Deployment that does ask is served; by then the first would have been.
    let mut asks = deployment(&stage.name, &json!({ "virtual-kubelet.koupleless.io/strategy": "peer" }));
    asks["metadata"]["name"] = json!("asks");
    asks["spec"]["replicas"] = json!(5);
    deployments(&stage).create(&Default::default(), &serde_json::from_value(asks)?).await?;
    eventually("the one that asks to be scaled", SOON, async || {
        let has = deployments(&stage).get("asks").await?.spec.and_then(|s| s.replicas);
        if has == Some(1) { Ok(()) } else { bail!("{has:?}") }
    })
    .await?;
    let has = deployments(&stage).get("biz1").await?.spec.and_then(|s| s.replicas);
    assert_eq!(has, Some(5));

    let patch = json!({ "metadata": { "labels": { "virtual-kubelet.koupleless.io/replicas-control": null } } });
    deployments(&stage).patch("biz1", &PatchParams::default(), &Patch::Merge(patch)).await?;
    replicas_become(&stage, 1).await?;
    stage.ends_quietly().await
}

/// Each environment has a controller, and all of them see all Deployments.
#[tokio::test(flavor = "multi_thread")]
async fn controllers_of_other_environments_leave_it_alone() -> Result<()> {
    let stage = Stage::set("peers-ours").await?;
    let others = Stage::set("peers-theirs").await?;
    let _ours = stage.base(stage.base_options("one")).await?;
    let _theirs = others.base(others.base_options("one")).await?;
    let labels = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
    let mut object = deployment(&stage.name, &labels);
    object["spec"]["replicas"] = json!(3);
    deployments(&stage).create(&Default::default(), &serde_json::from_value(object)?).await?;
    replicas_become(&stage, 1).await?;
    // Another base of theirs makes the other controller count again; by the time that its own
    // Deployment has followed, it would have touched ours.
    let mut theirs = deployment(&others.name, &labels);
    theirs["spec"]["replicas"] = json!(3);
    deployments(&others).create(&Default::default(), &serde_json::from_value(theirs)?).await?;
    replicas_become(&others, 1).await?;
    let generation = deployments(&stage).get("biz1").await?.metadata.generation;
    let _more = others.base(others.base_options("two")).await?;
    replicas_become(&others, 2).await?;
    assert_eq!(deployments(&stage).get("biz1").await?.metadata.generation, generation);
    stage.ends_quietly().await?;
    others.ends_quietly().await
}

/// A Node is tainted until the node controller has seen it, and until then the scheduler would put a Pod elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_for_a_base_that_joins_comes_to_it_without_anti_affinity() -> Result<()> {
    let stage = Stage::set("peers-joining").await?;
    let mut object = deployment(&stage.name, &json!({ "virtual-kubelet.koupleless.io/strategy": "peer" }));
    object["spec"]["template"]["spec"]["affinity"] = Value::Null;
    let mut bases = vec![stage.base(stage.base_options("base-0")).await?];
    deployments(&stage).create(&Default::default(), &serde_json::from_value(object)?).await?;
    replicas_become(&stage, 1).await?;
    for number in 1..JOINING {
        bases.push(stage.base(stage.base_options(&format!("base-{number}"))).await?);
        replicas_become(&stage, i32::try_from(number + 1)?).await?;
        let ids: Vec<_> = (0..=number).map(|number| format!("base-{number}")).collect();
        pods_are_on(&stage, &ids).await?;
    }
    stage.ends_quietly().await
}

/// The number stays what it is, so that no controller of Kubernetes moves a Pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_joins_while_another_one_ceases_to_count_gets_its_pod() -> Result<()> {
    let mut stage = Stage::set("peers-moved").await?;
    let _one = stage.base(stage.base_options("one")).await?;
    let two = stage.base(stage.base_options("two")).await?;
    let three = stage.base(stage.base_options("three")).await?;
    let (two_is, three_is) = (stage.node_name("two"), stage.node_name("three"));
    stage.kubectl(&["cordon", &three_is]).await?;
    let labels = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
    deployments(&stage).create(&Default::default(), &serde_json::from_value(deployment(&stage.name, &labels))?).await?;
    replicas_become(&stage, 2).await?;
    pods_are_on(&stage, &["one", "two"]).await?;

    // Both at one moment, for whoever looks next.
    stage.controller.kill9().await?;
    stage.kubectl(&["cordon", &two_is]).await?;
    stage.kubectl(&["uncordon", &three_is]).await?;
    stage.controller.restart().await?;
    pods_are_on(&stage, &["one", "three"]).await?;
    three.wait_for_state("biz1", "0.0.1", Some(BizState::Activated), SOON).await?;
    eventually("the module gone from the base that is cordoned", SOON, async || two.modules().is_empty()).await?;
    assert_eq!(deployments(&stage).get("biz1").await?.spec.and_then(|spec| spec.replicas), Some(2));
    stage.ends_quietly().await
}
