//! A release in batches: a Deployment that has a Pod on each base gets another version, and a `ModuleRollout` lets it
//! come to one batch of bases after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use modulet::k8s::rollout::{ModuleRollout, Phase as ReleasePhase};
use modulet_testkit::{base::BizState, helm::chart, wait::eventually};
use serde_json::{Value, json};

use crate::{
    ceiling::Ceiling,
    figures::{Latency, Phase},
    objects::{self, Module, NAMESPACE, create, request},
    phases::{Done, conclude},
    progress::say,
    releases::received,
    stage::Stage,
};

const BIZ: &str = "batched";
const OLD: &str = "1.0.0";
const NEW: &str = "2.0.0";
const ROLLOUTS: &str = "/apis/modulet.koupleless.io/v1alpha1/namespaces/bench/modulerollouts";
/// Between two looks at all bases.
const LOOK_AT_ALL: Duration = Duration::from_millis(200);
/// A batch is over within this, and what Kubernetes makes of so many Pods in some times of it.
const PATIENCE: Duration = Duration::from_mins(10);

/// How it went.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Batches {
    pub(crate) count: u32,
    /// Bases with an active version, at the moment with the fewest.
    pub(crate) fewest: usize,
    /// Seconds after the first command of all, when each batch had its last one.
    pub(crate) ended: Vec<f64>,
    /// Pods at the most.
    pub(crate) pods: usize,
}

/// Makes the kind, before anything looks for it.
pub(crate) async fn define(stage: &Stage) -> Result<()> {
    let file = chart().join("definitions/modulerollouts.yaml");
    let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/modulerollouts.modulet.koupleless.io?fieldManager=bench";
    let request = http::Request::builder().method(Method::PATCH).uri(path);
    let request = request.header(http::header::CONTENT_TYPE, "application/apply-patch+yaml").body(text)?;
    stage.client.request_text(request).await.context("defining ModuleRollouts")?;
    Ok(())
}

/// A Pod of a Deployment on each base.
pub(crate) async fn deployed(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    let count = stage.options.bases();
    say(&format!("a Deployment of {count} Pods"));
    let before = stage.snapshot().await?;
    create(&stage.client, &objects::deployments(), &deployment(OLD, count)).await?;
    let with = || serving(stage, Some(OLD));
    stage.wait("all bases to have the first version", PATIENCE, count, with).await?;
    let ready = || Ok(stage.sight.like(BIZ).iter().filter(|pod| pod.ready.is_some()).count());
    stage.wait("all its Pods to be Ready", PATIENCE, count, ready).await?;
    let last = stage.sight.like(BIZ).iter().filter_map(|pod| pod.ready).max().context("no Pod at all")?;
    let done =
        Done { name: "deployed", count, of: "Pod", before, last, latencies: vec![], created: 0, own_writes: vec![] };
    Ok(Phase { at_ceiling: None, ..conclude(stage, ceiling, done).await? })
}

/// Another version, batch by batch, without a pause.
pub(crate) async fn release(stage: &Stage, ceiling: &Ceiling, batches: u32) -> Result<(Phase, Batches)> {
    let count = stage.options.bases();
    say(&format!("{count} bases in {batches} batches"));
    let size = count.div_ceil(batches as usize);
    let steps: Vec<_> =
        (1..=batches).map(|n| json!({ "replicas": format!("{}%", (100 * n).div_ceil(batches)) })).collect();
    let rollout = json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout", "metadata": { "name": BIZ },
        "spec": {
            "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": BIZ },
            "steps": steps, "maxParallel": size.min(1000),
        },
    });
    create(&stage.client, ROLLOUTS, &rollout).await?;
    eventually("the ModuleRollout to be looked at", Duration::from_secs(60), async || {
        let phase = phase(stage).await?;
        ensure!(phase == Some(ReleasePhase::Idle), "{phase:?}");
        Ok(())
    })
    .await?;
    stage.quiet().await?;
    let before = stage.snapshot().await?;
    let template = request(
        Method::PATCH,
        &format!("{}/{BIZ}", objects::deployments()),
        "application/merge-patch+json",
        &json!({ "spec": { "template": deployment(NEW, count)["spec"]["template"] } }),
    )?;
    stage.client.request_text(template).await.context("giving the Deployment its new template")?;
    let started = Instant::now();
    let mut fewest = count;
    loop {
        fewest = fewest.min(serving(stage, None)?);
        let has_it = serving(stage, Some(NEW))?;
        if phase(stage).await? == Some(ReleasePhase::Completed) && has_it == count {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "{has_it} of {count} bases after {PATIENCE:?}");
        tokio::time::sleep(LOOK_AT_ALL).await;
    }
    let last = Instant::now();
    let commands = (0..count).map(|base| received(stage, &Module::new(base, BIZ, NEW), "installBiz"));
    let mut commands: Vec<_> = commands.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    commands.sort_unstable();
    let first = *commands.first().context("no command at all")?;
    let ended = commands.chunks(size).filter_map(|batch| Some((*batch.last()? - first).as_secs_f64())).collect();
    let ready = stage.sight.like(BIZ).into_iter().filter_map(|pod| Some(pod.ready? - pod.bound?));
    let latencies = vec![Latency::of("bound → Ready, through all batches", ready)];
    let pods = stage.sight.like(BIZ).len();
    let done = Done { name: "in batches", count, of: "base", before, last, latencies, created: 0, own_writes: vec![] };
    let phase = Phase { at_ceiling: None, ..conclude(stage, ceiling, done).await? };
    Ok((phase, Batches { count: batches, fewest, ended, pods }))
}

/// Selects by name only, so that it is one Deployment for all versions; a Pod of each version on each base.
fn deployment(version: &str, replicas: usize) -> Value {
    let mut object = objects::deployment(BIZ, version, replicas);
    object["spec"]["selector"] = json!({ "matchLabels": { "module.koupleless.io/name": BIZ } });
    object["spec"]["strategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } });
    object["spec"]["progressDeadlineSeconds"] = json!(86_400);
    object
}

async fn phase(stage: &Stage) -> Result<Option<ReleasePhase>> {
    let object = kube::Api::<ModuleRollout>::namespaced(stage.client.clone(), NAMESPACE).get(BIZ).await?;
    Ok(object.status.and_then(|status| status.phase))
}

/// Versions of the module that are active on a base.
fn active(stage: &Stage, base: usize) -> Result<Vec<String>> {
    let modules = stage.bases()?.modules(base).into_iter();
    let active = modules.filter(|(name, _, state)| name == BIZ && *state == BizState::Activated);
    Ok(active.map(|(_, version, _)| version).collect())
}

/// How many bases serve that version, or any.
fn serving(stage: &Stage, version: Option<&str>) -> Result<usize> {
    let all = (0..stage.options.bases()).map(|base| active(stage, base)).collect::<Result<Vec<_>>>()?;
    Ok(all.iter().filter(|active| active.iter().any(|has| version.is_none_or(|version| has == version))).count())
}
