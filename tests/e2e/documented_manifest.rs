//! The example that the documents show, as it stands: release, update, removal.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    wait::eventually,
};

use crate::{
    stage::{SOON, Stage, is_ready},
    workloads::{LABEL, removed},
};

const FILE: &str = "module-deployment.yaml";
const UPDATE: [(&str, &str); 1] = [("0.0.1", "0.0.2")];

fn image(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|s| s.containers.first());
    container.and_then(|c| c.image.as_deref()).unwrap_or_default()
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// Waits until the bases have one Ready Pod of that version each, and no other Pod is Ready.
async fn released(stage: &Stage, bases: &[SimulatedBase], version: &str) -> Result<()> {
    eventually(&format!("{version} on every base"), SOON * 2, async || {
        let pods = stage.pods_with(LABEL).await?;
        let ready: Vec<_> = pods.iter().filter(|p| is_ready(p)).collect();
        ensure!(ready.iter().all(|p| image(p).contains(version)), "Pods of another version are Ready");
        let mut nodes: Vec<_> = ready.iter().map(|p| node(p)).collect();
        nodes.sort_unstable();
        let mut all: Vec<_> = bases.iter().map(|b| stage.node_name(&b.identity())).collect();
        all.sort_unstable();
        ensure!(nodes == all, "Ready are {nodes:?}");
        Ok(())
    })
    .await?;
    for base in bases {
        assert_eq!(base.state_of("biz1", version), Some(BizState::Activated), "{}", base.identity());
    }
    Ok(())
}

async fn three_bases(stage: &Stage, name: &str, activation: Activation) -> Result<Vec<SimulatedBase>> {
    let mut bases = Vec::new();
    for id in ["base-1", "base-2", "base-3"] {
        let options = BaseOptions { name: name.to_owned(), activation, ..stage.base_options(id) };
        bases.push(stage.base(options).await?);
    }
    Ok(bases)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_manifest_is_released_updated_and_removed() -> Result<()> {
    let stage = Stage::set("documented").await?;
    let bases = three_bases(&stage, "base", Activation::ActivateNew).await?;

    stage.apply_example(FILE, &[]).await?;
    released(&stage, &bases, "0.0.1").await?;
    assert_eq!(stage.pods_with(LABEL).await?.len(), 3, "one on each base");
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;

    stage.apply_example(FILE, &UPDATE).await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=80s"]).await?;
    released(&stage, &bases, "0.0.2").await?;

    removed(&stage, "deployment/biz1", &bases).await?;
    for base in &bases {
        assert_eq!(base.received("installBiz"), 2, "one for each version on {}", base.identity());
        assert_eq!(base.received("uninstallBiz"), 2, "one for each version on {}", base.identity());
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bases_with_default_settings_take_the_update_too() -> Result<()> {
    let stage = Stage::set("documented-default").await?;
    let bases = three_bases(&stage, &stage.name, Activation::Default).await?;
    let here = ("values: [base]", "values: [documented-default]");

    stage.apply_example(FILE, &[here]).await?;
    released(&stage, &bases, "0.0.1").await?;
    stage.apply_example(FILE, &[here, UPDATE[0]]).await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=80s"]).await?;
    released(&stage, &bases, "0.0.2").await?;
    removed(&stage, "deployment/biz1", &bases).await?;
    stage.ends_quietly().await
}
