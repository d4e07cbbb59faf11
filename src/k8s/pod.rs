//! A Pod as the core sees it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1 as core;

use super::{Revisions, names};
use crate::domain::{Container, ContainerHistory, Content, ModuleId, ModuleSpec, Pod};

/// Default of `terminationGracePeriodSeconds` (Kubernetes convention).
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// What the Pod's component label says: `module`, something else, or nothing.
pub fn component(pod: &core::Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get(names::COMPONENT).or_else(|| labels.get(names::COMPONENT_OLD)).map(String::as_str)
}

/// Drops what nobody here reads: half of a Pod's bytes are managed fields, volumes and mounts.
pub fn trim(pod: &mut core::Pod) {
    pod.metadata.managed_fields = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.clear();
    }
    if let Some(spec) = &mut pod.spec {
        let kept = core::PodSpec {
            containers: std::mem::take(&mut spec.containers),
            init_containers: spec.init_containers.take(),
            node_name: spec.node_name.take(),
            readiness_gates: spec.readiness_gates.take(),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            ..core::PodSpec::default()
        };
        *spec = kept;
        for container in &mut spec.containers {
            container.volume_mounts = None;
            container.resources = None;
        }
    }
}

/// The Pod as the core sees it.
pub fn pod_from(pod: &core::Pod, revisions: &Revisions) -> Pod {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let terminal = matches!(phase, "Failed" | "Succeeded");
    let spec = pod.spec.as_ref();
    let grace = spec.and_then(|s| s.termination_grace_period_seconds);
    Pod {
        uid: Arc::from(meta.uid.as_deref().unwrap_or_default()),
        name: format!(
            "{}/{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default()
        ),
        created: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        workload: revisions.workload(meta),
        content: content(pod),
        deleting: meta.deletion_timestamp.is_some().then(|| pre_stop_sleep(pod)),
        terminal,
        superseded: terminal && status.and_then(|s| s.reason.as_deref()) == Some(names::BIZ_DEACTIVATE),
        grace: grace.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_GRACE, Duration::from_secs),
    }
}

fn content(pod: &core::Pod) -> Content {
    match component(pod) {
        Some("module") => {}
        Some(other) => {
            return Content::Foreign(format!("a base runs modules only, and the Pod's component label says {other:?}"));
        }
        None => {
            return Content::Foreign(format!(
                "a base runs modules only, and the Pod has no label {}=module",
                names::COMPONENT
            ));
        }
    }
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    Content::Modules(
        containers
            .map(|c| Container { name: c.name.clone(), module: module(pod, c), history: history(pod, &c.name) })
            .collect(),
    )
}

fn module(pod: &core::Pod, container: &core::Container) -> Result<ModuleSpec, String> {
    let env = || container.env.iter().flatten();
    let version = env()
        .find(|e| e.name == names::BIZ_VERSION)
        .and_then(|e| e.value.clone())
        .or_else(|| pod.metadata.labels.as_ref()?.get(names::MODULE_VERSION).cloned())
        .filter(|v| !v.is_empty())
        .ok_or_else(|| {
            format!(
                "container {} has no module version: set its env {} or the Pod's label {}",
                container.name,
                names::BIZ_VERSION,
                names::MODULE_VERSION
            )
        })?;
    let url = container.image.clone().unwrap_or_default();
    if !url.contains("://") {
        return Err(format!(
            "the image of container {} is {url:?}: it must be the URL of a module's jar",
            container.name
        ));
    }
    let envs: BTreeMap<_, _> = env()
        .filter(|e| e.name != names::BIZ_VERSION)
        .filter_map(|e| Some((e.name.clone(), e.value.clone()?)))
        .collect();
    Ok(ModuleSpec {
        id: ModuleId::new(&container.name, version),
        url,
        args: container.args.clone().unwrap_or_default(),
        envs,
    })
}

fn history(pod: &core::Pod, name: &str) -> ContainerHistory {
    let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
    let Some(status) = statuses.into_iter().find(|s| s.name == name) else { return ContainerHistory::default() };
    let state = status.state.as_ref();
    let running = state.is_some_and(|s| s.running.is_some());
    let ended = state.and_then(|s| s.terminated.as_ref());
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    ContainerHistory {
        // A start that failed has no start time in `lastState`.
        has_run: running || ended.is_some() || last.is_some_and(|t| t.started_at.is_some()),
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        failed: last.is_some(),
    }
}

/// The longest `lifecycle.preStop.sleep` of its containers.
fn pre_stop_sleep(pod: &core::Pod) -> Duration {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let seconds = containers
        .filter_map(|c| c.lifecycle.as_ref()?.pre_stop.as_ref()?.sleep.as_ref())
        .map(|s| s.seconds)
        .max()
        .unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
