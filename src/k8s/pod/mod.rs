//! A Pod as the core sees it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    Owner, Revisions,
    environment::{Sources, environment, wanted_annotations},
    limits, names, probe,
    workload::controller_of,
};
use crate::domain::{
    Container, ContainerHistory, Content, ModuleId, ModuleSpec, Origin, Pod, Reason, Role, lack_of, path_in_use,
    printable, without_credentials,
};

/// Default of `terminationGracePeriodSeconds` (Kubernetes convention).
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

const NEVER_COMPLETES: &str = "a module runs until its Pod is deleted, so a Job never completes; use a Deployment, \
                               DaemonSet or StatefulSet";

/// What the Pod's component label says: `module`, something else, or nothing.
pub fn component(pod: &core::Pod) -> Option<&str> {
    component_in(&pod.metadata)
}

pub(super) fn component_in(pod: &ObjectMeta) -> Option<&str> {
    let labels = pod.labels.as_ref()?;
    labels.get(names::COMPONENT).or_else(|| labels.get(names::COMPONENT_OLD)).map(String::as_str)
}

/// Drops the annotations that nobody here reads.
pub fn keep_wanted_annotations(pod: &mut core::Pod) {
    let wanted = wanted_annotations(pod);
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| {
            [names::DELETION_COST, names::UPDATE, names::METASPACE, names::ROLLOUT].contains(&key.as_str())
                || wanted.contains(key)
        });
    }
}

/// The Pod as the core sees it.
pub fn pod_from(pod: &core::Pod, revisions: &Revisions, sources: &Sources<'_>) -> Pod {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let terminal = matches!(phase, "Failed" | "Succeeded");
    let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let grace = grace.map_or(DEFAULT_GRACE, limits::wait);
    let annotation = |name| meta.annotations.as_ref().and_then(|annotations| annotations.get(name));
    let says = |name, what: &str| annotation(name).is_some_and(|said| said == what);
    let has = |condition: &str, is: fn(&core::PodCondition) -> bool| {
        status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == condition && is(c))
    };
    Pod {
        uid: Arc::from(meta.uid.as_deref().unwrap_or_default()),
        name: format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
        created: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        workload: revisions.workload(&Owner::of(meta)),
        content: content(pod, sources),
        deleting: meta.deletion_timestamp.is_some().then(|| {
            // `kubectl delete --grace-period` may leave less time than the Pod asks for, as with a kubelet.
            pre_stop_sleep(pod).min(meta.deletion_grace_period_seconds.map_or(grace, limits::wait))
        }),
        // Kubernetes convention: the taint manager deletes Pods of a Node that is away, and says so in a condition.
        evicted: has("DisruptionTarget", |c| c.reason.as_deref() == Some("DeletionByTaintManager")),
        terminal,
        superseded: terminal && status.and_then(|s| s.reason.as_deref()) == Some(names::BIZ_DEACTIVATE),
        grace,
        drain: pre_stop_sleep(pod).min(grace),
        replaces: says(names::UPDATE, "replace"),
        ignores_metaspace: says(names::METASPACE, "ignore"),
        shown_ready: has("Ready", |c| c.status == "True"),
        held_back: None,
        lingers: false,
        not_done: not_done_on_a_base(pod, sources),
        trace: trace(pod),
    }
}

/// The API server takes no other labels than harmless ones of up to 63 characters; what it is told by others is cut all
/// the same.
fn trace(pod: &core::Pod) -> Option<Arc<str>> {
    let id = pod.metadata.labels.as_ref()?.get(names::TRACE).filter(|id| !id.is_empty())?;
    Some(Arc::from(&*printable(id, limits::TRACE_MAX)))
}

fn content(pod: &core::Pod, sources: &Sources<'_>) -> Content {
    match component(pod) {
        Some("module") => {}
        Some(other) => {
            let other = printable(other, limits::QUOTE_MAX);
            return Content::Foreign(format!("a base runs modules only, and the Pod's component label says {other:?}"));
        }
        None => {
            return Content::Foreign(format!(
                "a base runs modules only, and the Pod has no label {}=module",
                names::COMPONENT
            ));
        }
    }
    let count = pod.spec.as_ref().map_or(0, |s| s.containers.len());
    if count > limits::CONTAINERS_MAX {
        return Content::Foreign(format!(
            "the Pod has {count} containers, and at most {} modules are allowed in one: make several Pods",
            limits::CONTAINERS_MAX
        ));
    }
    // A slice, so that as many are kept as there are: without knowing their number there is room for four.
    let containers = pod.spec.as_ref().map_or(&[][..], |s| &s.containers).iter();
    let some_url = containers.clone().any(has_url);
    let role = |c: &core::Container| {
        // What an injector adds has an image of its own and knows nothing of modules.
        let injected = some_url && !has_url(c) && version_of(c).is_none();
        if injected { Role::SideCar } else { module(pod, c, sources).map_or_else(Role::Unusable, Role::Module) }
    };
    Content::Modules(
        containers
            .map(|c| {
                let role = role(c);
                let history = history(pod, c, &role);
                let is_module = matches!(role, Role::Module(_));
                let probes = is_module.then(|| probe::probes(c, sources.probes, sources.ip)).flatten();
                Container { name: c.name.clone(), role, history, probes }
            })
            .collect(),
    )
}

fn has_url(container: &core::Container) -> bool {
    container.image.as_ref().is_some_and(|image| image.contains("://"))
}

fn version_of(container: &core::Container) -> Option<&str> {
    let env = container.env.iter().flatten().find(|e| e.name == names::BIZ_VERSION);
    env.and_then(|e| e.value.as_deref()).filter(|v| !v.is_empty())
}

fn module(pod: &core::Pod, container: &core::Container, sources: &Sources<'_>) -> Result<ModuleSpec, String> {
    if controller_of(&pod.metadata).is_some_and(|o| o.kind == "Job" && o.api_version.starts_with("batch/")) {
        return Err(NEVER_COMPLETES.to_owned());
    }
    let label = || pod.metadata.labels.as_ref()?.get(names::MODULE_VERSION).map(String::as_str);
    let version = version_of(container).or_else(label).filter(|v| !v.is_empty()).ok_or_else(|| {
        format!(
            "container {} has no module version: set its env {} or the Pod's label {}",
            printable(&container.name, limits::QUOTE_MAX),
            names::BIZ_VERSION,
            names::MODULE_VERSION
        )
    })?;
    let url = container.image.clone().unwrap_or_default();
    if !has_url(container) {
        return Err(format!(
            "the image of container {} is {:?}: it must be the URL of a module's jar",
            printable(&container.name, limits::QUOTE_MAX),
            printable(&url, limits::QUOTE_MAX)
        ));
    }
    limits::check(&container.name, version, &url)?;
    sources.urls.check(&url)?;
    let (mut envs, args, unresolved) = match environment(pod, container, sources) {
        Ok((envs, args)) => (envs, args, None),
        Err(why) => (BTreeMap::new(), Vec::new(), Some(why)),
    };
    envs.remove(names::BIZ_VERSION);
    if envs.is_empty() {
        envs.clear(); // else it keeps the room for more
    }
    let origin = Origin::of(&url);
    Ok(ModuleSpec { id: ModuleId::new(&container.name, version), origin, url, args, envs, unresolved })
}

/// What the Pod asks for and a base has not: nothing of it is dropped in silence.
fn not_done_on_a_base(pod: &core::Pod, sources: &Sources<'_>) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut fields = Vec::new();
    let mut named = |field: &str, names: Vec<&str>| {
        if !names.is_empty() {
            fields.push(format!("{field} ({})", printable(&names.join(", "), limits::QUOTE_MAX)));
        }
    };
    named("initContainers", spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect());
    named("ephemeralContainers", spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()).collect());
    named("volumes", spec.volumes.iter().flatten().map(|v| v.name.as_str()).collect());
    for container in &spec.containers {
        let name = printable(&container.name, limits::QUOTE_MAX);
        let refused = probe::refused(container, sources.probes, sources.ip);
        fields.extend(refused.map(|(field, why)| format!("{field} of {name} ({why})")));
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        fields.push(format!("activeDeadlineSeconds ({seconds})"));
    }
    if let Some(policy) = spec.restart_policy.as_ref().filter(|policy| *policy != "Always") {
        fields.push(format!("restartPolicy ({})", printable(policy, limits::QUOTE_MAX)));
    }
    fields
}

fn history(pod: &core::Pod, container: &core::Container, role: &Role) -> ContainerHistory {
    let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
    let Some(status) = statuses.into_iter().find(|s| s.name == container.name) else {
        return ContainerHistory::default();
    };
    let state = status.state.as_ref();
    let running = state.is_some_and(|s| s.running.is_some());
    let ended = state.is_some_and(|s| s.terminated.is_some());
    let waits_for = |reason| waits_for(reason, status, container, role);
    // A Pod's phase is Running once all its containers have run, and stays so.
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    ContainerHistory {
        has_run: running || ended || phase == Some("Running"),
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        failed: status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()),
        kept_out: waits_for(Reason::WebContextInUse).and_then(|(id, message)| path_in_use(id, message)),
        lacks: waits_for(Reason::InsufficientMetaspace).and_then(|(id, message)| lack_of(id, message)),
        started: running && status.started == Some(true),
        ready: running && status.ready,
    }
}

/// What the status says of exactly this jar and version, where that waits for this.
fn waits_for<'p>(
    reason: Reason,
    status: &'p core::ContainerStatus,
    container: &core::Container,
    role: &'p Role,
) -> Option<(&'p ModuleId, &'p str)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let does = waiting.reason.as_deref() == Some(reason.as_str());
    let same = status.image == without_credentials(container.image.as_deref().unwrap_or_default());
    match role {
        Role::Module(spec) if does && same => Some((&spec.id, waiting.message.as_deref()?)),
        _ => None,
    }
}

/// The longest `lifecycle.preStop.sleep` of its containers.
fn pre_stop_sleep(pod: &core::Pod) -> Duration {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let sleeps = containers.filter_map(|c| c.lifecycle.as_ref()?.pre_stop.as_ref()?.sleep.as_ref());
    limits::wait(sleeps.map(|s| s.seconds).max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
