//! Web modules: a base cannot load two versions of one, so each is uninstalled before the next is installed.
//!
//! With real ones and their callers: `tests/e2e/web_modules.rs`.

use std::time::{Duration, Instant};

use anyhow::Result;
use modulet_testkit::base::{BaseOptions, SimulatedBase};

use super::{QUIET, release_with, removed};
use crate::{
    stage::{SOON, Stage, container_reason, module_pod},
    workloads::{rolled_out, serving, told_no_more_than},
};

/// As many replicas as bases, as `docs/strategies/traffic.md` says.
const PEER: (&str, &str) = (
    "  name: webbiz\nspec:\n  replicas: 3 #",
    "  name: webbiz\n  labels: { virtual-kubelet.koupleless.io/strategy: peer }\nspec: #",
);

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_deployment_without_surge_updates_web_modules_on_all_bases() -> Result<()> {
    let stage = Stage::set("web-peer").await?;
    let mut bases = Vec::new();
    for id in ["base-0", "base-1", "base-2"] {
        bases.push(SimulatedBase::start(BaseOptions { web: true, ..stage.base_options(id) }).await?);
        stage.node_ready(&stage.node_name(id), "True").await?;
    }
    let short = ("seconds: 5", "seconds: 1");
    release_with(&stage, "web-module.yaml", "0.0.1", &[PEER, short]).await?;
    serving(&bases, "webbiz", "0.0.1", SOON).await?;
    rolled_out(&stage, "deployment/webbiz").await?;

    release_with(&stage, "web-module.yaml", "0.0.2", &[PEER, short]).await?;
    serving(&bases, "webbiz", "0.0.2", SOON).await?;
    rolled_out(&stage, "deployment/webbiz").await?;
    for base in &bases {
        told_no_more_than(base, "webbiz", &["install 0.0.1", "uninstall 0.0.1", "install 0.0.2"], QUIET).await?;
    }
    stage.kubectl(&["delete", "service", "webbiz"]).await?;
    removed(&stage, "deployment/webbiz", &bases).await?;
    stage.ends_quietly().await
}

/// With anti-affinity on the version, or none, a new Pod comes to the base while the old version is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_kept_out_is_installed_as_soon_as_the_other_one_is_gone() -> Result<()> {
    let stage = Stage::set("web-freed").await?;
    let base = stage.base(BaseOptions { web: true, ..stage.base_options("base-0") }).await?;
    stage.create_pod(module_pod(&stage.name, "old", &[("webbiz", "0.0.1")])).await?;
    stage.pod_ready("old").await?;
    stage.create_pod(module_pod(&stage.name, "new", &[("webbiz", "0.0.2")])).await?;
    let kept_out = |pod: &_| container_reason(pod) == Some("WebContextInUse");
    stage.pod_until("new", "kept out", kept_out).await?;
    stage.delete_pod("old").await?;
    let freed = Instant::now();
    stage.pod_ready("new").await?;
    assert!(freed.elapsed() < Duration::from_secs(5), "{:?} after the other one was gone", freed.elapsed());
    told_no_more_than(&base, "webbiz", &["install 0.0.1", "install 0.0.2", "uninstall 0.0.1", "install 0.0.2"], QUIET)
        .await?;
    stage.ends_quietly().await
}
