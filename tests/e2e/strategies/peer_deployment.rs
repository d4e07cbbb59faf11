//! Peer deployment by Deployment: as many replicas as bases, and install before uninstall.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use modulet_testkit::{
    base::{Activation, BaseOptions, SimulatedBase, UrlBehaviour},
    broker::{Message, Spy},
    wait::eventually,
};
use serde_json::json;

use super::{LABEL, QUIET, measured, node, one_on_each, release, updated_once_without_a_gap};
use crate::{
    stage::{SOON, Stage},
    workloads::{Gaps, bases, ready_pods, rolled_out, told_no_more_than},
};

const FILE: &str = "peer-deployment.yaml";

pub(super) async fn replicas_become(stage: &Stage, wanted: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(stage.client.clone(), &stage.name);
    eventually(&format!("{wanted} replicas"), SOON, async || {
        let has = api.get("biz1").await?.spec.and_then(|s| s.replicas);
        ensure!(has == Some(wanted), "{has:?}");
        Ok(())
    })
    .await
}

/// A base's last heartbeat before its JVM ends in order.
async fn goodbye(stage: &Stage, base: SimulatedBase) -> Result<()> {
    let spy = Spy::start(stage.broker.address(), "#").await?;
    let topic = format!("koupleless_{}/{}/base/heart", stage.name, base.identity());
    base.kill();
    let data = json!({ "baseMetadata": { "name": stage.name, "version": "1.0.0" }, "state": "deactivated" });
    spy.publish(&topic, json!({ "publishTimestamp": 1, "data": data }).to_string()).await?;
    let said = |all: &[Message]| all.iter().any(|m| m.topic == topic && m.text().contains("deactivated")).then_some(());
    spy.wait_for("the last heartbeat", SOON, said).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_pods_follow_the_bases() -> Result<()> {
    let stage = Stage::set("peer-follow").await?;
    let _two = bases(&stage, 2, Activation::ActivateNew).await?;
    // These two are not for it: another application, and another version of it.
    let other = BaseOptions { name: "another".to_owned(), ..stage.base_options("another") };
    let _other = stage.base(other).await?;
    let newer = BaseOptions { version: "2.0.0".to_owned(), ..stage.base_options("newer") };
    let _newer = stage.base(newer).await?;
    release(&stage, FILE, "0.0.1").await?;
    replicas_become(&stage, 2).await?;
    one_on_each(&stage, &["base-0", "base-1"]).await?;

    let since = Instant::now();
    let third = SimulatedBase::start(stage.base_options("base-2")).await?;
    measured("a base joins, replicas", since, replicas_become(&stage, 3)).await?;
    measured("a base joins, Pod Ready", since, one_on_each(&stage, &["base-0", "base-1", "base-2"])).await?;

    // The Pod that goes is the one of the base that counts no longer, though it is not the youngest.
    let first = stage.node_name("base-0");
    let since = Instant::now();
    stage.kubectl(&["cordon", &first]).await?;
    measured("a base is cordoned, replicas", since, replicas_become(&stage, 2)).await?;
    one_on_each(&stage, &["base-1", "base-2"]).await?;
    let since = Instant::now();
    stage.kubectl(&["uncordon", &first]).await?;
    measured("a base is uncordoned, replicas", since, replicas_become(&stage, 3)).await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;

    stage.kubectl(&["taint", "node", &first, "maintenance=true:NoSchedule"]).await?;
    replicas_become(&stage, 2).await?;
    one_on_each(&stage, &["base-1", "base-2"]).await?;
    stage.kubectl(&["taint", "node", &first, "maintenance-"]).await?;
    replicas_become(&stage, 3).await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;

    let since = Instant::now();
    stage.kubectl(&["scale", "deployment/biz1", "--replicas=7"]).await?;
    measured("scaled by mistake, replicas", since, replicas_become(&stage, 3)).await?;
    release(&stage, FILE, "0.0.1").await?; // applied again, it does not set replicas
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;

    let since = Instant::now();
    goodbye(&stage, third).await?;
    measured("a base says goodbye, replicas", since, replicas_become(&stage, 2)).await?;
    one_on_each(&stage, &["base-0", "base-1"]).await?;
    stage.ends_quietly().await
}

/// Kubernetes takes Pods that are not Ready first, wherever they run; the one that was to go stays then.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_stays_after_all_is_as_good_as_any_other_again() -> Result<()> {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let stage = Stage::set("peer-marks").await?;
    let bases = bases(&stage, 2, Activation::ActivateNew).await?;
    bases[1].set_url_behaviour("biz1", UrlBehaviour::Broken { cause: "no room".to_owned() });
    release(&stage, FILE, "0.0.1").await?;
    replicas_become(&stage, 2).await?;
    one_on_each(&stage, &["base-0"]).await?;
    let cost_is = async |what: &str, wanted: Option<&str>| {
        eventually(what, SOON, async || {
            let pods = stage.pods_with(LABEL).await?;
            let pod = pods.iter().find(|p| node(p) == stage.node_name("base-0")).context("no Pod on base-0")?;
            let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get(COST)).map(String::as_str);
            ensure!(cost == wanted, "{cost:?}");
            Ok(pod.metadata.uid.clone())
        })
        .await
    };
    let before = cost_is("no mark at first", None).await?;

    stage.kubectl(&["cordon", &stage.node_name("base-0")]).await?;
    replicas_become(&stage, 1).await?;
    cost_is("a mark", Some("-2147483647")).await?;
    stage.kubectl(&["uncordon", &stage.node_name("base-0")]).await?;
    replicas_become(&stage, 2).await?;
    assert_eq!(cost_is("no mark any more", None).await?, before, "the same Pod");
    told_no_more_than(&bases[0], "biz1", &["install 0.0.1"], QUIET).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_deployment_installs_before_it_uninstalls_once_on_each_base() -> Result<()> {
    let stage = Stage::set("peer-update").await?;
    let bases = bases(&stage, 4, Activation::ActivateNew).await?;
    release(&stage, FILE, "0.0.1").await?;
    replicas_become(&stage, 4).await?;
    ready_pods(&stage, "0.0.1", 4).await?;

    let gaps = Gaps::watch(&bases, "biz1");
    release(&stage, FILE, "0.0.2").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "0.0.2", 4).await?;
    updated_once_without_a_gap(&stage, &bases, gaps).await?;
    stage.ends_quietly().await
}
