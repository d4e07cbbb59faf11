//! When all is well: all that is released is there, and nothing else.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{Node, Pod},
};
use kube::{Api, api::ListParams};
use modulet_testkit::base::BizState;
use tokio::time::timeout;

use super::{
    event::{FOREIGN, Module},
    faults::BASES,
    watch::{is_ready, is_wanted, modules_of, pod_base},
    workload::Workload,
    world::{NAME, World},
};

/// After which a question is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fails with the first thing that is not well.
pub(crate) async fn healed(world: &World, workloads: &[Workload]) -> Result<()> {
    timeout(PATIENCE, all(world, workloads)).await.context("the API server does not answer")?
}

async fn all(world: &World, workloads: &[Workload]) -> Result<()> {
    nodes(world).await?;
    for workload in workloads {
        rolled_out(world, workload).await.with_context(|| workload.name.to_owned())?;
    }
    let pods = Api::<Pod>::namespaced(world.client.clone(), NAME).list(&ListParams::default()).await?.items;
    let mut wanted = vec![BTreeSet::from([Module::new(FOREIGN, "1")]); BASES];
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        ensure!(is_wanted(pod), "Pod {name} is on its way out");
        ensure!(is_ready(pod), "Pod {name} is not Ready: {}", serde_json::to_string(&pod.status)?);
        let base = pod_base(pod).with_context(|| format!("Pod {name} has no base"))?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        ensure!(ip == world.bases[base].ip(), "Pod {name} has {ip}, base {base} {}", world.bases[base].ip());
        wanted[base].extend(modules_of(pod));
    }
    for (number, base) in world.bases.iter().enumerate() {
        let modules = base.jvm.modules();
        let has: BTreeSet<_> = modules.iter().map(|module| Module::new(&module.0, &module.1)).collect();
        ensure!(has == wanted[number], "base {number} has {has:?}, wanted: {:?}", wanted[number]);
        ensure!(modules.iter().all(|module| module.2 == BizState::Activated), "base {number}: {modules:?}");
    }
    Ok(())
}

async fn nodes(world: &World) -> Result<()> {
    let nodes = Api::<Node>::all(world.client.clone()).list(&ListParams::default()).await?.items;
    let ready = |node: &&Node| {
        let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let ready: Vec<_> = nodes.iter().filter(ready).filter_map(|node| node.metadata.name.as_deref()).collect();
    ensure!(ready.len() == BASES, "{} Nodes are Ready: {ready:?}", ready.len());
    Ok(())
}

async fn rolled_out(world: &World, workload: &Workload) -> Result<()> {
    let client = world.client.clone();
    let Some(replicas) = workload.replicas else {
        let set = Api::<DaemonSet>::namespaced(client, NAME).get(workload.name).await?;
        let status = set.status.unwrap_or_default();
        ensure!(status.observed_generation == set.metadata.generation, "not observed");
        let all = Some(i32::try_from(BASES)?);
        let numbers =
            [Some(status.desired_number_scheduled), status.updated_number_scheduled, Some(status.number_ready)];
        ensure!(numbers.iter().all(|number| *number == all), "wanted, updated, ready: {numbers:?}");
        return Ok(());
    };
    let deployment = Api::<Deployment>::namespaced(client, NAME).get(workload.name).await?;
    let status = deployment.status.unwrap_or_default();
    ensure!(status.observed_generation == deployment.metadata.generation, "not observed");
    let all = Some(i32::try_from(replicas)?);
    let numbers = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
    ensure!(numbers.iter().all(|number| *number == all), "all, updated, ready, available: {numbers:?} of {replicas}");
    Ok(())
}
