//! What probes have news of, and which modules are started anew because of it.

use std::time::{Duration, Instant};

use super::{base::Base, memory::Restart};
use crate::domain::{ProbeFact, ProbeKind, ProbeSays, times::Later};

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
                let again = container.unhealthy(now);
                let delay = if again == 0 { Duration::ZERO } else { backoff.delay(again) };
                let when = if delay.is_zero() { String::new() } else { format!(" {} s later", delay.as_secs()) };
                let kind = fact.kind.word();
                let message = format!("{kind} probe failed: {why}; it is uninstalled, and installed again{when}");
                container.restart = Some(Box::new(Restart { message, at: now.later(delay) }));
                return Some(true);
            }
            _ => {}
        }
        Some(false)
    }
}
