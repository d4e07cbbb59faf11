//! Installing, updating and deleting modules on all bases at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use modulet_testkit::base::ReceivedCommand;

use crate::{
    ceiling::Ceiling,
    figures::{Latency, Phase},
    objects::{self, Module, create, delete as delete_object, in_parallel},
    phases::{Done, conclude},
    progress::say,
    sight::PodTimes,
    stage::Stage,
};

/// The module that all bases get, and the one that some get before.
const BIZ: &str = "biz";
const BURST: &str = "burst";
const DEPLOYED: &str = "deployed";
pub(crate) const OLD: &str = "1.0.0";
const NEW: &str = "2.0.0";

/// Some modules at once, while there is nothing else to do.
pub(crate) async fn burst(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    let count = stage.options.burst();
    release(stage, ceiling, "burst", &all(count, BURST, OLD), None).await
}

/// As many at once by a Deployment, as users do it: the scheduler binds the Pods. It is deleted again.
pub(crate) async fn deployment(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    let count = stage.options.burst();
    say(&format!("deployment: {count} Pods"));
    let limit = Stage::patience(count);
    let before = stage.snapshot().await?;
    create(&stage.client, &objects::deployments(), &objects::deployment(DEPLOYED, OLD, count)).await?;
    let sight = &stage.sight;
    let ready = || Ok(sight.like(DEPLOYED).iter().filter(|p| p.ready.is_some()).count());
    stage.wait("all Pods of the Deployment to be Ready", limit, count, ready).await?;

    let pods = sight.like(DEPLOYED);
    let command = |pod: &PodTimes| {
        let module = Module::new(pod.base.context("a Pod on no base")?, DEPLOYED, OLD);
        received(stage, &module, "installBiz")
    };
    let commands = pods.iter().map(command).collect::<Result<Vec<_>>>()?;
    let latencies = vec![
        Latency::of("shown by a watch → command", between(pods.iter().map(|p| p.shown), commands.iter().copied())),
        Latency::of("reply → Ready", between(commands.iter().copied(), pods.iter().map(|p| p.ready))),
    ];
    let last = pods.iter().filter_map(|p| p.ready).max().context("no Pod at all")?;
    let done = Done { name: "deployment", count, of: "Pod", before, last, latencies, created: 0, own_writes: vec![] };
    let phase = Phase { at_ceiling: None, ..conclude(stage, ceiling, done).await? };
    delete_object(&stage.client, &format!("{}/{DEPLOYED}", objects::deployments())).await?;
    let gone = || Ok(sight.like(DEPLOYED).iter().filter(|p| p.gone.is_some()).count());
    stage.wait("all Pods of the Deployment to be gone", limit, count, gone).await?;
    stage.quiet().await?; // what comes of it is not to be counted with the next phase
    Ok(phase)
}

/// A module on each base.
pub(crate) async fn install(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    release(stage, ceiling, "install", &all(stage.options.bases(), BIZ, OLD), None).await
}

/// A newer version of it on each base.
pub(crate) async fn update(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    let bases = stage.options.bases();
    release(stage, ceiling, "update", &all(bases, BIZ, NEW), Some(&all(bases, BIZ, OLD))).await
}

/// The same module on each base.
pub(crate) fn all(bases: usize, name: &'static str, version: &str) -> Vec<Module> {
    (0..bases).map(|base| Module::new(base, name, version)).collect()
}

fn pod_names(modules: &[Module]) -> Vec<String> {
    modules.iter().map(Module::pod_name).collect()
}

/// Creates a bound Pod for each module; done when all are Ready, and those they replace have failed.
pub(crate) async fn release(
    stage: &Stage,
    ceiling: &Ceiling,
    name: &'static str,
    modules: &[Module],
    replaced: Option<&[Module]>,
) -> Result<Phase> {
    let count = modules.len();
    say(&format!("{name}: {count} Pods"));
    let limit = Stage::patience(count);
    let names = pod_names(modules);
    let old_names = replaced.map(pod_names).unwrap_or_default();
    let before = stage.snapshot().await?;

    let (client, list) = (stage.client.clone(), modules.to_vec());
    let created = in_parallel(stage.options.writers(), count, move |number| {
        let (client, pod) = (client.clone(), list[number].pod());
        async move {
            create(&client, &objects::pods(), &pod).await?;
            Ok(Instant::now())
        }
    });
    let created = tokio::time::timeout(limit, created).await.with_context(|| format!("creating {count} Pods"))??;
    for (pod, at) in names.iter().zip(created) {
        stage.sight.created(pod, at);
    }
    let sight = &stage.sight;
    stage.wait("all Pods to be Ready", limit, count, || Ok(sight.count(&names, |p| p.ready.is_some()))).await?;
    let failed = || Ok(sight.count(&old_names, |p| p.failed.is_some()));
    stage.wait("all replaced Pods to be Failed", limit, old_names.len(), failed).await?;

    let commands = modules.iter().map(|module| received(stage, module, "installBiz"));
    let commands = commands.collect::<Result<Vec<_>>>()?;
    let pods = sight.of(&names);
    let old_pods = sight.of(&old_names);
    let mut latencies = vec![
        Latency::of("bound → command", between(pods.iter().map(|p| p.bound), commands.iter().copied())),
        Latency::of("bound → shown by a watch", between(pods.iter().map(|p| p.bound), pods.iter().map(|p| p.shown))),
        Latency::of("shown by a watch → command", between(pods.iter().map(|p| p.shown), commands.iter().copied())),
        Latency::of("reply → Ready", between(commands.iter().copied(), pods.iter().map(|p| p.ready))),
        Latency::of("bound → Ready", between(pods.iter().map(|p| p.bound), pods.iter().map(|p| p.ready))),
    ];
    if replaced.is_some() {
        let failed = old_pods.iter().map(|p| p.failed);
        latencies.push(Latency::of("reply → old Pod Failed", between(commands.into_iter(), failed)));
    }
    let ends = pods.iter().map(|p| p.ready).chain(old_pods.iter().map(|p| p.failed));
    let last = ends.flatten().max().context("no Pod at all")?;
    let own_writes = vec![("pod create", count)];
    let done = Done { name, count, of: "Pod", before, last, latencies, created: 0, own_writes };
    conclude(stage, ceiling, done).await
}

/// Deletes all Pods, those that were replaced too; done when they are gone, and all modules with them.
pub(crate) async fn delete(stage: &Stage, ceiling: &Ceiling) -> Result<Phase> {
    let bases = stage.options.bases();
    let burst = all(stage.options.burst(), BURST, OLD);
    let live: Vec<_> = all(bases, BIZ, NEW).into_iter().chain(burst).collect();
    let names = pod_names(&live);
    let replaced = pod_names(&all(bases, BIZ, OLD));
    let every: Vec<_> = names.iter().chain(&replaced).cloned().collect();
    let count = every.len();
    say(&format!("delete: {} Pods, and {} that were replaced", names.len(), replaced.len()));
    let limit = Stage::patience(count);
    let before = stage.snapshot().await?;

    let (client, list) = (stage.client.clone(), every.clone());
    let deleted = in_parallel(stage.options.writers(), count, move |number| {
        let (client, path) = (client.clone(), format!("{}/{}", objects::pods(), list[number]));
        async move {
            delete_object(&client, &path).await?;
            Ok(Instant::now())
        }
    });
    let deleted = tokio::time::timeout(limit, deleted).await.with_context(|| format!("deleting {count} Pods"))??;
    for (pod, at) in every.iter().zip(deleted) {
        stage.sight.deleted(pod, at);
    }
    let (sight, on_bases) = (&stage.sight, stage.bases()?);
    stage.wait("all Pods to be gone", limit, count, || Ok(sight.count(&every, |p| p.gone.is_some()))).await?;
    let empty = || Ok((0..on_bases.len()).filter(|base| on_bases.modules(*base).is_empty()).count());
    stage.wait("all modules to be uninstalled", limit, bases, empty).await?;

    let commands = live.iter().map(|module| received(stage, module, "uninstallBiz")).collect::<Result<Vec<_>>>()?;
    let pods = sight.of(&names);
    let latencies = vec![
        Latency::of("deletion → command", between(pods.iter().map(|p| p.deleted), commands.iter().copied())),
        Latency::of("reply → Pod gone", between(commands.iter().copied(), pods.iter().map(|p| p.gone))),
        Latency::of("deletion → Pod gone", between(pods.iter().map(|p| p.deleted), pods.iter().map(|p| p.gone))),
    ];
    let last = sight.of(&every).iter().filter_map(|p| p.gone).max().context("no Pod at all")?;
    let own_writes = vec![("pod delete", names.len()), ("pod removal", replaced.len())];
    let done = Done { name: "delete", count, of: "Pod", before, last, latencies, created: 0, own_writes };
    conclude(stage, ceiling, done).await
}

/// When a base first received the command about a module; a simulated base answers in the same moment.
pub(crate) fn received(stage: &Stage, module: &Module, command: &str) -> Result<Option<Instant>> {
    let about = |received: &ReceivedCommand| {
        let field = |key: &str| received.payload.get(key).and_then(|v| v.as_str());
        received.command == command
            && field("bizName") == Some(module.name)
            && field("bizVersion") == Some(&module.version)
    };
    Ok(stage.bases()?.received_at(module.base, about))
}

fn between(
    from: impl Iterator<Item = Option<Instant>>,
    to: impl Iterator<Item = Option<Instant>>,
) -> impl Iterator<Item = Duration> {
    from.zip(to).filter_map(|(from, to)| Some(to?.saturating_duration_since(from?)))
}
