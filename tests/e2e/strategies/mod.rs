//! Release strategies, each with its file of `examples/strategies` as it stands.

mod autoscaler;
mod batches;
mod daemonset;
mod jobs;
mod non_peer;
mod peer_deployment;
mod scattering;
mod web_modules;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{base::SimulatedBase, wait::eventually};

use crate::{
    stage::{SOON, Stage, is_ready},
    workloads::{Gaps, LABEL, removed, told_no_more_than},
};

/// A further command would come within this time.
const QUIET: Duration = Duration::from_secs(2);

/// Applies a file with that version of the module, for the stage's bases.
async fn release(stage: &Stage, file: &str, version: &str) -> Result<()> {
    release_with(stage, file, version, &[]).await
}

/// The same with other changes besides.
async fn release_with(stage: &Stage, file: &str, version: &str, changes: &[(&str, &str)]) -> Result<()> {
    let here = format!("base.koupleless.io/name: {}", stage.name);
    let mut all = vec![("base.koupleless.io/name: base", here.as_str()), ("0.0.1", version)];
    all.extend(changes);
    stage.apply_example(&format!("strategies/{file}"), &all).await
}

/// Waits until every base was told to install before it was told to uninstall, once each, and ends the release.
async fn updated_once_without_a_gap(stage: &Stage, bases: &[SimulatedBase], gaps: Gaps) -> Result<()> {
    for base in bases {
        told_no_more_than(base, "biz1", &["install 0.0.1", "install 0.0.2", "uninstall 0.0.1"], QUIET).await?;
    }
    assert_eq!(gaps.found(), [] as [String; 0], "moments at which no version was active");
    drop(gaps);
    removed(stage, "deployment/biz1", bases).await
}

/// The Node that a Pod is on; empty while it has none.
fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// Waits until the Pods that are Ready are one on each of these bases.
async fn one_on_each(stage: &Stage, ids: &[&str]) -> Result<()> {
    let mut wanted: Vec<_> = ids.iter().map(|id| stage.node_name(id)).collect();
    wanted.sort_unstable();
    eventually(&format!("one Ready Pod on each of {ids:?}"), SOON, async || {
        let pods = stage.pods_with(LABEL).await?;
        let mut nodes: Vec<_> = pods.iter().filter(|p| is_ready(p)).map(node).collect();
        nodes.sort_unstable();
        ensure!(nodes == wanted, "they are on {nodes:?}");
        Ok(())
    })
    .await
}

/// Waits for something and prints how long it took.
async fn measured<T>(what: &str, since: Instant, wait: impl Future<Output = Result<T>>) -> Result<T> {
    let value = wait.await?;
    println!("{what}: {} ms", since.elapsed().as_millis());
    Ok(value)
}
