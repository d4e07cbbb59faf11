//! A `HorizontalPodAutoscaler` on modules: without metrics it holds replicas between its limits.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use modulet_testkit::{base::Activation, wait::eventually};
use serde_json::json;

use super::{measured, peer_deployment::replicas_become, release};
use crate::{
    stage::{SOON, Stage},
    workloads::{bases, ready_pods, rolled_out},
};

async fn autoscaler(stage: &Stage, min: i32, max: i32) -> Result<()> {
    let cpu = json!({ "type": "Utilization", "averageUtilization": 50 });
    stage
        .apply(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "biz1" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" },
                "minReplicas": min, "maxReplicas": max,
                "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": cpu } }],
            },
        }))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_non_peer_deployment_follows_its_autoscaler() -> Result<()> {
    let stage = Stage::set("scaler").await?;
    let _bases = bases(&stage, 4, Activation::Default).await?;
    release(&stage, "non-peer-deployment.yaml", "0.0.1").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    autoscaler(&stage, 3, 4).await?;
    let since = Instant::now();
    measured("the autoscaler's minimum", since, replicas_become(&stage, 3)).await?;
    ready_pods(&stage, "0.0.1", 3).await?;
    stage.ends_quietly().await
}

/// What Events say about modulet's putting back.
async fn put_back(stage: &Stage) -> Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(stage.client.clone(), &stage.name);
    let events = api.list(&ListParams::default()).await?.items;
    let ours = events.into_iter().filter(|e| e.reason.as_deref() == Some("PeerReplicasPutBack"));
    Ok(ours.filter_map(|e| e.note).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_and_a_peer_deployment_do_not_fight_for_ever() -> Result<()> {
    let stage = Stage::set("scaler-peer").await?;
    let _bases = bases(&stage, 2, Activation::Default).await?;
    release(&stage, "peer-deployment.yaml", "0.0.1").await?;
    replicas_become(&stage, 2).await?;
    autoscaler(&stage, 5, 6).await?;
    let told = eventually("an Event that names the cause and says what comes", SOON, async || {
        let told = put_back(&stage).await?;
        match told.iter().find(|t| t.contains("HorizontalPodAutoscaler") && t.contains("stands for 30 s")) {
            Some(_) => Ok(told.len()),
            None => bail!("{told:?}"),
        }
    })
    .await?;
    // What it sets next stands, for a time that is much longer than its own rounds.
    replicas_become(&stage, 5).await?;
    let more = eventually("one more", Duration::from_secs(10), async || {
        let now = put_back(&stage).await?.len();
        ensure!(now > told, "{now}");
        Ok(())
    });
    assert!(more.await.is_err(), "it was put back again at once");
    // The Pods of the two bases serve all the while; with the autoscaler gone the number of bases wins.
    ready_pods(&stage, "0.0.1", 2).await?;
    stage.kubectl(&["delete", "hpa", "biz1"]).await?;
    replicas_become(&stage, 2).await?;
    ready_pods(&stage, "0.0.1", 2).await?;
    ensure!(put_back(&stage).await?.len() == told + 1, "{:?}", put_back(&stage).await?);
    stage.ends_quietly().await
}
