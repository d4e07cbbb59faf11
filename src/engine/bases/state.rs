//! What is known of a base and of a Pod on it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;

use super::{super::record::mark, metaspace::LowMetaspace, node::NodeState, registration::Registration, story::Told};
use crate::{
    domain::{Base, BaseId, Ledger, Phase, Pod, PodOutcome, PodUid, Reachability},
    planning::Tracked,
    tunnel::Health,
};

/// A base that was reachable for so long at a stretch is no stranger.
const AT_HOME: Duration = Duration::from_secs(60);

/// A base with its Node.
#[derive(Debug)]
pub(in crate::engine) struct BaseState {
    pub(in crate::engine) base: Base,
    pub(in crate::engine) node: NodeState,
    pub(in crate::engine) registration: Registration,
    pub(in crate::engine) lease: Tracked<()>,
    pub(in crate::engine) lease_due: Option<Instant>,
    /// What it said last, without what changes all the time.
    pub(in crate::engine) health: Option<Health>,
    pub(super) low_metaspace: LowMetaspace,
    /// That its Node has a Pod CIDR was told.
    pub(super) told_pod_cidr: bool,
    /// It asked for its baseline, and has no Node yet.
    pub(in crate::engine) asked_before_its_node: bool,
    pub(in crate::engine) created: Instant,
    pub(in crate::engine) pods: BTreeSet<PodUid>,
    /// When its last list came, for the latency of the statuses that follow.
    pub(in crate::engine) listed_at: Option<Instant>,
    pub(in crate::engine) reachability: Option<Reachability>,
    pub(in crate::engine) reachability_since: Instant,
    /// It was reachable for a time, at some time.
    was_here: bool,
    /// Tells the ledger that is on record, and the one that is being written or waits for it.
    pub(in crate::engine) saved_mark: u64,
    pub(in crate::engine) noted_mark: u64,
}

impl BaseState {
    /// A base that is known from now on.
    pub(in crate::engine) fn new(base: Base, node: String, pods: BTreeSet<PodUid>, now: Instant) -> Self {
        Self {
            base,
            node: NodeState::new(node),
            registration: Registration::default(),
            lease: Tracked::default(),
            lease_due: None,
            health: None,
            low_metaspace: LowMetaspace::default(),
            told_pod_cidr: false,
            asked_before_its_node: false,
            created: now,
            pods,
            listed_at: None,
            reachability: None,
            reachability_since: now,
            was_here: false,
            saved_mark: mark(&Ledger::default()),
            noted_mark: mark(&Ledger::default()),
        }
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
    pub(super) fn becomes(&mut self, reachability: Reachability, now: Instant) {
        let lasted = now.saturating_duration_since(self.reachability_since);
        self.was_here |= self.reachability == Some(Reachability::Online) && lasted >= AT_HOME;
        (self.reachability, self.reachability_since) = (Some(reachability), now);
    }

    /// Whether a base that is away is asked now and then: one that modulet installed something on, or that was here
    /// for a time. A stranger that said one word is not.
    pub(super) fn is_looked_for(&self, now: Instant) -> bool {
        !self.base.is_forgotten(now) && (self.was_here || self.base.ledger != Ledger::default())
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

/// A Pod on one of our Nodes.
#[derive(Debug)]
pub(in crate::engine) struct PodState {
    pub(in crate::engine) object: Tracked<core::Pod, Box<core::PodStatus>>,
    pub(in crate::engine) deletion: Tracked<()>,
    pub(in crate::engine) pod: Pod,
    pub(in crate::engine) base: BaseId,
    pub(in crate::engine) first_seen: Instant,
    /// A command went out for it.
    pub(in crate::engine) commanded: bool,
    pub(in crate::engine) told: Told,
    /// It is to be spread over zones, and was not told yet what that means where there are none.
    pub(in crate::engine) spreads_over_zones: bool,
    /// It was told that it shares a module's name with a Pod of another namespace.
    pub(in crate::engine) told_shared: bool,
    /// What the status was last found to say already; none after any change of the Pod.
    pub(in crate::engine) said: Option<PodOutcome>,
}

impl PodState {
    /// Whether this is still to be written, and nothing is known to be in the way.
    pub(super) fn is_to_be_written(&self, outcome: &PodOutcome) -> bool {
        self.said.as_ref() != Some(outcome) && !self.object.is_failing()
    }

    /// That it gave way is on its way to the API.
    pub(super) fn is_failing_now(&self) -> bool {
        self.object.writing().is_some_and(|status| status.phase.as_deref() == Some(Phase::Failed.as_str()))
    }

    /// A Pod that is told to have failed is not the workload's any more, also if its revision becomes the current
    /// one again (an undo) before the API server has answered.
    pub(super) fn assume_written(&mut self) {
        let Some(status) = self.object.writing() else { return };
        if status.phase.as_deref() == Some(Phase::Failed.as_str()) {
            self.pod.terminal = true;
            self.pod.superseded |= status.reason.as_deref() == Some(crate::k8s::names::BIZ_DEACTIVATE);
        }
    }

    /// Takes note of the Pod as it is now. Says whether that is another than was known.
    pub(super) fn see(&mut self, pod: Pod) -> bool {
        let before = std::mem::replace(&mut self.pod, pod);
        self.assume_written();
        self.pod != before
    }

    /// Whether the API says that it is Ready, and nothing else is on its way there.
    pub(super) fn is_shown_ready(&self) -> bool {
        let status = self.object.object().and_then(|pod| pod.status.as_ref());
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
        ready && self.object.writing().is_none() && self.pod.is_live()
    }
}
