//! The start: what the process before this one left is taken over once everything is known.

use std::{collections::HashSet, time::Instant};

use tracing::info;

use super::super::state::{State, today};
use crate::{
    api::Watched,
    domain::{BaseId, Ledger},
    planning::Task,
};

/// Bases that are known by their Pods alone when the process begins, and looked for: not more than so many.
const HOMELESS: usize = 1_000;

impl State {
    /// Whether all is known that a standby knows: the rest is read when it leads.
    pub(in crate::engine) fn is_warm(&self) -> bool {
        let watches = (0..Watched::COUNT).filter(|watch| !Watched::WITH_THE_LEAD.contains(watch));
        watches.into_iter().all(|watch| self.synced.contains(&watch)) && self.surroundings.kubelet_version.is_some()
    }

    /// Nothing is decided before all that is wanted and remembered is known. Returns whether it is.
    pub(in crate::engine) fn begin(&mut self, now: Instant) -> bool {
        let synced = self.synced.len() == Watched::COUNT && self.surroundings.kubelet_version.is_some();
        if !synced || self.begun.is_some() {
            return synced;
        }
        self.begun = Some(now);
        // Before the first base is told anything.
        self.schedule.wake(&Task::Rollouts, now);
        info!(bases = self.bases.len(), pods = self.pods.len(), "watches have delivered, starting");
        // Bases that are away without a Node are looked for too: what modulet installed there is still its own.
        // So are those whose Node is gone and that still have Pods: they may have been told to install them.
        let homeless = self.index.bases().filter(|id| !self.bases.contains_key(*id));
        let homeless: Vec<_> = homeless.take(HOMELESS).cloned().collect();
        let away: Vec<_> = self.record.departed().chain(&homeless).cloned().collect();
        for id in &away {
            self.base_mut(id, now);
        }
        for (id, state) in &mut self.bases {
            // What a standby heard was said to another.
            state.base.taken_over(now);
            if let Some(ledger) = self.record.take(id) {
                state.restore(ledger);
            } else if let Some(ledger) = state.node.former_ledger() {
                // Version 0.1 kept it on the Node; it is on record from now on.
                state.base.recorded(ledger.all_installed());
                state.base.ledger = ledger;
            }
            self.record.ordered.ids().for_each(|id| state.base.ledger.forget_origin(id));
        }
        let known = self.bases.iter().filter(|(_, s)| s.node.object.exists() || s.base.ledger != Ledger::default());
        let may_have_orders: HashSet<_> = known.map(|(id, _)| id).chain(&homeless).cloned().collect();
        self.record.begin(may_have_orders.into_iter(), today(), now);
        let all: Vec<_> = self.bases.keys().cloned().collect();
        all.iter().for_each(|id| self.claim_orders_of_former_process(id, now));
        self.dirty.extend(all);
        true
    }

    /// What the base lists and the process before this one ordered is ours.
    pub(super) fn claim_orders_of_former_process(&mut self, id: &BaseId, now: Instant) {
        let Some(state) = self.bases.get_mut(id).filter(|_| self.begun.is_some()) else { return };
        let Some(list) = state.base.modules() else { return };
        let ours = self.record.ordered.listed(id, list.map(|m| &m.id), &state.base.ledger, now);
        ours.iter().for_each(|module| state.base.ledger.install(module));
    }
}
