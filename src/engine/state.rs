//! All that is known.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::info;

use super::{
    admission::Admission,
    daemon_sets::DaemonSets,
    intruders::Intruders,
    known::{BaseState, PodIndex, PodState},
    notes::Notes,
    record::Record,
    references::References,
    surroundings::Surroundings,
    suspicion::Suspicion,
};
use crate::{
    api::Watched,
    config::{Config, ZonePerBase},
    controllers::{base_pods::BasePods, peers::Peers, rollout::Rollouts},
    domain::{Base, BaseId, Later, Needs, PodUid, WebContexts},
    k8s::{Revisions, typical_base},
    metrics::Metrics,
    picture::Pictures,
    planning::{Effect, Listing, Schedule, Task},
    tunnel::{Topics, Via},
};

/// A base whose commands or probes found no room is looked at again after this time.
pub(super) const WITHOUT_ROOM: Duration = Duration::from_secs(1);

/// All state of the engine.
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
    pub(super) reported_deployments: HashMap<Arc<str>, i64>,
    /// Pods are to be looked at with what is known of revisions now.
    pub(super) revisions_changed: bool,
    pub(super) references: References,
    pub(super) base_pods: BasePods,
    pub(super) peers: Peers,
    pub(super) rollouts: Rollouts,
    pub(super) daemon_sets: DaemonSets,
    pub(super) intruders: Intruders,
    pub(super) record: Record,
    /// Bases that something happened to.
    pub(super) dirty: HashSet<BaseId>,
    pub(super) schedule: Schedule,
    pub(super) connected: bool,
    /// Watches whose first list has been delivered.
    pub(super) synced: HashSet<usize>,
    /// When everything that is wanted and remembered was known: decisions are made from then on.
    pub(super) begun: Option<Instant>,
    pub(super) listing_pods: Listing<PodUid>,
    pub(super) listing_nodes: Listing<BaseId>,
    pub(super) admission: Admission,
    /// When something last arrived from the broker on the present connection.
    pub(super) last_arrival: Option<Instant>,
    pub(super) suspicion: Suspicion,
    pub(super) surroundings: Surroundings,
    pub(super) notes: Notes,
    /// What bases have shown of web modules.
    pub(super) contexts: WebContexts,
    /// What modules need of metaspace.
    pub(super) needs: Needs,
    /// Bases that wait for another one that tries a version.
    pub(super) waiting_for_trials: HashSet<BaseId>,
    /// Events about facts that are to be told at the next turn.
    pub(super) fact_notes: Vec<Effect>,
    pub(super) pictures: Arc<Pictures>,
    /// Somebody looks, and of these bases there is no picture yet.
    pub(super) untaken_pictures: Option<Vec<BaseId>>,
}

impl State {
    pub(super) fn new(config: Arc<Config>, topics: Topics, metrics: Arc<Metrics>) -> Self {
        let typical =
            typical_base(&config.env, config.max_pods, config.zone_per_base != ZonePerBase::False, config.env_taint);
        let instance = format!("{}/{}", config.client_id, config.process);
        Self {
            settings: Arc::new(config.settings.clone()),
            base_pods: BasePods::of(&config.base_pod_namespaces),
            record: Record::new(&config.namespace, &config.env, &instance),
            surroundings: Surroundings::new(config.zone_per_base),
            // Where zones are not left to us that watch is not there.
            synced: (config.zone_per_base != ZonePerBase::Auto).then_some(Watched::ZONES).into_iter().collect(),
            config,
            topics,
            metrics,
            bases: HashMap::new(),
            pods: HashMap::new(),
            index: PodIndex::default(),
            revisions: Revisions::default(),
            reported_deployments: HashMap::new(),
            revisions_changed: false,
            references: References::default(),
            peers: Peers::default(),
            rollouts: Rollouts::default(),
            daemon_sets: DaemonSets::default(),
            intruders: Intruders::new(typical),
            dirty: HashSet::new(),
            schedule: Schedule::default(),
            connected: false,
            begun: None,
            listing_pods: Listing::default(),
            listing_nodes: Listing::default(),
            admission: Admission::default(),
            last_arrival: None,
            suspicion: Suspicion::default(),
            notes: Notes::default(),
            contexts: WebContexts::default(),
            needs: Needs::default(),
            waiting_for_trials: HashSet::new(),
            fact_notes: Vec::new(),
            pictures: Arc::default(),
            untaken_pictures: None,
        }
    }

    /// The base, which is known from now on.
    pub(super) fn base_mut(&mut self, id: &BaseId, now: Instant) -> Option<&mut BaseState> {
        if !self.bases.contains_key(id) {
            let mut base = Base::new(id.clone(), Arc::clone(&self.settings), now);
            // Where there is only one tunnel it is that one's; else the first word tells.
            let via = if self.config.mqtt.is_some() { Via::Mqtt } else { Via::Http };
            if via == Via::Mqtt && !self.connected {
                base.connection_lost(now);
            }
            let mut state = BaseState::new(base, via, self.topics.node_name(id), now);
            if self.begun.is_some()
                && let Some(ledger) = self.record.take(id)
            {
                state.restore(ledger);
            }
            self.bases.insert(id.clone(), Box::new(state));
        }
        self.bases.get_mut(id).map(Box::as_mut)
    }

    /// Commands for this base found no room: there may be some in a moment.
    pub(super) fn commands_lost(&mut self, id: &BaseId, now: Instant) {
        if let Some(state) = self.bases.get_mut(id) {
            state.base.commands_lost();
            self.schedule.wake_base(id, now.later(WITHOUT_ROOM));
        }
    }

    /// Forgets a base that has been away for very long. Its ledger is kept.
    pub(super) fn forget_base(&mut self, id: &BaseId, now: Instant) {
        if let Some(state) = self.bases.remove(id) {
            info!(base = %id, "base forgotten");
            self.pictures.forget(id);
            self.metrics.standing.metaspace.set_base(id.as_str(), None);
            self.waiting_for_trials.remove(id);
            self.record.forget(id, state.base.ledger, today(), now);
            self.schedule.clear(&Task::Base(id.clone()));
        }
    }
}

/// Days since 1970 (UTC); only for cleaning up what is weeks old.
pub(super) fn today() -> i64 {
    jiff::Timestamp::now().as_second() / (24 * 60 * 60)
}
