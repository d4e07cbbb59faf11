//! Non-peer deployment: fewer copies than bases, by each kind of workload that can have them.

use anyhow::{Result, ensure};
use modulet_testkit::{
    base::{Activation, SimulatedBase},
    wait::eventually,
};

use super::{LABEL, node, release, release_with, removed};
use crate::{
    stage::{SOON, Stage, is_ready, phase},
    workloads::{bases, ready_pods, rolled_out, told, told_no_more_than},
};

/// What the bases with a module have, sorted.
fn versions(bases: &[SimulatedBase]) -> Vec<String> {
    let mut all: Vec<_> = bases.iter().flat_map(SimulatedBase::modules).map(|m| m.1).collect();
    all.sort_unstable();
    all
}

async fn versions_become(bases: &[SimulatedBase], wanted: &[&str]) -> Result<()> {
    eventually(&format!("bases with {wanted:?}"), SOON, async || {
        let has = versions(bases);
        ensure!(has == wanted, "{has:?}");
        Ok(())
    })
    .await
}

/// How often all bases together were told so.
fn count(bases: &[SimulatedBase], command: &str) -> usize {
    bases.iter().flat_map(|b| told(b, "biz1")).filter(|t| t == command).count()
}

/// Two copies of each version were installed and uninstalled, no more.
fn each_twice(bases: &[SimulatedBase]) {
    for command in ["install 0.0.1", "uninstall 0.0.1", "install 0.0.2", "uninstall 0.0.2"] {
        assert_eq!(count(bases, command), 2, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_non_peer_deployment_moves_to_bases_that_have_none() -> Result<()> {
    let stage = Stage::set("non-peer-deployment").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    release(&stage, "non-peer-deployment.yaml", "0.0.1").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    versions_become(&bases, &["0.0.1", "0.0.1"]).await?;

    release(&stage, "non-peer-deployment.yaml", "0.0.2").await?;
    rolled_out(&stage, "deployment/biz1").await?;
    versions_become(&bases, &["0.0.2", "0.0.2"]).await?;
    removed(&stage, "deployment/biz1", &bases).await?;
    each_twice(&bases);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_updated_by_deleting_its_pods() -> Result<()> {
    let stage = Stage::set("non-peer-replicaset").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    release(&stage, "non-peer-replicaset.yaml", "0.0.1").await?;
    ready_pods(&stage, "0.0.1", 2).await?;

    release(&stage, "non-peer-replicaset.yaml", "0.0.2").await?;
    let old = stage.pods_with(LABEL).await?;
    assert_eq!(old.len(), 2);
    for (done, pod) in old.iter().enumerate() {
        ready_pods(&stage, "0.0.1", 2 - done).await?;
        stage.kubectl(&["delete", "pod", pod.metadata.name.as_deref().unwrap_or_default()]).await?;
        ready_pods(&stage, "0.0.2", done + 1).await?;
    }
    versions_become(&bases, &["0.0.2", "0.0.2"]).await?;
    removed(&stage, "replicaset/biz1", &bases).await?;
    each_twice(&bases);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_updates_its_copies_in_order() -> Result<()> {
    let stage = Stage::set("non-peer-stateful").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    release(&stage, "non-peer-statefulset.yaml", "0.0.1").await?;
    rolled_out(&stage, "statefulset/biz1").await?;

    release(&stage, "non-peer-statefulset.yaml", "0.0.2").await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    for pod in ["biz1-0", "biz1-1"] {
        assert!(is_ready(&stage.pods().get(pod).await?), "{pod}");
    }
    versions_become(&bases, &["0.0.2", "0.0.2"]).await?;
    removed(&stage, "statefulset/biz1", &bases).await?;
    each_twice(&bases);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_pod_is_released_on_the_base_it_names() -> Result<()> {
    let stage = Stage::set("non-peer-bare").await?;
    let bases = bases(&stage, 2, Activation::ActivateNew).await?;
    let name = stage.node_name("base-1");
    let release = async |version| {
        let pod = format!("biz1-{version}");
        let changes = [("vnode.base-1.dev", name.as_str()), ("0.0.1", version)];
        stage.apply_example("strategies/bare-pod.yaml", &changes).await?;
        anyhow::Ok(stage.pod_ready(&pod).await?)
    };
    assert_eq!(node(&release("0.0.1").await?), name);
    assert_eq!(node(&release("0.0.2").await?), name);
    stage.pod_until("biz1-0.0.1", "superseded", |pod| phase(pod) == "Failed").await?;
    for pod in ["biz1-0.0.1", "biz1-0.0.2"] {
        stage.delete_pod(pod).await?;
    }
    versions_become(&bases, &[]).await?;
    assert_eq!(told(&bases[0], "biz1"), [] as [&str; 0]);
    let story = ["install 0.0.1", "install 0.0.2", "uninstall 0.0.1", "uninstall 0.0.2"];
    told_no_more_than(&bases[1], "biz1", &story, super::QUIET).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_updates_the_last_copies_only() -> Result<()> {
    let file = "non-peer-statefulset.yaml";
    let stage = Stage::set("batch-partition").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    release(&stage, file, "0.0.1").await?;
    rolled_out(&stage, "statefulset/biz1").await?;

    release_with(&stage, file, "0.0.2", &[("partition: 0", "partition: 1")]).await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    versions_become(&bases, &["0.0.1", "0.0.2"]).await?;
    let version = async |pod| anyhow::Ok(stage.pods().get(pod).await?.metadata.labels.unwrap_or_default());
    assert_eq!(version("biz1-0").await?["module.koupleless.io/version"], "0.0.1");
    assert_eq!(version("biz1-1").await?["module.koupleless.io/version"], "0.0.2");
    assert_eq!(count(&bases, "uninstall 0.0.1"), 1, "the first copy was left alone");

    release(&stage, file, "0.0.2").await?;
    rolled_out(&stage, "statefulset/biz1").await?;
    versions_become(&bases, &["0.0.2", "0.0.2"]).await?;
    removed(&stage, "statefulset/biz1", &bases).await?;
    each_twice(&bases);
    stage.ends_quietly().await
}
