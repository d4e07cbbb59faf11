//! A Pod's status as it should be, and the patch that makes it so.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
        HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{names, workload::controller_of};
use crate::domain::{ContainerOutcome, Phase, PodOutcome, Reason, without_credentials};

/// Why a Pod that never runs is Ready all the same.
const COUNTED: &str = "it never runs on a base, and is counted as ready so that its DaemonSet's updates on other Nodes \
                       go on; keep it away from bases by a node affinity to kubernetes.io/os";

/// Facts that every status of a base's Pods shares.
#[derive(Clone, Debug)]
pub struct StatusWriter<'a> {
    /// The base's address: Pod IP and host IP.
    pub ip: Option<&'a str>,
    /// The time to write into changed fields.
    pub now: Timestamp,
}

impl StatusWriter<'_> {
    /// The status that `pod` should have. Equal to the one it has if nothing is to be written:
    /// times are kept where what they belong to has not changed, and so is what others wrote.
    pub fn status(&self, pod: &Pod, outcome: &PodOutcome) -> PodStatus {
        let old = pod.status.clone().unwrap_or_default();
        let mut status = old.clone();
        status.phase = Some(outcome.phase.as_str().to_owned());
        let never_runs = never_runs(outcome);
        if let Some(ip) = self.ip {
            status.host_ip = Some(ip.to_owned());
            status.host_ips = Some(vec![HostIP { ip: ip.to_owned() }]);
        }
        if never_runs {
            // Without an address it is no endpoint of any Service.
            (status.pod_ip, status.pod_ips) = (None, None);
        } else if let Some(ip) = self.ip {
            status.pod_ip = Some(ip.to_owned());
            status.pod_ips = Some(vec![PodIP { ip: ip.to_owned() }]);
        }
        status.start_time.get_or_insert(Time(self.now));
        if !outcome.containers.is_empty() {
            status.container_statuses = Some(self.containers(pod, outcome));
        }
        if let Some(rejected) = &outcome.rejected {
            (status.reason, status.message) = (Some(rejected.reason.to_owned()), text(&rejected.message));
        } else if outcome.phase == Phase::Failed {
            status.reason = Some(names::BIZ_DEACTIVATE.to_owned());
            status.message = outcome.containers.iter().find_map(|c| match c {
                ContainerOutcome::Superseded { message } => Some(message.clone()),
                _ => None,
            });
        }
        let why = why_not_ready(outcome, pod);
        let gates = pod.spec.iter().filter_map(|s| s.readiness_gates.as_ref()).flatten();
        let closed: Vec<_> = gates
            .map(|g| g.condition_type.as_str())
            .filter(|gate| !old.conditions.iter().flatten().any(|c| c.type_ == **gate && c.status == "True"))
            .collect();
        let (ready, why_so) = match &why {
            _ if never_runs && is_of_a_daemon_set(pod) => {
                (true, Some((Reason::NotAModule.as_str(), COUNTED.to_owned())))
            }
            None if !closed.is_empty() => {
                (false, Some(("ReadinessGatesNotReady", format!("readiness gates not open: {}", closed.join(", ")))))
            }
            why => (why.is_none(), why.clone()),
        };
        let conditions = status.conditions.get_or_insert_default();
        self.condition(conditions, "Initialized", true, None);
        self.condition(conditions, "ContainersReady", why.is_none(), why);
        self.condition(conditions, "Ready", ready, why_so);
        status.observed_generation = pod.metadata.generation.or(old.observed_generation);
        status
    }

    fn condition(&self, all: &mut Vec<PodCondition>, type_: &str, is: bool, why: Option<(&str, String)>) {
        let status = if is { "True" } else { "False" };
        let (reason, message) = why.map_or((None, None), |(r, m)| (Some(r.to_owned()), text(&m)));
        let index = all.iter().position(|c| c.type_ == type_);
        let old = index.map(|i| all.remove(i));
        let since = old.as_ref().filter(|o| o.status == status).and_then(|o| o.last_transition_time.clone());
        let new = PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
            observed_generation: old.as_ref().and_then(|o| o.observed_generation),
            ..PodCondition::default()
        };
        all.insert(index.unwrap_or(all.len()), new);
    }

    fn containers(&self, pod: &Pod, outcome: &PodOutcome) -> Vec<ContainerStatus> {
        let specs = pod.spec.iter().flat_map(|s| &s.containers);
        let known = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        // A Pod that is no module has one outcome for all its containers.
        let outcomes = outcome.containers.iter().chain(outcome.containers.first().into_iter().cycle());
        specs
            .zip(outcomes)
            .map(|(spec, outcome)| {
                let old = known.iter().find(|s| s.name == spec.name);
                let image = without_credentials(spec.image.as_deref().unwrap_or_default());
                let mut status = ContainerStatus {
                    name: spec.name.clone(),
                    // Only what runs: whoever changes the image waits for this to follow.
                    image_id: if outcome.active() { image.to_string() } else { String::new() },
                    image: image.into_owned(),
                    ready: outcome.ready(),
                    started: Some(outcome.started()),
                    restart_count: old.map_or(0, |o| o.restart_count),
                    last_state: old.and_then(|o| o.last_state.clone()),
                    ..ContainerStatus::default()
                };
                self.state(&mut status, old, outcome);
                status
            })
            .collect()
    }

    fn state(&self, status: &mut ContainerStatus, old: Option<&ContainerStatus>, outcome: &ContainerOutcome) {
        let old_state = old.and_then(|o| o.state.as_ref());
        let was_running = old_state.and_then(|s| s.running.as_ref());
        match outcome {
            ContainerOutcome::Active { restarts, .. } => {
                // A restart may be over before any status has shown it.
                let again = was_running.filter(|_| as_count(*restarts) > status.restart_count);
                if let Some(running) = again {
                    let message = "the base no longer had the module; it was installed again";
                    status.last_state =
                        Some(self.ended(Reason::ModuleGone.as_str(), message, running.started_at.clone(), 1));
                }
                status.restart_count = as_count(*restarts).max(status.restart_count);
                status.container_id = Some(format!("biz://{}", status.name));
                let was_running = was_running.filter(|_| again.is_none());
                let started_at = was_running.and_then(|r| r.started_at.clone()).unwrap_or(Time(self.now));
                let running = ContainerStateRunning { started_at: Some(started_at) };
                status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
            }
            ContainerOutcome::Waiting { reason, message, restarts } => {
                let restarts = as_count(*restarts).max(status.restart_count);
                let message = &text(message);
                let old_message = old_state.and_then(|s| s.waiting.as_ref()).map(|w| &w.message);
                let failed = matches!(reason, Reason::InstallFailed | Reason::ModuleMismatch);
                let again = restarts > status.restart_count || old_message != Some(message);
                if was_running.is_some() || failed && again {
                    let message = message.as_deref().unwrap_or_default();
                    let started_at = was_running.and_then(|running| running.started_at.clone());
                    status.last_state = Some(self.ended(reason.as_str(), message, started_at, 1));
                }
                status.restart_count = restarts;
                let waiting =
                    ContainerStateWaiting { reason: Some(reason.as_str().to_owned()), message: message.clone() };
                status.state = Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() });
            }
            ContainerOutcome::SideCar => {
                // "Completed" is the word with which kubectl shows the Pod as Running for its other containers.
                let kept = old_state.filter(|s| s.terminated.is_some()).cloned();
                let message = "not a module (its image is no URL of a jar): a base does not run it";
                status.state = Some(kept.unwrap_or_else(|| self.ended("Completed", message, None, 0)));
            }
            ContainerOutcome::Superseded { message } => {
                let started_at = was_running.and_then(|r| r.started_at.clone());
                status.state = Some(self.ended(names::BIZ_DEACTIVATE, message, started_at, 0));
            }
        }
    }

    fn ended(&self, reason: &str, message: &str, started_at: Option<Time>, exit_code: i32) -> ContainerState {
        let terminated = ContainerStateTerminated {
            exit_code,
            reason: Some(reason.to_owned()),
            message: text(message),
            // Without one kubectl would show the year 1.
            started_at: Some(started_at.unwrap_or(Time(self.now))),
            finished_at: Some(Time(self.now)),
            ..ContainerStateTerminated::default()
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }
}

/// The API server leaves out a text that is empty: what comes back then equals what was written.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn as_count(restarts: u32) -> i32 {
    i32::try_from(restarts).unwrap_or(i32::MAX)
}

/// It has no modules: nothing of it will ever run on a base.
fn never_runs(outcome: &PodOutcome) -> bool {
    let not_a_module = |c: &ContainerOutcome| matches!(c, ContainerOutcome::Waiting { reason: Reason::NotAModule, .. });
    outcome.containers.iter().any(not_a_module)
}

/// A `DaemonSet` has one Pod for each Node that it fits, and takes the next one of an update only while enough of them
/// are Ready: one that can never be would stop the update of all ordinary Nodes for ever.
fn is_of_a_daemon_set(pod: &Pod) -> bool {
    controller_of(&pod.metadata).is_some_and(|o| o.kind == "DaemonSet" && o.api_version.starts_with("apps/"))
}

/// Why its containers are not Ready; none where they are.
fn why_not_ready(outcome: &PodOutcome, pod: &Pod) -> Option<(&'static str, String)> {
    if outcome.ready() {
        return None;
    }
    if outcome.rejected.is_some() {
        return Some(("PodFailed", String::new()));
    }
    if outcome.phase == Phase::Failed {
        return Some((names::BIZ_DEACTIVATE, "a newer version of its module took over".to_owned()));
    }
    if !outcome.reachable {
        return Some(("BaseUnreachable", "the base does not answer".to_owned()));
    }
    if let Some(message) = &outcome.leaving {
        return Some((Reason::Replacing.as_str(), message.clone()));
    }
    let waiting = outcome.containers.iter().find_map(|c| match c {
        ContainerOutcome::Waiting { reason, message, .. } => Some(format!("{}: {message}", reason.as_str())),
        _ => None,
    });
    let names = pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.as_str());
    let unready = || -> Vec<&str> {
        names.zip(&outcome.containers).filter(|(_, c)| c.active() && !c.ready()).map(|(name, _)| name).collect()
    };
    // A kubelet's words.
    let says = waiting.unwrap_or_else(|| format!("containers with unready status: [{}]", unready().join(" ")));
    Some(("ContainersNotReady", says))
}

/// A strategic merge patch of a Pod's status: conditions of other writers stay, and the uid makes
/// sure that a Pod of the same name made later is not meant.
pub fn status_patch(uid: &str, status: &PodStatus) -> serde_json::Value {
    let ours = |c: &&PodCondition| matches!(c.type_.as_str(), "Initialized" | "ContainersReady" | "Ready");
    let conditions: Vec<_> = status.conditions.iter().flatten().filter(ours).map(condition_json).collect();
    json!({
        "metadata": { "uid": uid },
        "status": {
            "phase": status.phase,
            "reason": status.reason,
            "message": status.message,
            "hostIP": status.host_ip,
            "hostIPs": status.host_ips.as_deref().map(replaced),
            "podIP": status.pod_ip,
            "podIPs": status.pod_ips.as_deref().map(replaced),
            "startTime": status.start_time,
            "observedGeneration": status.observed_generation,
            "conditions": conditions,
            "containerStatuses": status.container_statuses,
        }
    })
}

/// Both lists merge by address: without the directive a new one would stand beside the old one, which is refused.
fn replaced<T: serde::Serialize>(addresses: &[T]) -> Vec<serde_json::Value> {
    addresses.iter().map(|address| json!(address)).chain([json!({ "$patch": "replace" })]).collect()
}

/// With explicit nulls: a reason that no longer holds must go.
fn condition_json(c: &PodCondition) -> serde_json::Value {
    json!({
        "type": c.type_,
        "status": c.status,
        "reason": c.reason,
        "message": c.message,
        "lastTransitionTime": c.last_transition_time,
    })
}
#[cfg(test)]
mod tests;
