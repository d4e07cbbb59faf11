//! A Pod as the core sees it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1 as core;

use super::{
    Revisions,
    environment::{Sources, environment, wanted_annotations},
    names,
    workload::controller_of,
};
use crate::domain::{Container, ContainerHistory, Content, ModuleId, ModuleSpec, Pod, Role};

/// Default of `terminationGracePeriodSeconds` (Kubernetes convention).
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

const NEVER_COMPLETES: &str = "a module runs until its Pod is deleted, so a Job never completes; use a Deployment, \
                               DaemonSet or StatefulSet";

/// What the Pod's component label says: `module`, something else, or nothing.
pub fn component(pod: &core::Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get(names::COMPONENT).or_else(|| labels.get(names::COMPONENT_OLD)).map(String::as_str)
}

/// Drops the annotations that nobody here reads.
pub fn keep_wanted_annotations(pod: &mut core::Pod) {
    let wanted = wanted_annotations(pod);
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key == names::DELETION_COST || wanted.contains(key));
    }
}

/// The Pod as the core sees it.
pub fn pod_from(pod: &core::Pod, revisions: &Revisions, sources: &Sources<'_>) -> Pod {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let terminal = matches!(phase, "Failed" | "Succeeded");
    let spec = pod.spec.as_ref();
    let grace = spec.and_then(|s| s.termination_grace_period_seconds);
    Pod {
        uid: Arc::from(meta.uid.as_deref().unwrap_or_default()),
        name: format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
        created: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        workload: revisions.workload(meta),
        content: content(pod, sources),
        deleting: meta.deletion_timestamp.is_some().then(|| pre_stop_sleep(pod)),
        evicted: is_evicted(status),
        terminal,
        superseded: terminal && status.and_then(|s| s.reason.as_deref()) == Some(names::BIZ_DEACTIVATE),
        grace: grace.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_GRACE, Duration::from_secs),
    }
}

/// Kubernetes convention: the taint manager deletes Pods of a Node that is away, and says so in a condition.
fn is_evicted(status: Option<&core::PodStatus>) -> bool {
    let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|c| c.type_ == "DisruptionTarget" && c.reason.as_deref() == Some("DeletionByTaintManager"))
}

fn content(pod: &core::Pod, sources: &Sources<'_>) -> Content {
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
    let some_url = containers.clone().any(has_url);
    let role = |c: &core::Container| {
        // What an injector adds has an image of its own and knows nothing of modules.
        let injected = some_url && !has_url(c) && version_of(c).is_none();
        if injected { Role::SideCar } else { module(pod, c, sources).map_or_else(Role::Unusable, Role::Module) }
    };
    Content::Modules(
        containers.map(|c| Container { name: c.name.clone(), role: role(c), history: history(pod, &c.name) }).collect(),
    )
}

fn has_url(container: &core::Container) -> bool {
    container.image.as_ref().is_some_and(|image| image.contains("://"))
}

fn version_of(container: &core::Container) -> Option<&String> {
    let env = container.env.iter().flatten().find(|e| e.name == names::BIZ_VERSION);
    env.and_then(|e| e.value.as_ref()).filter(|v| !v.is_empty())
}

fn module(pod: &core::Pod, container: &core::Container, sources: &Sources<'_>) -> Result<ModuleSpec, String> {
    if controller_of(&pod.metadata).is_some_and(|o| o.kind == "Job" && o.api_version.starts_with("batch/")) {
        return Err(NEVER_COMPLETES.to_owned());
    }
    let label = || pod.metadata.labels.as_ref()?.get(names::MODULE_VERSION).filter(|v| !v.is_empty());
    let version = version_of(container).or_else(label).ok_or_else(|| {
        format!(
            "container {} has no module version: set its env {} or the Pod's label {}",
            container.name,
            names::BIZ_VERSION,
            names::MODULE_VERSION
        )
    })?;
    let url = container.image.clone().unwrap_or_default();
    if !has_url(container) {
        return Err(format!(
            "the image of container {} is {url:?}: it must be the URL of a module's jar",
            container.name
        ));
    }
    let (mut envs, args, unresolved) = match environment(pod, container, sources) {
        Ok((envs, args)) => (envs, args, None),
        Err(why) => (BTreeMap::new(), Vec::new(), Some(why)),
    };
    envs.remove(names::BIZ_VERSION);
    Ok(ModuleSpec { id: ModuleId::new(&container.name, version), url, args, envs, unresolved })
}

fn history(pod: &core::Pod, name: &str) -> ContainerHistory {
    let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
    let Some(status) = statuses.into_iter().find(|s| s.name == name) else { return ContainerHistory::default() };
    let state = status.state.as_ref();
    let running = state.is_some_and(|s| s.running.is_some());
    let ended = state.is_some_and(|s| s.terminated.is_some());
    // A Pod's phase is Running once all its containers have run, and stays so.
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    ContainerHistory {
        has_run: running || ended || phase == Some("Running"),
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        failed: status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()),
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn role_in_a_pod_of(api_version: &str, kind: &str) -> Role {
        let pod: core::Pod = serde_json::from_value(json!({
            "metadata": {
                "labels": { names::COMPONENT: "module" },
                "ownerReferences": [
                    { "apiVersion": api_version, "kind": kind, "name": "x", "uid": "1", "controller": true },
                ],
            },
            "spec": { "containers": [{
                "name": "biz1", "image": "https://modules.example.com/biz1.jar",
                "env": [{ "name": "BIZ_VERSION", "value": "1" }],
            }] },
        }))
        .unwrap();
        let sources = Sources { referred: &HashMap::new(), ip: None };
        let pod = pod_from(&pod, &Revisions::default(), &sources);
        pod.containers()[0].role.clone()
    }

    #[test]
    fn a_job_has_no_modules_for_it_would_never_complete() {
        assert!(matches!(role_in_a_pod_of("batch/v1", "Job"), Role::Unusable(why) if why.contains("never completes")));
        for (api_version, kind) in [("apps/v1", "ReplicaSet"), ("example.com/v1", "Job")] {
            assert!(matches!(role_in_a_pod_of(api_version, kind), Role::Module(_)), "{api_version} {kind}");
        }
    }
}
