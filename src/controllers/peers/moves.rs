//! Pods that are on bases that count no longer though the number of replicas is right: as one base ceased to count
//! another began to, or Kubernetes took another Pod than the marked one. Nothing else would ever move them: the number
//! is right, and a cordon evicts nobody.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use tracing::info;

use super::{
    contest::Contest,
    facts::{PeerFacts, PeerPod},
};
use crate::{
    api::{Key, Note, Request, Subject},
    domain::{BaseId, Later},
    planning::{Effect, Lane},
};

/// The controllers of Kubernetes have this long to take the right Pods by themselves.
const SETTLES: Duration = Duration::from_secs(5);
/// Of Pods that serve one in so many is moved at once, rounded up, and the next when all serve again (Kubernetes
/// convention: `maxUnavailable` is 25 % where a Deployment says nothing).
const SHARE: usize = 4;

/// For one Deployment.
#[derive(Debug, Default)]
pub(super) struct Moves {
    since: Option<Instant>,
    /// The scheduler may see it otherwise, and put them there again.
    contest: Contest,
}

impl Moves {
    /// Deletes such Pods, as a person would: others come in their place where they belong. Returns when to look again.
    pub(super) fn plan(
        &mut self,
        uid: &str,
        deployment: &Deployment,
        facts: &PeerFacts<'_>,
        counted: &HashSet<BaseId>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        let Some(status) = deployment.status.as_ref().filter(|status| is_settled(deployment, status)) else {
            self.since = None;
            return None;
        };
        let pods = (facts.pods_of)(uid);
        let all_serve = status.ready_replicas == status.replicas;
        let share = if all_serve { pods.len().div_ceil(SHARE) } else { 0 };
        let astray = pods.iter().filter(|pod| !counted.contains(pod.base));
        let (serving, silent): (Vec<_>, Vec<_>) = astray.partition(|pod| pod.is_ready);
        let astray: Vec<&PeerPod<'_>> = silent.into_iter().chain(serving.into_iter().take(share)).collect();
        if astray.is_empty() {
            self.since = None;
            return None;
        }
        let settled = self.since.get_or_insert(now).later(SETTLES);
        let at = self.contest.next(now).max(settled);
        if at > now {
            return Some(at);
        }
        self.contest.put_back(now);
        self.since = None;
        for pod in astray {
            let Some(path) = pod.path() else { continue };
            let request = Request::delete_in_its_time(path, pod.uid);
            out.push(Effect::Write(Lane::Status, Key::PodMove(pod.uid.clone()), request));
            out.push(Effect::Note(note(deployment, uid, pod)));
            info!(pod = pod.name, base = %pod.base, "deleting a Pod on a base that counts no longer, so that one comes where it belongs");
        }
        None
    }
}

fn note(deployment: &Deployment, uid: &str, pod: &PeerPod<'_>) -> Note {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (text(&deployment.metadata.namespace), text(&deployment.metadata.name));
    let subject = Subject::Deployment(namespace, name, uid.to_owned());
    let message = format!(
        "deleted Pod {}: its base {} counts no longer; a new one comes to a base that counts and has none",
        pod.name, pod.base
    );
    Note::of(subject, false, "PeerPodMoved", message)
}

/// All its Pods are of its present template, and there are as many as there should be: no update is under way in which
/// the old Pods serve until the new ones do.
fn is_settled(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| spec.replicas.unwrap_or(1));
    status.observed_generation == deployment.metadata.generation
        && status.replicas == wanted
        && status.updated_replicas == wanted
}
