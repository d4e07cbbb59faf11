//! All that is known, and how facts change it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tracing::{debug, info, warn};

use super::{
    baseline::DaemonSets, journal::Journal, node::NodeRecord, peers::Peers, pods::PodRecord, references::References,
    timers::Timers,
};
use crate::{
    api::{Key, Seen, Watched, Written},
    config::Config,
    domain::{Answer, Backoff, Base, BaseId, BaseInfo, PodUid, Reachability},
    k8s::{Revisions, names},
    metrics::Metrics,
    tunnel::{self, Health, Heartbeat, Message, Topics},
};

/// More bases than this are refused: a stranger on the broker must not fill the memory.
const MAX_BASES: usize = 20_000;

/// The writing of one object: one request at a time, failures spaced out.
#[derive(Debug, Default)]
pub(super) struct Writing {
    pub(super) in_flight: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Writing {
    /// Whether a write can go out now; if not, when to ask again (never: its end will tell).
    pub(super) fn may_start(&self, now: Instant) -> Result<(), Option<Instant>> {
        match self.not_before {
            _ if self.in_flight => Err(None),
            Some(at) if at > now => Err(Some(at)),
            _ => Ok(()),
        }
    }

    /// When a write that failed can be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.in_flight)
    }

    /// The last write failed, so the next may too.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn ended(&mut self, ok: bool, now: Instant) {
        self.in_flight = false;
        self.failures = if ok { 0 } else { self.failures + 1 };
        self.not_before = (!ok).then(|| now + Backoff::WRITE.delay(self.failures));
    }
}

/// A base with its Node.
#[derive(Debug)]
pub(super) struct BaseRecord {
    pub(super) base: Base,
    pub(super) node: NodeRecord,
    pub(super) health: Option<Health>,
    pub(super) created: Instant,
    pub(super) pods: BTreeSet<PodUid>,
    /// When its last list came, for the latency of the statuses that follow.
    pub(super) listed_at: Option<Instant>,
    pub(super) reachability: Option<Reachability>,
    /// Health is to be asked for: a new JVM may have other limits.
    pub(super) wants_health: bool,
}

/// All state of the engine.
pub(super) struct World {
    pub(super) config: Arc<Config>,
    pub(super) settings: Arc<crate::domain::Settings>,
    pub(super) topics: Topics,
    pub(super) metrics: Arc<Metrics>,
    /// Boxed, here and below: a table has up to twice the room it needs, and never gives it back.
    pub(super) bases: HashMap<BaseId, Box<BaseRecord>>,
    pub(super) pods: HashMap<PodUid, Box<PodRecord>>,
    pub(super) revisions: Revisions,
    pub(super) references: References,
    pub(super) peers: Peers,
    pub(super) daemon_sets: DaemonSets,
    pub(super) journal: Journal,
    pub(super) dirty: HashSet<BaseId>,
    pub(super) timers: Timers,
    pub(super) connected: bool,
    pub(super) pods_synced: bool,
    nodes_synced: bool,
    owners_synced: HashSet<(&'static str, usize)>,
    /// Uids and names seen since a list began.
    pub(super) listing_pods: Option<HashSet<PodUid>>,
    listing_nodes: Option<HashSet<String>>,
    refused: HashSet<BaseId>,
}

impl World {
    pub(super) fn new(config: Arc<Config>, topics: Topics, journal: Journal, metrics: Arc<Metrics>) -> Self {
        Self {
            settings: Arc::new(config.settings.clone()),
            config,
            topics,
            metrics,
            bases: HashMap::new(),
            pods: HashMap::new(),
            revisions: Revisions::default(),
            references: References::default(),
            peers: Peers::default(),
            daemon_sets: DaemonSets::default(),
            journal,
            dirty: HashSet::new(),
            timers: Timers::default(),
            connected: false,
            pods_synced: false,
            nodes_synced: false,
            owners_synced: HashSet::new(),
            listing_pods: None,
            listing_nodes: None,
            refused: HashSet::new(),
        }
    }

    /// Nothing is decided before all that is wanted and remembered is known.
    pub(super) fn synced(&self) -> bool {
        self.pods_synced
            && self.nodes_synced
            && self.peers.synced
            && self.daemon_sets.synced
            && self.journal.synced
            && self.owners_synced.len() + 4 == Watched::COUNT
    }

    /// A fact from the bases.
    pub(super) fn tunnel(&mut self, event: tunnel::Event, now: Instant) {
        match event {
            tunnel::Event::Connected => {
                self.connected = true;
                for (id, record) in &mut self.bases {
                    record.base.connection_back(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Disconnected => {
                self.connected = false;
                for (id, record) in &mut self.bases {
                    record.base.connection_lost(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Message(id, message) => self.message(&id, message, now),
        }
    }

    fn message(&mut self, id: &BaseId, message: Message, now: Instant) {
        if let Message::Heartbeat(Heartbeat { info, .. }) = &message
            && !self.accepts(id, info)
        {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        let Some(record) = self.base_mut(id, now) else { return };
        if !matches!(&message, Message::Heartbeat(h) if h.going_away) {
            record.base.liveness.heard(now);
        }
        match message {
            Message::Heartbeat(Heartbeat { info, going_away }) => {
                if going_away {
                    info!(base = %id, "the base says that it goes away");
                    record.base.liveness.said_goodbye(now);
                }
                record.wants_health |= record.health.as_ref().is_some_and(|h| h.java_version.is_none());
                if record.base.info.as_ref() != Some(&info) {
                    info!(base = %id, name = info.name, version = info.version, ip = info.ip, "base registered");
                    record.base.info = Some(info);
                    self.view_pods_of(id);
                }
            }
            Message::Modules(modules) => {
                debug!(base = %id, count = modules.len(), "list received");
                record.base.listed(modules, now);
                record.listed_at = Some(now);
            }
            Message::Health(mut health) => {
                // A base that has only just started may not know its JVM yet; what it said before still holds.
                if let Some(known) = record.health.take().filter(|_| health.java_version.is_none()) {
                    (health.java_version, health.max_metaspace) = (known.java_version, known.max_metaspace);
                }
                record.health = Some(health);
            }
            Message::Reply(reply) => {
                debug!(base = %id, command = reply.command, answer = ?reply.answer, "reply received");
                if let Answer::Failed(error) = &reply.answer {
                    let module = reply.module.as_ref().map(ToString::to_string);
                    warn!(base = %id, command = reply.command, module, error, "the base refused a command");
                    metrics.module_failed(reply.command);
                }
                record.base.replied(reply);
            }
            Message::QueryBaseline(info) => {
                record.wants_health = true;
                let expected = self.expected_modules(id, info.as_ref());
                info!(base = %id, expected = expected.len(), "the base asks for its baseline");
                if let Some(record) = self.bases.get_mut(id) {
                    record.base.asked_for_baseline(expected, now);
                }
            }
        }
        self.dirty.insert(id.clone());
    }

    /// Whether a base's name and version can be labels. If not it gets no Node at all.
    fn accepts(&mut self, id: &BaseId, info: &BaseInfo) -> bool {
        let labels = [Some(&info.name), Some(&info.version), info.cluster.as_ref()];
        if labels.into_iter().flatten().all(|v| names::is_label_value(v)) {
            self.refused.remove(id);
            return true;
        }
        self.metrics.message_refused("label");
        if self.refused.len() < MAX_BASES && self.refused.insert(id.clone()) {
            let (name, version, cluster) = (&info.name, &info.version, info.cluster.as_deref());
            warn!(base = %id, name, version, cluster, "base refused: its name, version or cluster can't be a label");
        }
        false
    }

    pub(super) fn base_mut(&mut self, id: &BaseId, now: Instant) -> Option<&mut BaseRecord> {
        if !self.bases.contains_key(id) {
            if self.bases.len() >= MAX_BASES {
                self.metrics.overflow("bases");
                return None;
            }
            let mut base = Base::new(id.clone(), Arc::clone(&self.settings), now);
            if !self.connected {
                base.connection_lost(now);
            }
            let pods = self.pods.iter().filter(|(_, p)| p.base == *id).map(|(uid, _)| uid.clone()).collect();
            let record = BaseRecord {
                base,
                node: NodeRecord::new(self.topics.node_name(id)),
                health: None,
                created: now,
                pods,
                listed_at: None,
                reachability: None,
                wants_health: true,
            };
            self.bases.insert(id.clone(), Box::new(record));
        }
        self.bases.get_mut(id).map(Box::as_mut)
    }

    /// A fact from the API server.
    pub(super) fn watched(&mut self, change: Watched, now: Instant) {
        match change {
            Watched::Pod(seen) => self.pod_seen(*seen, now),
            Watched::Node(seen) => {
                self.node_seen(*seen, now);
                self.peers.changed(now);
            }
            Watched::DaemonSet(seen) => self.daemon_sets.seen(*seen),
            Watched::Journal(segments) => self.journal_read(segments, now),
            Watched::Deployment(seen) => self.peers.seen(*seen, now),
            Watched::ReplicaSet(index, seen) => match seen {
                Seen::Applied(set) => {
                    if self.revisions.replica_set(&set.metadata) {
                        self.revisions_changed();
                    }
                }
                Seen::Gone(set) => self.revisions.replica_set_gone(&set.metadata),
                Seen::ListBegins => {}
                Seen::ListEnds => {
                    self.owners_synced.insert(("ReplicaSet", index));
                }
            },
            Watched::ControllerRevision(index, seen) => match *seen {
                Seen::Applied(revision) => {
                    if self.revisions.controller_revision(&revision) {
                        self.revisions_changed();
                    }
                }
                Seen::Gone(revision) => self.revisions.controller_revision_gone(&revision),
                Seen::ListBegins => {}
                Seen::ListEnds => {
                    self.owners_synced.insert(("ControllerRevision", index));
                }
            },
        }
    }

    fn node_seen(&mut self, seen: Seen<core::Node>, now: Instant) {
        match seen {
            Seen::Applied(object) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                if let Some(listing) = &mut self.listing_nodes {
                    listing.insert(name.clone());
                }
                let Some(id) = self.topics.base_of(&name) else { return };
                if let Some(record) = self.base_mut(&id, now) {
                    record.node_applied(object);
                }
                self.view_pods_of(&id);
                self.dirty.insert(id);
            }
            Seen::Gone(object) => {
                if let Some(id) = object.metadata.name.as_deref().and_then(|name| self.topics.base_of(name)) {
                    self.node_gone(&id);
                }
            }
            Seen::ListBegins => self.listing_nodes = Some(HashSet::new()),
            Seen::ListEnds => {
                if let Some(listed) = self.listing_nodes.take() {
                    let gone = self.bases.iter().filter(|(_, r)| r.node.exists() && !listed.contains(r.node.name()));
                    let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
                    gone.iter().for_each(|id| self.node_gone(id));
                }
                self.nodes_synced = true;
            }
        }
    }

    fn node_gone(&mut self, id: &BaseId) {
        if let Some(record) = self.bases.get_mut(id) {
            record.node.gone();
            self.dirty.insert(id.clone());
        }
    }

    /// A write ended.
    pub(super) fn written(&mut self, end: Written, now: Instant) {
        match end.key {
            Key::PodStatus(uid) => self.status_written(&uid, end.result, now),
            Key::PodDelete(uid) => self.pod_deleted(&uid, end.result, now),
            Key::Node(id) => {
                self.journal.saving.remove(&id);
                if let Some(record) = self.bases.get_mut(&id) {
                    record.node_written(end.result, now);
                    self.dirty.insert(id);
                }
            }
            Key::Journal(name) => self.journal_created(&name, end.result, now),
            Key::JournalEnd(name) => self.journal_deleted(&name, &end.result, now),
            Key::Scale(uid) => self.peers.written(&uid, end.result, now),
            Key::PodCost(deployment, pod) => self.marked(&deployment, &pod, end.result),
            Key::Lease(id) => {
                if let Some(record) = self.bases.get_mut(&id) {
                    if end.result.is_err() {
                        self.dirty.insert(id);
                    }
                    record.lease_written(end.result, now);
                }
            }
        }
    }

    /// Forgets a base whose Node is gone for good.
    pub(super) fn forget_base(&mut self, id: &BaseId) {
        if self.bases.remove(id).is_some() {
            info!(base = %id, "base forgotten");
            self.journal.forget(id);
            self.timers.set(id, None);
        }
    }
}

/// Resource versions of one kind are ordered: an older one is from before our own write.
pub(super) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}
