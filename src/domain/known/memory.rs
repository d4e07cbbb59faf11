//! What is remembered about Pods while the process runs; their statuses and restart counts give it back after a restart.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::domain::{ContainerHistory, Health, ModuleId, Probes, times::Later};

/// A module that ran for so long after it was started anew is started at once when it fails again (as a kubelet's).
const RAN_WELL: Duration = Duration::from_secs(600);

/// What is remembered about a Pod while this process runs.
#[derive(Clone, Debug, Default)]
pub(in crate::domain) struct PodMemory {
    pub(in crate::domain) first_seen: Option<Instant>,
    pub(in crate::domain) deletion_seen: Option<Instant>,
    pub(in crate::domain) superseded_seen: Option<Instant>,
    /// By container name.
    pub(in crate::domain) containers: HashMap<String, ContainerMemory>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::domain) struct ContainerMemory {
    /// The module that the container stands for.
    pub(in crate::domain) module: Option<ModuleId>,
    pub(in crate::domain) has_run: bool,
    pub(in crate::domain) failed: bool,
    pub(in crate::domain) restarts: u32,
    /// What its probes have said of it since it is active.
    pub(in crate::domain) probed: Probed,
    /// It is started anew, because a probe failed; boxed, as few are.
    pub(in crate::domain) restart: Option<Box<Restart>>,
    /// How often that was so lately, and when last.
    pub(in crate::domain) unhealthy: Option<(u32, Instant)>,
}

/// What probes have said of a container since it is active.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::domain) struct Probed {
    /// Which start of it: answers about an earlier one count no more.
    pub(in crate::domain) run: u32,
    pub(in crate::domain) started: bool,
    pub(in crate::domain) ready: bool,
    /// An earlier process had it run.
    pub(in crate::domain) found: bool,
    /// Since when it is active, as far as this process knows.
    pub(in crate::domain) since: Option<Instant>,
}

impl Probed {
    /// What the status of a Pod that is met for the first time shows is so until a probe says something else.
    pub(super) fn shown(history: &ContainerHistory) -> Self {
        let found = history.started || history.ready;
        Self { started: history.started, ready: history.ready, found, ..Self::default() }
    }

    /// It is active, or not any more: then all that was said of it is over.
    pub(in crate::domain) fn is_active(&mut self, active: bool, now: Instant) {
        if active {
            self.since.get_or_insert(now);
        } else if self.since.is_some() || self.found {
            *self = Self { run: self.run.saturating_add(1), ..Self::default() };
        }
    }

    /// How far it is.
    pub(in crate::domain) fn health(&self, probes: Option<&Probes>) -> Health {
        match probes {
            Some(Probes { startup: Some(_), .. }) if !self.started => Health::Starting,
            Some(Probes { readiness: Some(_), .. }) if !self.ready => Health::NotReady,
            _ => Health::Ready,
        }
    }
}

/// A module that is started anew, because a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Restart {
    /// Why, for people.
    pub(in crate::domain) message: String,
    /// Not installed before.
    pub(in crate::domain) at: Instant,
}

impl ContainerMemory {
    /// It failed once more. Says how often it had lately before.
    pub(super) fn unhealthy(&mut self, now: Instant) -> u32 {
        let lately = self.unhealthy.filter(|(_, last)| last.later(RAN_WELL) > now).map_or(0, |(count, _)| count);
        self.unhealthy = Some((lately.saturating_add(1), now));
        lately
    }
}
