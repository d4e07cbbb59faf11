//! What probes have said of the modules on a base, and which are started anew because of it.

use std::time::{Duration, Instant};

use super::{base::Base, memory::ContainerMemory};
use crate::domain::{ContainerHistory, Health, ProbeFact, ProbeKind, ProbeSays, Probes, times::Later};

/// A module that ran for so long after it was started anew is started at once when it fails again (as a kubelet's).
const RAN_WELL: Duration = Duration::from_secs(600);

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
    /// How long that is after it failed.
    pub(in crate::domain) delay: Duration,
}

impl Base {
    /// A probe has news. Says whether the module is started anew for it; none: it is about an earlier start.
    pub fn probed(&mut self, fact: &ProbeFact, now: Instant) -> Option<bool> {
        let backoff = self.settings.backoff;
        let container = self.pods.get_mut(&fact.pod)?.containers.get_mut(&fact.container)?;
        if container.probed.run != fact.run {
            return None;
        }
        match (fact.kind, &fact.says) {
            (ProbeKind::Startup, ProbeSays::Succeeds) => container.probed.started = true,
            (ProbeKind::Readiness, ProbeSays::Succeeds) => container.probed.ready = true,
            (ProbeKind::Readiness, ProbeSays::Fails(_)) => container.probed.ready = false,
            (ProbeKind::Startup | ProbeKind::Liveness, ProbeSays::Fails(why)) => {
                if container.restart.is_some() {
                    return Some(false);
                }
                let count = container.unhealthy(now);
                let delay = count
                    .checked_sub(1)
                    .map_or(Duration::ZERO, |again| if again == 0 { Duration::ZERO } else { backoff.delay(again) });
                let message = format!("{} probe failed: {why}", fact.kind.word());
                container.restart = Some(Box::new(Restart { message, at: now.later(delay), delay }));
                return Some(true);
            }
            _ => {}
        }
        Some(false)
    }
}

impl ContainerMemory {
    /// It failed once more. Says how often it has lately.
    fn unhealthy(&mut self, now: Instant) -> u32 {
        let lately = self.unhealthy.filter(|(_, last)| last.later(RAN_WELL) > now).map_or(0, |(count, _)| count);
        let count = lately.saturating_add(1);
        self.unhealthy = Some((count, now));
        count
    }
}
