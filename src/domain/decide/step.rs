//! One step of a base: take note, decide, take the commands as sent.

use std::{sync::Arc, time::Instant};

use super::{plan::Plan, reconcile};
use crate::domain::{Base, Link, Needs, Pod, WebContexts, known::Replacement};

impl Base {
    /// Takes note of the Pods and of the time, decides, and takes the commands of the plan as sent.
    pub fn step(&mut self, pods: &[&Pod], link: &Link, contexts: &WebContexts, needs: &Needs, now: Instant) -> Plan {
        self.link = *link;
        let busy = self.is_busy();
        let settings = Arc::clone(&self.settings);
        self.liveness.tick(&settings, busy, link, now);
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
}
