//! One step of a base: take note, decide, take the commands as sent.

use std::{collections::HashMap, time::Instant};

use super::{plan::Plan, reconcile};
use crate::domain::{Base, Link, Needs, Pod, PodOutcome, ProbeTarget, WebContexts, known::Replacement};

impl Base {
    /// Takes note of the Pods and of the time, decides, and takes the commands of the plan as sent.
    pub fn step(&mut self, pods: &[&Pod], link: &Link, contexts: &WebContexts, needs: &Needs, now: Instant) -> Plan {
        self.link = *link;
        let busy = self.is_busy();
        self.liveness.tick(&self.settings, busy, link, now);
        if self.liveness.is_lost() {
            self.conversation.away();
            self.jvm.is_new();
        }
        self.observe_pods(pods, now);
        let mut plan = reconcile(self, pods, contexts, needs, now);
        if let Some(ledger) = &plan.ledger {
            self.ledger = ledger.clone();
        }
        // What is on record of these may be another origin.
        self.recorded.retain(|id| !plan.unrecorded.contains(id));
        for (name, replacement) in &plan.replacements {
            let before = self.replacements.get(name).is_some_and(Replacement::empties);
            if replacement.empties() && !before {
                // That it failed beside the others says nothing of it alone.
                self.failures.forget_install(&replacement.spec);
                let tried = self.pods.get_mut(&replacement.pod).and_then(|p| p.containers.get_mut(name));
                tried.into_iter().for_each(|c| c.failed = false);
            }
        }
        self.replacements.clone_from(&plan.replacements);
        for command in &plan.commands {
            self.sent(command, pods, now);
        }
        if plan.must_collect && plan.commands.iter().any(|command| !command.installs().is_empty()) {
            self.jvm.must_collect();
        }
        if self.jvm.is_wanted(plan.waits_for_room, now) {
            plan.wake_at(now);
        }
        // What was sent now may be lost: it is looked after, whatever else happens.
        let (list_at, health_at) = self.asks_at(now);
        let due = |at: &Instant| *at > now || plan.waits_for_room;
        let next = list_at.filter(|at| *at > now).into_iter().chain(health_at.filter(due)).min();
        next.into_iter().for_each(|at| plan.wake_at(at.max(now)));
        self.note_active(&mut plan, pods, now);
        self.give_back_room();
        plan
    }

    /// Takes note of what is active, which has run, whatever comes, and of what is not any more; and has the plan say what
    /// is to be probed.
    fn note_active(&mut self, plan: &mut Plan, pods: &[&Pod], now: Instant) {
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
}
