//! What is to be probed: containers whose modules are active on a base that answers.

use std::{collections::HashMap, time::Instant};

use super::plan::Plan;
use crate::domain::{Base, ContainerOutcome, Pod, PodOutcome, ProbeTarget, Reason, known::Restart};

impl Base {
    /// Takes note of what is active, which has run, whatever comes, and of what is not any more; and has the plan say what
    /// is to be probed.
    pub(super) fn note_active(&mut self, plan: &mut Plan, pods: &[&Pod], now: Instant) {
        let by_uid: HashMap<_, _> = pods.iter().map(|pod| (&pod.uid, *pod)).collect();
        for PodOutcome { uid, containers, .. } in &plan.pods {
            let Some((pod, memory)) = by_uid.get(uid).zip(self.pods.get_mut(uid)) else { continue };
            for (container, outcome) in pod.containers().iter().zip(containers) {
                let Some(memory) = memory.containers.get_mut(&container.name) else { continue };
                memory.has_run |= outcome.active();
                let Some(probes) = container.probes.as_ref().filter(|_| pod.is_live()) else { continue };
                let known = &mut memory.probed;
                known.is_active(outcome.active(), now);
                if let Some(since) = known.since {
                    plan.probes.push(ProbeTarget {
                        pod: uid.clone(),
                        container: container.name.clone(),
                        run: known.run,
                        probes: probes.clone(),
                        started: known.started,
                        ready: known.ready,
                        active_for: (!known.found).then(|| now.saturating_duration_since(since)),
                    });
                }
            }
        }
    }

    /// It is at work on commands that have not been under way for very long: what it fails to answer says nothing.
    pub fn is_at_work(&self, now: Instant) -> bool {
        self.conversation.in_flight() > self.conversation.hanging(now)
    }
}

/// What a Pod says whose module is started anew.
pub(super) fn why(restart: &Restart, restarts: u32) -> ContainerOutcome {
    let Restart { message, delay, .. } = restart;
    let when = if delay.is_zero() { String::new() } else { format!(" {} s later", delay.as_secs()) };
    let message = format!("{message}; it is uninstalled, and installed again{when}");
    ContainerOutcome::Waiting { reason: Reason::Unhealthy, message, restarts }
}
