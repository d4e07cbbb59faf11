//! What is known of a base.

use std::time::{Duration, Instant};

use super::{super::record::mark, node::NodeState, registration::Registration};
use crate::{
    domain::{Base, Ledger, Link, Metaspace, MetaspaceRules, Reachability},
    k8s::memory_pressure,
    metrics::BaseMetaspace,
    planning::Tracked,
    tunnel::{Health, Via},
};

/// A base that was reachable for so long at a stretch is no stranger.
const AT_HOME: Duration = Duration::from_secs(60);

/// A base with its Node.
#[derive(Debug)]
pub(in crate::engine) struct BaseState {
    pub(in crate::engine) base: Base,
    /// The tunnel that it was last heard on; its commands go there too.
    pub(in crate::engine) via: Via,
    pub(in crate::engine) node: NodeState,
    pub(in crate::engine) registration: Registration,
    pub(in crate::engine) lease: Tracked<()>,
    pub(in crate::engine) lease_due: Option<Instant>,
    /// When it was last renewed by us.
    pub(in crate::engine) lease_renewed: Option<Instant>,
    /// What it said last, without what changes all the time.
    pub(in crate::engine) health: Option<Health>,
    /// Classes that its JVM has loaded.
    pub(in crate::engine) loaded_classes: Option<u64>,
    /// It asked for its baseline, and has no Node yet.
    pub(in crate::engine) asked_before_its_node: bool,
    pub(in crate::engine) created: Instant,
    /// When its last list came, for the latency of the statuses that follow.
    pub(in crate::engine) listed_at: Option<Instant>,
    pub(in crate::engine) reachability: Option<Reachability>,
    pub(in crate::engine) reachability_since: Instant,
    /// What its Node was told of that: a base that asks for its baseline before its first heartbeat has none yet.
    pub(in crate::engine) reported_reachability: Option<Reachability>,
    /// It was reachable for a time, at some time.
    was_here: bool,
    /// It could not switch from one version to another, though nothing stood in its way: it is told in the way of bases
    /// that know no switch, as all over MQTT are.
    pub(in crate::engine) refuses_switch: bool,
    /// Tells the ledger that is on record, and the one that is being written or waits for it.
    pub(in crate::engine) saved_mark: u64,
    pub(in crate::engine) noted_mark: u64,
    /// Tells what was last said to be probed on it; 0: nothing is.
    pub(in crate::engine) probed_mark: u64,
}

impl BaseState {
    /// A base that is known from now on.
    pub(in crate::engine) fn new(base: Base, via: Via, node: String, now: Instant) -> Self {
        Self {
            base,
            via,
            node: NodeState { name: node, ..NodeState::default() },
            registration: Registration::default(),
            lease: Tracked::default(),
            lease_due: None,
            lease_renewed: None,
            health: None,
            loaded_classes: None,
            asked_before_its_node: false,
            created: now,
            listed_at: None,
            reachability: None,
            reachability_since: now,
            reported_reachability: None,
            was_here: false,
            saved_mark: mark(&Ledger::default()),
            noted_mark: mark(&Ledger::default()),
            probed_mark: 0,
            refuses_switch: false,
        }
    }

    /// It is heard on this tunnel; `connected`: the broker is there.
    pub(in crate::engine) fn is_heard_via(&mut self, via: Via, connected: bool, now: Instant) {
        if std::mem::replace(&mut self.via, via) == via {
            return;
        }
        match via {
            Via::Mqtt if !connected => self.base.connection_lost(now),
            Via::Mqtt | Via::Http => self.base.connection_back(now),
        }
    }

    /// It may be another JVM.
    pub(in crate::engine) fn may_be_new(&mut self) {
        self.refuses_switch = false;
        self.base.may_be_new();
    }

    /// Whose silence its silence is. Over HTTP nothing stands between us that could be the silent one.
    pub(in crate::engine) fn link(&self, broker_proven: Option<Instant>, suspected: bool, now: Instant) -> Link {
        match self.via {
            Via::Mqtt => Link { proven: broker_proven, suspected, ..Link::default() },
            Via::Http => Link {
                proven: Some(now),
                suspected,
                commands_at_a_time: self.workers(),
                loss_is_told: true,
                offers_switch: !self.refuses_switch,
            },
        }
    }

    /// How many commands it can be at work on and still answer a question: over HTTP it answers with the threads that
    /// it works with, two for each core.
    fn workers(&self) -> usize {
        let cpus = self.health.as_ref().and_then(|health| health.cpus).and_then(|cpus| usize::try_from(cpus).ok());
        cpus.unwrap_or(1).saturating_mul(2).saturating_sub(1).max(1)
    }

    /// Tells its ledger from others.
    pub(in crate::engine) fn ledger_mark(&self) -> u64 {
        mark(&self.base.ledger)
    }

    /// Its ledger is on record as it is.
    pub(in crate::engine) fn is_recorded(&self) -> bool {
        self.ledger_mark() == self.saved_mark
    }

    /// Its reachability is another one now.
    pub(in crate::engine) fn becomes(&mut self, reachability: Reachability, now: Instant) {
        let lasted = now.saturating_duration_since(self.reachability_since);
        self.was_here |= self.reachability == Some(Reachability::Online) && lasted >= AT_HOME;
        (self.reachability, self.reachability_since) = (Some(reachability), now);
    }

    /// Whether a base that is away is asked now and then: one that modulet installed something on, or that was here
    /// for a time. A stranger that said one word is not.
    pub(in crate::engine) fn is_looked_for(&self, now: Instant) -> bool {
        !self.base.is_forgotten(now) && (self.was_here || self.base.ledger != Ledger::default())
    }

    /// Its health names its JVM: how much metaspace is used, and the limit where there is one.
    pub(in crate::engine) fn measured(&mut self, metaspace: Option<Metaspace>, rules: &MetaspaceRules, now: Instant) {
        if self.base.measured(metaspace, now) {
            self.node.pressure = memory_pressure(metaspace, rules, self.node.pressure.as_ref());
        }
    }

    /// What it uses of its metaspace, where that has a limit.
    pub(in crate::engine) fn metaspace(&self) -> Option<BaseMetaspace> {
        let (metaspace, left_behind) = self.base.metaspace();
        let Metaspace { used, max } = metaspace?;
        Some(BaseMetaspace { used, max, classes: self.loaded_classes, left_behind })
    }

    /// The record has this ledger of it. What is known already is of a base that was quicker.
    pub(in crate::engine) fn restore(&mut self, ledger: Ledger) {
        self.saved_mark = mark(&ledger);
        self.noted_mark = self.saved_mark;
        let known: Vec<_> = self.base.ledger.all_installed().collect();
        self.base.recorded(ledger.all_installed());
        self.base.ledger = ledger;
        known.iter().for_each(|install| self.base.ledger.install(install));
    }
}
