//! Figures about bases and Pods for the metrics, looked at every two seconds.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;

use super::{
    known::{BaseState, PodState, Waits},
    state::State,
};
use crate::{
    domain::{Content, Metaspace, Reachability, Reason},
    k8s::{names, rollout::Phase},
    metrics::PodsFor,
};

/// What a Pod is counted for where no container of it waits for a reason of ours.
const OTHERS: [&str; 7] =
    ["Ready", "NotReady", "Pending", "BaseUnreachable", "Terminating", names::BIZ_DEACTIVATE, "Failed"];

/// What a Pod that is not Ready waits for, as its status shows: what others wrote there makes no series.
pub(super) fn waits_for(object: &core::Pod) -> Waits {
    let status = object.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.any(|c| c.type_ == "ContainersReady" && c.reason.as_deref() == Some("BaseUnreachable")) {
        return Waits::BaseUnreachable;
    }
    let states = containers.into_iter().flatten().filter_map(|container| container.state.as_ref());
    let waiting = states.filter_map(|state| state.waiting.as_ref()?.reason.as_deref()).find_map(Reason::of);
    match waiting {
        Some(reason) => Waits::For(reason),
        None if containers.is_none() => Waits::Pending,
        None => Waits::NotReady,
    }
}

/// Phases of releases.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Idle, "Idle"),
    (Phase::Progressing, "Progressing"),
    (Phase::Paused, "Paused"),
    (Phase::Waiting, "Waiting"),
    (Phase::RollingBack, "RollingBack"),
    (Phase::Completed, "Completed"),
    (Phase::Blocked, "Blocked"),
];

/// States of bases.
const STATES: [&str; 5] = ["online", "unreachable", "dead", "stopped", "unknown"];

impl PodState {
    /// What it waits for, in one word out of a fixed set.
    fn counted_for(&self) -> &'static str {
        match &self.pod.content {
            Content::Foreign(_) => Reason::NotAModule.as_str(),
            _ if self.pod.superseded => names::BIZ_DEACTIVATE,
            _ if self.pod.terminal => "Failed",
            _ if self.pod.deleting.is_some() => "Terminating",
            _ if self.pod.shown_ready => "Ready",
            Content::Modules(_) => match self.waits_for {
                Waits::Pending => "Pending",
                Waits::BaseUnreachable => "BaseUnreachable",
                Waits::For(reason) => reason.as_str(),
                Waits::NotReady => "NotReady",
            },
        }
    }

    /// For how long it has not been Ready, though it should be.
    fn waits(&mut self, now: Instant) -> Duration {
        let should = self.pod.is_live() && matches!(self.pod.content, Content::Modules(_));
        if !should || self.pod.shown_ready {
            self.waits_since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.waits_since.get_or_insert(now))
    }
}

impl BaseState {
    fn state(&self, now: Instant) -> &'static str {
        match self.base.reachability(now) {
            Reachability::Online => "online",
            Reachability::Unreachable => "unreachable",
            Reachability::Dead => "dead",
            Reachability::Stopped => "stopped",
            Reachability::Unknown => "unknown",
        }
    }
}

impl State {
    /// Brings the figures about bases and Pods up to date.
    pub(super) fn figures(&mut self, now: Instant) {
        let mut states = HashMap::from(STATES.map(|state| (state, 0_usize)));
        let (mut list, mut lease, mut with_cidr) = (Duration::ZERO, Duration::ZERO, 0_usize);
        let (mut low, mut fullest) = (0_usize, 0_u64);
        // What another leader wrote and asked for before counts from then on.
        let since = |at: Option<Instant>, known: Instant| {
            let Some(begun) = self.begun else { return Duration::ZERO };
            now.saturating_duration_since(at.unwrap_or(begun.max(known)))
        };
        for base in self.bases.values() {
            let state = base.state(now);
            let count = states.entry(state).or_default();
            *count = count.saturating_add(1);
            if state == "online" {
                list = list.max(since(base.listed_at, base.created));
            }
            if base.node.object.exists() {
                lease = lease.max(since(base.lease_renewed, base.created));
            }
            low = low.saturating_add(usize::from(base.node.has_low_metaspace()));
            fullest = fullest.max(base.base.metaspace().0.map_or(0, Metaspace::percent));
            with_cidr = with_cidr.saturating_add(usize::from(base.node.pod_cidr.is_some()));
        }
        for (phase, name) in PHASES {
            self.metrics.set_rollouts(name, self.rollouts.phases().filter(|is| *is == phase).count());
        }
        states.into_iter().for_each(|(state, count)| self.metrics.set_bases(state, count));
        self.metrics.standing.set_oldest(list, lease);
        self.metrics.standing.metaspace.set(low, f64::from(u32::try_from(fullest).unwrap_or(u32::MAX)) / 100.0);
        self.metrics.nodes_with_pod_cidr.set(i64::try_from(with_cidr).unwrap_or(i64::MAX));
        self.pod_figures(now);
    }

    fn pod_figures(&mut self, now: Instant) {
        let words = Reason::ALL.iter().map(|reason| reason.as_str()).chain(OTHERS);
        let mut all: HashMap<_, _> = words.map(|word| (word, PodsFor::default())).collect();
        let mut foreign = 0_usize;
        for pod in self.pods.values_mut() {
            let waits = pod.waits(now);
            let pods = all.entry(pod.counted_for()).or_default();
            pods.count = pods.count.saturating_add(1);
            pods.oldest = pods.oldest.max(waits);
            foreign = foreign.saturating_add(usize::from(matches!(pod.pod.content, Content::Foreign(_))));
        }
        all.into_iter().for_each(|(word, pods)| self.metrics.standing.set_pods(word, pods));
        self.metrics.standing.set_foreign(foreign);
        self.metrics.pods.set(i64::try_from(self.pods.len()).unwrap_or(i64::MAX));
    }
}
