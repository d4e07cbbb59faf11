//! All that is known, and how facts change it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;
use tracing::{debug, info, warn};

use super::{
    admission::Admission,
    baseline::DaemonSets,
    bases::{BaseState, PodIndex, PodState},
    intruders::Intruders,
    notes::Notes,
    record::Record,
    references::References,
    suspicion::Suspicion,
};
use crate::{
    api::{Key, Seen, Watched, Written},
    config::Config,
    controllers::peers::Peers,
    domain::{Answer, Base, BaseId, BaseInfo, Later, Ledger, PodUid},
    k8s::{Revisions, names, typical_base},
    metrics::Metrics,
    picture::Pictures,
    planning::{Schedule, Task, version},
    tunnel::{self, Heartbeat, Message, Topics},
};

/// A base whose commands found no room is looked at again after this time.
const WITHOUT_ROOM: Duration = Duration::from_secs(1);
/// Bases that are known by their Pods alone when the process begins, and looked for: not more than so many.
const HOMELESS: usize = 1_000;

/// All state of the engine.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) settings: Arc<crate::domain::Settings>,
    pub(super) topics: Topics,
    pub(super) metrics: Arc<Metrics>,
    /// Boxed, here and below: a table has up to twice the room it needs, and never gives it back.
    pub(super) bases: HashMap<BaseId, Box<BaseState>>,
    pub(super) pods: HashMap<PodUid, Box<PodState>>,
    pub(super) index: PodIndex,
    pub(super) revisions: Revisions,
    /// Deployments that were told that something is not done, and for which revision of their template.
    pub(super) told_deployments: HashMap<Arc<str>, i64>,
    /// Pods are to be looked at with what is known of revisions now.
    pub(super) revisions_changed: bool,
    pub(super) references: References,
    pub(super) peers: Peers,
    pub(super) daemon_sets: DaemonSets,
    intruders: Intruders,
    pub(super) record: Record,
    /// Bases that something happened to.
    pub(super) dirty: HashSet<BaseId>,
    pub(super) schedule: Schedule,
    pub(super) connected: bool,
    pub(super) pods_synced: bool,
    nodes_synced: bool,
    owners_synced: HashSet<(&'static str, usize)>,
    /// Everything that is wanted and remembered was known once: decisions are made from then on.
    begun: bool,
    /// Uids and names seen since a list began.
    pub(super) listing_pods: Option<HashSet<PodUid>>,
    listing_nodes: Option<HashSet<String>>,
    admission: Admission,
    /// When something last arrived from the broker on the present connection.
    pub(super) link_proven: Option<Instant>,
    pub(super) suspicion: Suspicion,
    pub(super) notes: Notes,
    pub(super) pictures: Arc<Pictures>,
    /// Somebody looks, and of these bases there is no picture yet.
    pub(super) untaken_pictures: Option<Vec<BaseId>>,
}

impl State {
    pub(super) fn new(config: Arc<Config>, topics: Topics, metrics: Arc<Metrics>) -> Self {
        let typical = typical_base(&config.env, config.max_pods, config.zone_per_base, config.env_taint);
        Self {
            settings: Arc::new(config.settings.clone()),
            record: Record::new(&config.namespace, &config.env, &config.instance),
            config,
            topics,
            metrics,
            bases: HashMap::new(),
            pods: HashMap::new(),
            index: PodIndex::default(),
            revisions: Revisions::default(),
            told_deployments: HashMap::new(),
            revisions_changed: false,
            references: References::default(),
            peers: Peers::default(),
            daemon_sets: DaemonSets::default(),
            intruders: Intruders::new(typical),
            dirty: HashSet::new(),
            schedule: Schedule::default(),
            connected: false,
            pods_synced: false,
            nodes_synced: false,
            owners_synced: HashSet::new(),
            begun: false,
            listing_pods: None,
            listing_nodes: None,
            admission: Admission::default(),
            link_proven: None,
            suspicion: Suspicion::default(),
            notes: Notes::default(),
            pictures: Arc::default(),
            untaken_pictures: None,
        }
    }

    /// Nothing is decided before all that is wanted and remembered is known. Returns whether it is.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let synced = self.pods_synced
            && self.nodes_synced
            && self.peers.synced
            && self.daemon_sets.synced
            && self.record.synced
            && self.owners_synced.len().saturating_add(Watched::SINGLE) == Watched::COUNT;
        if !synced || std::mem::replace(&mut self.begun, true) {
            return synced;
        }
        info!(bases = self.bases.len(), pods = self.pods.len(), "watches have delivered, starting");
        // Bases that are away without a Node are looked for too: what modulet installed there is still its own.
        // So are those whose Node is gone and that still have Pods: they may have been told to install them.
        let homeless: Vec<_> = self.index.homeless().take(HOMELESS).cloned().collect();
        let away: Vec<_> = self.record.departed().chain(&homeless).cloned().collect();
        for id in &away {
            self.base_mut(id, now);
        }
        for (id, state) in &mut self.bases {
            if let Some(ledger) = self.record.take(id) {
                state.restore(ledger);
            } else if let Some(ledger) = state.node.former_ledger() {
                // Version 0.1 kept it on the Node; it is on record from now on.
                state.base.recorded(ledger.all_installed());
                state.base.ledger = ledger;
            }
            self.record.ordered().for_each(|id| state.base.ledger.forget_origin(id));
        }
        let known = self.bases.iter().filter(|(_, s)| s.node.object.exists() || s.base.ledger != Ledger::default());
        let told: HashSet<_> = known.map(|(id, _)| id).chain(&homeless).cloned().collect();
        self.record.begin(told.into_iter(), today(), now);
        let all: Vec<_> = self.bases.keys().cloned().collect();
        all.iter().for_each(|id| self.claim_orders_of_former_process(id, now));
        self.dirty.extend(all);
        true
    }

    /// A fact from the bases.
    pub(super) fn tunnel(&mut self, event: tunnel::Event, now: Instant) {
        match event {
            tunnel::Event::Connected => {
                self.connected = true;
                self.link_proven = Some(now);
                for (id, state) in &mut self.bases {
                    state.base.connection_back(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Disconnected => {
                self.connected = false;
                self.link_proven = None;
                for (id, state) in &mut self.bases {
                    state.base.connection_lost(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Proven => self.link_proven = Some(now),
            tunnel::Event::Undeliverable { base, command, why } => {
                if let Some(state) = self.bases.get_mut(&base) {
                    state.base.undeliverable(&command, &why, now);
                    self.dirty.insert(base);
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
        if !self.bases.contains_key(id) && !self.admission.admits(id, self.bases.len(), &self.metrics, now) {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        self.heard_somebody(now);
        let Some(state) = self.base_mut(id, now) else { return };
        state.base.liveness.heard(now);
        match message {
            Message::Heartbeat(Heartbeat { info, no_address, going_away }) => {
                if going_away {
                    info!(base = %id, "the base says that it goes away");
                    state.base.liveness.said_goodbye(now);
                } else {
                    state.base.liveness.beat(now);
                }
                if state.registers(info, no_address, now) {
                    // Their statuses name its address.
                    let pods = state.pods.clone();
                    for uid in &pods {
                        if let Some(pod) = self.pods.get_mut(uid) {
                            pod.said = None;
                        }
                    }
                    self.view_pods_of(id);
                }
            }
            Message::Modules(modules) => {
                debug!(base = %id, count = modules.len(), "list received");
                state.base.listed(modules, now);
                state.listed_at = Some(now);
                self.claim_orders_of_former_process(id, now);
            }
            Message::Health(mut health) => {
                // What a base that leaves its JVM out has said of it before still holds, if it is the same JVM.
                let complete = health.java_version.is_some();
                let known = state.health.take().filter(|_| !complete && state.base.knows_its_jvm());
                if let Some(known) = known {
                    (health.java_version, health.max_metaspace) = (known.java_version, known.max_metaspace);
                }
                state.base.health_answered(complete);
                let used = health.used_metaspace.take();
                if complete {
                    state.measured(used, health.max_metaspace, now);
                }
                state.health = Some(health);
            }
            Message::Reply(reply) => {
                debug!(base = %id, command = reply.command, answer = ?reply.answer, "reply received");
                if let Answer::Failed(error) = &reply.answer {
                    let module = reply.module.as_ref().map(ToString::to_string);
                    warn!(base = %id, command = reply.command, module, error, "the base refused a command");
                    metrics.module_failed(reply.command);
                }
                state.base.replied(reply);
            }
            Message::QueryBaseline(info) => {
                let expected = self.expected_modules(id, info.as_ref());
                info!(base = %id, expected = expected.len(), "the base asks for its baseline");
                if let Some(state) = self.bases.get_mut(id) {
                    state.base.asked_for_baseline(expected, now);
                }
            }
        }
        self.dirty.insert(id.clone());
    }

    fn claim_orders_of_former_process(&mut self, id: &BaseId, now: Instant) {
        let Some(state) = self.bases.get_mut(id).filter(|_| self.begun) else { return };
        let Some(list) = state.base.modules() else { return };
        let ours = self.record.listed(id, list.map(|m| &m.id), &state.base.ledger, now);
        ours.iter().for_each(|module| state.base.ledger.install(module));
    }

    /// Whether a base's name and version can be labels. If not it gets no Node at all.
    fn accepts(&mut self, id: &BaseId, info: &BaseInfo) -> bool {
        let labels = [Some(&info.name), Some(&info.version), info.cluster.as_ref()];
        if labels.into_iter().flatten().all(|v| names::is_label_value(v)) {
            return true;
        }
        self.metrics.message_refused("label");
        if self.admission.tells_refusal(id) {
            let (name, version, cluster) = (&info.name, &info.version, info.cluster.as_deref());
            warn!(base = %id, name, version, cluster, "base refused: its name, version or cluster can't be a label");
        }
        false
    }

    /// The base, which is known from now on.
    pub(super) fn base_mut(&mut self, id: &BaseId, now: Instant) -> Option<&mut BaseState> {
        if !self.bases.contains_key(id) {
            let mut base = Base::new(id.clone(), Arc::clone(&self.settings), now);
            if !self.connected {
                base.connection_lost(now);
            }
            let pods = self.index.comes_home(id);
            let mut state = BaseState::new(base, self.topics.node_name(id), pods, now);
            if self.begun
                && let Some(ledger) = self.record.take(id)
            {
                state.restore(ledger);
            }
            self.bases.insert(id.clone(), Box::new(state));
        }
        self.bases.get_mut(id).map(Box::as_mut)
    }

    /// A fact from the API server.
    pub(super) fn watched(&mut self, change: Watched, now: Instant) {
        match change {
            Watched::Pod(seen) => self.pod_seen(*seen, now),
            Watched::Node(seen) => {
                self.node_seen(*seen, now);
                self.peers.changed(now, &mut self.schedule);
            }
            Watched::DaemonSet(seen) => {
                self.intruders.seen(&seen);
                self.daemon_sets.seen(*seen);
            }
            Watched::Record(seen) => {
                let at = match &*seen {
                    Seen::Applied(object) | Seen::Gone(object) => version(&object.metadata),
                    Seen::ListBegins | Seen::ListEnds => 0,
                };
                self.record.seen(*seen, at, now);
                self.schedule.wake(&Task::Record, now);
            }
            Watched::Deployment(seen) => self.peers.seen(*seen, now, &mut self.schedule),
            Watched::ReplicaSet(watch, seen) => match seen {
                Seen::Applied(set) => self.revisions_changed |= self.revisions.replica_set(watch, &set.metadata),
                Seen::Gone(set) => self.revisions.replica_set_gone(watch, &set.metadata),
                Seen::ListBegins => self.revisions.replica_sets_begin(watch),
                Seen::ListEnds => {
                    self.revisions.replica_sets_end(watch);
                    self.owners_synced.insert(("ReplicaSet", watch));
                }
            },
            Watched::ControllerRevision(watch, seen) => match *seen {
                Seen::Applied(revision) => {
                    self.revisions_changed |= self.revisions.controller_revision(watch, &revision);
                }
                Seen::Gone(revision) => self.revisions.controller_revision_gone(watch, &revision),
                Seen::ListBegins => self.revisions.controller_revisions_begin(watch),
                Seen::ListEnds => {
                    self.revisions.controller_revisions_end(watch);
                    self.owners_synced.insert(("ControllerRevision", watch));
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
                if let Some(state) = self.base_mut(&id, now) {
                    state.node_shown(object, now);
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
                    let gone =
                        self.bases.iter().filter(|(_, s)| s.node.object.exists() && !listed.contains(&s.node.name));
                    let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
                    gone.iter().for_each(|id| self.node_gone(id));
                }
                self.nodes_synced = true;
            }
        }
    }

    fn node_gone(&mut self, id: &BaseId) {
        if let Some(state) = self.bases.get_mut(id) {
            state.node_gone();
            self.dirty.insert(id.clone());
        }
    }

    /// A write ended.
    pub(super) fn written(&mut self, end: Written, now: Instant) {
        match end.key {
            Key::PodStatus(uid) => self.status_written(&uid, end.result, now),
            Key::PodDelete(uid) => self.pod_deleted(&uid, end.result, now),
            Key::Node(id) => {
                if let Some(state) = self.bases.get_mut(&id) {
                    state.node_written(end.result, now);
                    self.dirty.insert(id);
                }
            }
            Key::Lease(id) => {
                if let Some(state) = self.bases.get_mut(&id) {
                    if end.result.is_err() {
                        self.dirty.insert(id);
                    }
                    state.lease_written(end.result, now);
                }
            }
            Key::Record(name) => {
                let (waited, saved) = self.record.written(&name, end.result, now);
                self.dirty.extend(waited);
                for (id, mark) in saved {
                    let Some(state) = self.bases.get_mut(&id) else { continue };
                    state.saved_mark = mark;
                    if state.is_recorded() {
                        self.record.saved(&id);
                    }
                    self.dirty.insert(id);
                }
                self.schedule.wake(&Task::Record, now);
            }
            Key::Scale(uid) => self.peers.written(&uid, end.result, now, &mut self.schedule),
            Key::PodCost(deployment, pod) => self.peers.marked(&deployment, &pod, end.result),
        }
    }

    /// Commands for this base found no room: there may be some in a moment.
    pub(super) fn commands_lost(&mut self, id: &BaseId, now: Instant) {
        if let Some(state) = self.bases.get_mut(id) {
            state.base.commands_lost();
            self.schedule.wake(&Task::Base(id.clone()), now.later(WITHOUT_ROOM));
        }
    }

    /// Forgets a base that has been away for very long. Its ledger is kept.
    pub(super) fn forget_base(&mut self, id: &BaseId, now: Instant) {
        if let Some(state) = self.bases.remove(id) {
            info!(base = %id, "base forgotten");
            self.pictures.forget(id);
            self.index.loses_home(id, state.pods);
            self.record.forget(id, state.base.ledger, today(), now);
            self.schedule.clear(&Task::Base(id.clone()));
            self.schedule.wake(&Task::Record, now);
        }
    }
}

/// Days since 1970 (UTC); only for cleaning up what is weeks old.
fn today() -> i64 {
    jiff::Timestamp::now().as_second() / (24 * 60 * 60)
}
