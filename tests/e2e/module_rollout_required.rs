//! Where there are no `ModuleRollout`s, because the kind is not there or is forbidden, all else works.

use anyhow::{Result, ensure};
use modulet_testkit::{
    base::Activation,
    control_plane::{ControlPlane, ControlPlaneOptions},
    controller::{Controller, ControllerOptions},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_api::with_rights,
    module_rollout_help::{all_at_once, defined},
    stage::{SOON, Stage, container_message, container_reason},
    workloads::{alone, bases, deployment, rolled_out, told},
};

const BASES: usize = 2;

fn required(stage: &Stage, name: &str) -> Value {
    let mut deployment = deployment(stage, name, BASES, "1", &all_at_once());
    deployment["spec"]["template"]["metadata"]["annotations"] = json!({ "modulet.koupleless.io/rollout": "required" });
    deployment
}

/// A workload that needs a `ModuleRollout` is held, and another one is updated as ever.
async fn is_held_and_nothing_else(stage: &Stage) -> Result<()> {
    let bases = bases(stage, BASES, Activation::ActivateNew).await?;
    stage.apply(&required(stage, "needs")).await?;
    for version in ["1", "2"] {
        stage.apply(&deployment(stage, "free", BASES, version, &all_at_once())).await?;
        rolled_out(stage, "deployment/free").await?;
        alone(&bases, "free", version, SOON).await?;
    }
    eventually("held, and why", SOON, async || {
        let pods = stage.pods_with("app=needs").await?;
        ensure!(pods.len() == BASES, "{}", pods.len());
        for pod in &pods {
            ensure!(container_reason(pod) == Some("AwaitingBatch"), "{}", json!(pod.status));
            let message = container_message(pod).unwrap_or_default();
            ensure!(message.contains("no ModuleRollout is there for its workload"), "{message}");
        }
        Ok(())
    })
    .await?;
    for base in bases.iter() {
        assert_eq!(told(base, "needs"), [""; 0], "{}", base.identity());
    }
    // Who does not want it any more says so.
    let mut free = required(stage, "needs");
    free["spec"]["template"]["metadata"]["annotations"] = Value::Null;
    stage.kubectl(&["delete", "deployment/needs"]).await?;
    stage.apply(&free).await?;
    rolled_out(stage, "deployment/needs").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kind_is_forbidden_what_needs_it_is_held_and_all_else_works() -> Result<()> {
    let mut stage = Stage::set_on(defined().await?, "batches-forbidden", |options| options).await?;
    let kubeconfig = with_rights(&stage, &["get", "list", "watch", "create", "update", "patch", "delete"]).await?;
    stage.controller.terminate().await?;
    let options =
        ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), stage.cluster.kubeconfig(), stage.broker.address());
    let options = options.env("ENV", &stage.name).env("KUBECONFIG", kubeconfig.display().to_string());
    stage.controller = Controller::start(options).await?;
    stage.log_line(&["going on without", "ModuleRollouts"]).await?;
    is_held_and_nothing_else(&stage).await?;
    stage.kubectl(&["delete", "clusterrolebinding,clusterrole", &stage.name]).await?;
    stage.ends_without_quiet("it was quiet before its rights went");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kind_is_not_there_what_needs_it_is_held_and_all_else_works() -> Result<()> {
    let cluster = ControlPlane::start_own(ControlPlaneOptions::default()).await?;
    let stage = Stage::set_on(cluster, "batches-unknown", |options| options).await?;
    stage.log_line(&["going on without", "ModuleRollouts"]).await?;
    is_held_and_nothing_else(&stage).await?;
    stage.ends_without_quiet("it was quiet");
    Ok(())
}
