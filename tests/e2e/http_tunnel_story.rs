//! modulet in the place of the Go controller, whose variables and port it has.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{BizState, HttpBase, HttpOptions},
    ports::is_free,
    schema::http::{Part, validate},
    wait::eventually,
};
use serde_json::json;

use crate::{
    http_tunnel::told,
    stage::{SOON, Stage, is_ready},
    workloads::{deployment, ready_pods, rolled_out},
};

/// Where the Go controller listens if nothing else is said.
const PORT: u16 = 7777;
const ABSENCE: Duration = Duration::from_secs(60);

/// The one Pod of a version, Ready after so many restarts.
async fn serves(stage: &Stage, base: &HttpBase, version: &str, restarts: i32) -> Result<()> {
    base.wait_for_state("biz1", version, Some(BizState::Activated), SOON).await?;
    eventually("its Pod Ready", SOON, async || {
        let pods = stage.pods_with(&format!("module.koupleless.io/version={version}")).await?;
        let ready: Vec<&Pod> = pods.iter().filter(|pod| is_ready(pod)).collect();
        let restarted = |pod: &&Pod| {
            let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            statuses.map(|c| c.restart_count).sum::<i32>()
        };
        let counts: Vec<_> = ready.iter().map(restarted).collect();
        ensure!(counts == [restarts], "{counts:?} of {} Pods", pods.len());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_go_controllers_place_a_base_that_speaks_only_what_is_recorded_has_all_it_needs() -> Result<()> {
    ensure!(is_free(PORT), "somebody listens on port {PORT}");
    let variables = [("ENABLE_HTTP_TUNNEL", "true"), ("ENABLE_MQTT_TUNNEL", "false"), ("IS_CLUSTER", "false")];
    let mut stage = Stage::set_with("http-go-place", |options| {
        variables.iter().fold(options, |options, (name, value)| options.env(name, *value))
    })
    .await?;
    // As the stock hook has it: its identity is its address.
    let base = HttpBase::start(stage.base_options("192.0.2.10"), HttpOptions::new(PORT)).await?;
    let node = stage.node_name("192.0.2.10");
    stage.node_ready(&node, "True").await?;

    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 1, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    serves(&stage, &base, "1", 0).await?;

    stage.apply(&deployment(&stage, "biz1", 1, "2", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    serves(&stage, &base, "2", 0).await?;
    base.wait_for_state("biz1", "1", None, SOON).await?;

    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    serves(&stage, &base, "1", 0).await?;
    base.wait_for_state("biz1", "2", None, SOON).await?;
    ready_pods(&stage, "2", 0).await?;

    base.restart().await?;
    serves(&stage, &base, "1", 1).await?;

    stage.controller.kill9().await?;
    tokio::time::sleep(ABSENCE).await; // it is away that long
    stage.controller.restart().await?;
    stage.node_ready(&node, "True").await?;
    serves(&stage, &base, "1", 1).await?;

    stage.kubectl(&["delete", "deployment", "biz1"]).await?;
    base.wait_for_state("biz1", "1", None, SOON).await?;
    eventually("no Pod left", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        ensure!(pods.is_empty(), "{}", pods.len());
        Ok(())
    })
    .await?;
    let switched = ["install 1", "install 2", "switch over 2", "uninstall 1"];
    let undone = ["install 1", "switch over 1", "uninstall 2"];
    let after = ["install 1", "uninstall 1"];
    assert_eq!(told(&base), [&switched[..], &undone, &after].concat());
    for (command, body) in base.heard() {
        let valid = validate(&format!("/{command}"), Part::Request, body.to_string().as_bytes());
        assert_eq!(valid, Ok(()), "{command}");
    }
    stage.ends_quietly().await.context("the end")
}
