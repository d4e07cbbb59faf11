//! Peer deployment: a Deployment that asks for it has as many replicas as there are bases for it.

mod contest;
mod count;
mod facts;
mod moves;
mod surplus;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;
use tracing::{info, warn};

use contest::Contest;
use count::{Counts, counts};
pub use facts::{PeerFacts, PeerNode, PeerPod};
use moves::Moves;
use surplus::Marks;

use crate::{
    api::{Key, Note, Outcome, Request, Seen, Subject, WriteError},
    domain::{Later, PodUid},
    k8s::names,
    planning::{Effect, Lane, Listing, Schedule, Task, Tracked, version},
};

/// Many bases that come at once are counted once.
const COLLECTS: Duration = Duration::from_millis(200);
/// Marks of Pods are on their way.
const MARKS: Duration = Duration::from_millis(50);

/// A Deployment with the label that asks for it.
#[derive(Debug, Default)]
struct Peer {
    /// The Deployment, and the number that the write on its way gives it.
    object: Tracked<Deployment, i32>,
    /// The number of replicas that was written last, or found right.
    replicas: Option<i32>,
    contest: Contest,
    marks: Marks,
    moves: Moves,
    /// Which watches show it: each looks for one of the labels.
    shown_by: BTreeSet<usize>,
}

/// Watches of Deployments.
const WATCHES: usize = 2;

/// All of them.
#[derive(Debug, Default)]
pub struct Peers {
    by_uid: HashMap<String, Peer>,
    listings: [Listing<String>; WATCHES],
}

impl Peers {
    /// Bases or Deployments have changed.
    pub fn changed(&mut self, now: Instant, schedule: &mut Schedule) {
        if !self.by_uid.is_empty() {
            schedule.wake(&Task::Peers, now.later(COLLECTS));
        }
    }

    /// Templates of those that follow the bases of `env`, with their namespaces and names.
    pub fn templates(&self, env: &str) -> impl Iterator<Item = (PodTemplateSpec, ObjectMeta)> {
        let ours = self.by_uid.values().filter_map(|p| p.object.object()).filter(move |d| is_ours(d, env));
        ours.filter_map(|d| Some((d.spec.as_ref()?.template.clone(), d.metadata.clone())))
    }

    /// A fact from the watch with this number.
    pub fn seen(&mut self, watch: usize, seen: Seen<Deployment>, now: Instant, schedule: &mut Schedule) {
        let Some(listing) = self.listings.get_mut(watch) else { return };
        let gone = listing.gone(&seen, |object| object.metadata.uid.clone(), || self.by_uid.keys().cloned());
        self.by_uid.retain(|uid, peer| !gone.contains(uid) || peer.is_still_shown(watch));
        if let Seen::Applied(object) = seen {
            let version = version(&object.metadata);
            let peer = self.by_uid.entry(object.metadata.uid.clone().unwrap_or_default()).or_default();
            peer.object.observed(object, version);
            peer.shown_by.insert(watch);
        }
        self.changed(now, schedule);
    }

    /// A write ended.
    pub fn written(&mut self, uid: &str, result: Result<Outcome, WriteError>, now: Instant, schedule: &mut Schedule) {
        let Some(peer) = self.by_uid.get_mut(uid) else { return };
        match result {
            Ok(outcome) => {
                let replicas = peer.object.succeeded(outcome.resource_version);
                if let Some(spec) = peer.object.object_mut().and_then(|object| object.spec.as_mut()) {
                    spec.replicas = replicas;
                }
            }
            Err(error) => {
                peer.object.failed(now);
                if peer.object.reports_failure() {
                    let name = peer.object.object().and_then(|d| d.metadata.name.as_deref());
                    warn!(deployment = name, %error, "cannot scale, trying again");
                }
            }
        }
        self.changed(now, schedule);
    }

    /// A mark of a Pod was written, or not.
    pub fn marked(&mut self, deployment: &str, pod: &PodUid, result: Result<Outcome, WriteError>) {
        if let Some(peer) = self.by_uid.get_mut(deployment) {
            peer.marks.ended(pod);
        }
        tell("cannot mark a Pod as surplus", pod, result);
    }

    /// A Pod that is where it does not belong was deleted, or not.
    pub fn moved(&mut self, pod: &PodUid, result: Result<Outcome, WriteError>, now: Instant, schedule: &mut Schedule) {
        tell("cannot delete a Pod on a base that counts no longer, trying again", pod, result);
        self.changed(now, schedule);
    }

    /// Counts the bases for each Deployment and scales those that differ.
    pub fn plan(&mut self, facts: &PeerFacts<'_>, now: Instant, schedule: &mut Schedule, out: &mut Vec<Effect>) {
        for (uid, peer) in &mut self.by_uid {
            if let Some(at) = peer.plan(uid, facts, now, out) {
                schedule.wake(&Task::Peers, at);
            }
        }
    }
}

/// Says that it did not work, where the Pod is still there.
fn tell(what: &str, pod: &PodUid, result: Result<Outcome, WriteError>) {
    if let Err(error) = result
        && !error.is_gone()
        && !error.is_conflict()
    {
        warn!(%pod, %error, "{what}");
    }
}

impl Peer {
    /// This watch shows it no more. Says whether another one does.
    fn is_still_shown(&mut self, watch: usize) -> bool {
        self.shown_by.remove(&watch);
        !self.shown_by.is_empty()
    }

    /// Returns when to look again.
    fn plan(&mut self, uid: &str, facts: &PeerFacts<'_>, now: Instant, out: &mut Vec<Effect>) -> Option<Instant> {
        let deployment = self.object.object().filter(|d| is_ours(d, facts.env))?;
        let spec = deployment.spec.as_ref()?;
        let template = spec.template.spec.as_ref()?;
        let (mut counted, mut closed, mut changes) = (HashSet::new(), 0_usize, None::<Instant>);
        for node in facts.nodes {
            match counts(template, node, now) {
                Counts::No => continue,
                Counts::Until(at) => changes = Some(changes.map_or(at, |c| c.min(at))),
                Counts::Soon => closed = closed.saturating_add(1),
                Counts::Yes => {}
            }
            counted.insert(node.base.clone());
        }
        let later = |at: Instant| Some(changes.map_or(at, |c| c.min(at)));
        let has = spec.replicas.unwrap_or(1);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        // A Pod that comes before its base's Node is open to the scheduler would be put on another base.
        let wanted = number(counted.len().saturating_sub(closed)).max(has).min(number(counted.len()));
        if wanted == 0 && self.replicas.is_none() && named_env(deployment).is_none() {
            return changes; // it may be for the bases of another environment, which has a controller of its own
        }
        if has == wanted {
            self.replicas = Some(wanted);
            if closed > 0 {
                return changes; // what is moved would not come to where it belongs
            }
            let again = self.moves.plan(uid, deployment, facts, &counted, now, out);
            return again.map_or(changes, later);
        }
        let Some(at) = self.object.next_write(now) else { return changes };
        if at > now {
            return later(at);
        }
        let by_others = self.replicas == Some(wanted);
        let from = if by_others { self.contest.next(now) } else { now };
        if from > now {
            return later(from);
        }
        if !self.marks.plan(uid, &(facts.pods_of)(uid), &counted, now, out) {
            return later(now.later(MARKS));
        }
        let meta = &deployment.metadata;
        let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale");
        let body = json!({ "metadata": { "uid": uid }, "spec": { "replicas": wanted } });
        out.push(Effect::Write(Lane::Status, Key::Scale(uid.to_owned()), Request::merge_patch(path, &body)));
        self.object.write(wanted, now);
        self.replicas = Some(wanted);
        self.marks.done();
        info!(deployment = name, namespace, from = has, to = wanted, "scaling to the number of bases");
        let (warning, reason, message) = if by_others {
            self.contest.put_back(now);
            (true, "PeerReplicasPutBack", put_back_message(has, wanted, self.contest.stands_for()))
        } else {
            (false, "PeerReplicas", format!("scaled from {has} to {wanted}: as many bases admit its Pods"))
        };
        let subject = Subject::Deployment(namespace, name, uid.to_owned());
        out.push(Effect::Note(Note::of(subject, warning, reason, message)));
        changes
    }
}

fn put_back_message(has: i32, wanted: i32, stands_for: Duration) -> String {
    let mut message = format!(
        "replicas were set to {has}; with the label {}=peer they follow the number of bases, which is {wanted}",
        names::STRATEGY
    );
    if stands_for > Duration::ZERO {
        let _ = write!(
            message,
            "; something else steers them too (a HorizontalPodAutoscaler?), so what it sets next stands for {} s: \
             remove it, or opt out by the label {}=true",
            stands_for.as_secs(),
            names::REPLICAS_CONTROL
        );
    }
    message
}

/// It asks for its replicas to follow the bases of `env`, and does not opt out.
fn is_ours(deployment: &Deployment, env: &str) -> bool {
    let meta = &deployment.metadata;
    let label = |key: &str| meta.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let other_env = named_env(deployment).is_some_and(|of| !of.eq_ignore_ascii_case(env));
    let opts_out = [names::REPLICAS_CONTROL, names::REPLICAS_CONTROL_OLD].iter().any(|key| label(key) == Some("true"));
    !other_env && !opts_out && meta.deletion_timestamp.is_none()
}

fn named_env(deployment: &Deployment) -> Option<&String> {
    let labels = deployment.metadata.labels.as_ref()?;
    labels.get(names::ENV).or_else(|| labels.get(names::ENV_OLD))
}
