//! Peer deployment: a Deployment that asks for it has as many replicas as there are bases for it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PodTemplateSpec};
use serde_json::json;
use tracing::{info, warn};

use super::{
    Edges,
    contest::Contest,
    surplus::Marks,
    world::{World, Writing, version},
};
use crate::{
    api::{Key, Note, Outcome, Request, Seen, Subject, WriteError},
    domain::{BaseId, Reachability},
    k8s::{admits, names, node_says_ready},
};

/// Many bases that come at once are counted once.
const SETTLES: Duration = Duration::from_millis(200);
/// Marks of Pods are on their way.
const MARKS: Duration = Duration::from_millis(50);

/// A Deployment with the label that asks for it.
#[derive(Debug)]
struct Peer {
    object: Deployment,
    writing: Writing,
    /// What it was told last.
    told: Option<i32>,
    /// Older versions from the watch are from before our own write.
    min_version: u64,
    contest: Contest,
    marks: Marks,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_uid: HashMap<String, Peer>,
    due: Option<Instant>,
    listing: Option<Vec<String>>,
    pub(super) synced: bool,
}

impl Peers {
    /// Bases or Deployments have changed.
    pub(super) fn changed(&mut self, now: Instant) {
        if !self.by_uid.is_empty() {
            self.due.get_or_insert(now + SETTLES);
        }
    }

    /// Templates of those that follow the bases of `env`, with their namespaces.
    pub(super) fn templates(&self, env: &str) -> impl Iterator<Item = (PodTemplateSpec, Option<String>)> {
        let ours = self.by_uid.values().filter(move |p| is_ours(&p.object, env));
        ours.filter_map(|p| Some((p.object.spec.as_ref()?.template.clone(), p.object.metadata.namespace.clone())))
    }

    /// When to count.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn marks(&mut self, uid: &str) -> Option<&mut Marks> {
        self.by_uid.get_mut(uid).map(|peer| &mut peer.marks)
    }

    /// A fact from the watch.
    pub(super) fn seen(&mut self, seen: Seen<Deployment>, now: Instant) {
        match seen {
            Seen::Applied(object) => {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                if let Some(listing) = &mut self.listing {
                    listing.push(uid.clone());
                }
                match self.by_uid.get_mut(&uid) {
                    Some(peer) if version(&object.metadata) < peer.min_version => {}
                    Some(peer) => peer.object = object,
                    None => {
                        let peer = Peer {
                            object,
                            writing: Writing::default(),
                            told: None,
                            min_version: 0,
                            contest: Contest::default(),
                            marks: Marks::default(),
                        };
                        self.by_uid.insert(uid, peer);
                    }
                }
            }
            Seen::Gone(object) => {
                self.by_uid.remove(object.metadata.uid.as_deref().unwrap_or_default());
            }
            Seen::ListBegins => self.listing = Some(Vec::new()),
            Seen::ListEnds => {
                if let Some(listed) = self.listing.take() {
                    self.by_uid.retain(|uid, _| listed.contains(uid));
                }
                self.synced = true;
            }
        }
        self.changed(now);
    }

    /// A write ended.
    pub(super) fn written(&mut self, uid: &str, result: Result<Outcome, WriteError>, now: Instant) {
        let Some(peer) = self.by_uid.get_mut(uid) else { return };
        peer.writing.ended(result.is_ok(), now);
        match result {
            Ok(outcome) => {
                peer.min_version = outcome.resource_version;
                if let Some(spec) = &mut peer.object.spec {
                    spec.replicas = peer.told;
                }
            }
            Err(error) => {
                warn!(deployment = peer.object.metadata.name, %error, "cannot scale, trying again");
                self.changed(now);
            }
        }
    }
}

impl World {
    /// Counts the bases for each Deployment and scales those that differ.
    pub(super) fn keep_peers(&mut self, edges: &Edges, now: Instant) {
        if self.peers.due.is_none_or(|due| due > now) {
            return;
        }
        self.peers.due = None;
        let mut again: Option<Instant> = None;
        let mut wait_until = |at: Instant| again = Some(again.map_or(at, |a| a.min(at)));
        let uids: Vec<_> = self.peers.by_uid.keys().cloned().collect();
        for uid in uids {
            let Some(peer) = self.peers.by_uid.get(&uid) else { continue };
            let Some(counted) = self.usable_bases(&peer.object) else { continue };
            let wanted = i32::try_from(counted.len()).unwrap_or(i32::MAX);
            if wanted == 0 && peer.told.is_none() && !names_env(&peer.object) {
                continue; // it may be for the bases of another environment, which has a controller of its own
            }
            let Some(peer) = self.peers.by_uid.get_mut(&uid) else { continue };
            let has = peer.object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
            if has == wanted {
                peer.told = Some(wanted);
                continue;
            }
            match peer.writing.may_start(now) {
                Err(Some(at)) => {
                    wait_until(at);
                    continue;
                }
                Err(None) => continue,
                Ok(()) => {}
            }
            let by_others = peer.told == Some(wanted);
            let from = if by_others { peer.contest.next(now) } else { now };
            if from > now {
                wait_until(from);
                continue;
            }
            if !self.mark_surplus(&uid, &counted, edges, now) {
                wait_until(now + MARKS);
                continue;
            }
            let Some(peer) = self.peers.by_uid.get_mut(&uid) else { continue };
            let meta = &peer.object.metadata;
            let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale");
            let body = json!({ "metadata": { "uid": uid }, "spec": { "replicas": wanted } });
            if !edges.writer.submit(Key::Scale(uid.clone()), Request::merge_patch(path, &body)) {
                self.metrics.overflow(edges.writer.name());
                wait_until(now + SETTLES);
                continue;
            }
            peer.writing.in_flight = true;
            peer.told = Some(wanted);
            peer.marks.done();
            info!(deployment = name, namespace, from = has, to = wanted, "scaling to the number of bases");
            let (warning, reason, message) = if by_others {
                peer.contest.put_back(now);
                (true, "PeerReplicasPutBack", put_back_message(has, wanted, peer.contest.truce()))
            } else {
                (false, "PeerReplicas", format!("scaled from {has} to {wanted}: as many bases admit its Pods"))
            };
            let subject = Subject::Deployment(namespace, name, uid.clone());
            edges.events.note(Note { subject, warning, reason, message });
        }
        self.peers.due = again;
    }

    /// The bases that can be reached and admit the Deployment's Pods; none if it is not ours to scale.
    fn usable_bases(&self, deployment: &Deployment) -> Option<HashSet<BaseId>> {
        if !is_ours(deployment, &self.config.env) {
            return None;
        }
        let template = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let usable = self.bases.iter().filter(|(_, record)| {
            let Some(node) = record.node.object() else { return false };
            let usable = match record.reachability {
                Some(Reachability::Online) => true,
                // Not knowing is no reason to scale down: what the Node says still holds.
                None | Some(Reachability::Unknown) => node_says_ready(node),
                Some(_) => false,
            };
            usable && admits(template, node)
        });
        Some(usable.map(|(id, _)| id.clone()).collect())
    }
}

fn put_back_message(has: i32, wanted: i32, truce: Duration) -> String {
    let mut message = format!(
        "replicas were set to {has}; with the label {}=peer they follow the number of bases, which is {wanted}",
        names::STRATEGY
    );
    if truce > Duration::ZERO {
        let _ = write!(
            message,
            "; something else steers them too (a HorizontalPodAutoscaler?), so what it sets next stands for {} s: \
             remove it, or opt out by the label {}=true",
            truce.as_secs(),
            names::REPLICAS_CONTROL
        );
    }
    message
}

/// It asks for its replicas to follow the bases of `env`, and does not opt out.
fn is_ours(deployment: &Deployment, env: &str) -> bool {
    let meta = &deployment.metadata;
    let label = |key: &str| meta.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let other_env = label(names::ENV).is_some_and(|of| !of.eq_ignore_ascii_case(env));
    !other_env && label(names::REPLICAS_CONTROL) != Some("true") && meta.deletion_timestamp.is_none()
}

fn names_env(deployment: &Deployment) -> bool {
    deployment.metadata.labels.as_ref().is_some_and(|l| l.contains_key(names::ENV))
}
