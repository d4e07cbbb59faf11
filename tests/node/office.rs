//! modulet in the cluster, as Helm has installed it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, api::ListParams};
use modulet_testkit::{helm::helm_release, wait::eventually};
use serde_json::Value;

use crate::stage::{SOON, Stage, is_ready};

pub(crate) const NAMESPACE: &str = "modulet";
const REPLICAS: usize = 2;

/// Helm, with these values.
pub(crate) async fn helm(stage: &Stage, args: &[&str], values: &Value) -> Result<String> {
    helm_release(stage.cluster.kubeconfig(), NAMESPACE, args, values).await
}

/// `helm upgrade --install`, and waits until Helm says that it is done.
pub(crate) async fn install(stage: &Stage, values: &Value) -> Result<()> {
    install_within(stage, values, "90s").await?;
    settled(stage).await
}

/// The same if Helm waits for so long only.
pub(crate) async fn install_within(stage: &Stage, values: &Value, limit: &str) -> Result<()> {
    let args = ["upgrade", "--install", "modulet", "CHART", "--create-namespace", "--values", "-"];
    helm(stage, &[&args[..], &["--wait", "--timeout", limit]].concat(), values).await.map(drop)
}

pub(crate) async fn pods(stage: &Stage) -> Result<Vec<Pod>> {
    let ours = ListParams::default().labels("app.kubernetes.io/instance=modulet");
    Ok(stage.pods(NAMESPACE).list(&ours).await?.items)
}

/// Waits until there are as many replicas as there should be, all Ready and one of them the leader.
pub(crate) async fn settled(stage: &Stage) -> Result<()> {
    eventually("all replicas, and one that leads", SOON, async || {
        let deployments = Api::<Deployment>::namespaced(stage.client.clone(), NAMESPACE);
        let deployment = deployments.get("modulet").await?;
        let seen = deployment.status.and_then(|status| status.observed_generation);
        ensure!(seen == deployment.metadata.generation, "the Deployment was not looked at");
        let pods = pods(stage).await?;
        let ready: BTreeSet<_> =
            pods.iter().filter(|pod| is_ready(pod)).filter_map(|p| p.metadata.name.clone()).collect();
        ensure!(ready.len() == REPLICAS && pods.len() == REPLICAS, "{} of {} are Ready", ready.len(), pods.len());
        let leader = leader(stage).await?;
        ensure!(ready.contains(&leader), "{leader} leads, of {ready:?}");
        Ok(())
    })
    .await
}

/// The Pod that leads.
pub(crate) async fn leader(stage: &Stage) -> Result<String> {
    let lease = Api::<Lease>::namespaced(stage.client.clone(), NAMESPACE).get("modulet-dev").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    let pod = holder.rsplit_once('_').map(|(pod, _)| pod.to_owned());
    pod.filter(|pod| !pod.is_empty()).with_context(|| format!("nobody leads: {holder:?}"))
}

/// Images and restarts of its containers.
pub(crate) async fn images(stage: &Stage) -> Result<BTreeSet<String>> {
    let pods = pods(stage).await?;
    let containers = pods.into_iter().filter_map(|pod| pod.spec).flat_map(|spec| spec.containers);
    Ok(containers.filter_map(|container| container.image).collect())
}

/// How often a container of it was started again, since nobody asked for that.
pub(crate) async fn restarts(stage: &Stage) -> Result<i32> {
    let pods = pods(stage).await?;
    let statuses = pods.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
    Ok(statuses.map(|status| status.restart_count).sum())
}

/// What modulet's record is in.
pub(crate) async fn record(stage: &Stage) -> Result<BTreeSet<String>> {
    let ours = ListParams::default().labels("modulet.koupleless.io/record=dev");
    let maps = Api::<ConfigMap>::namespaced(stage.client.clone(), NAMESPACE).list(&ours).await?.items;
    Ok(maps.into_iter().filter_map(|map| map.metadata.name).collect())
}
