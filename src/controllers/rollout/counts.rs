//! Numbers and names for people.

use super::{
    order::{in_order, is_selected, size_of},
    turn::Turn,
};
use crate::k8s::rollout::{BaseCounts, MAX_FAILURES, Phase, RolloutFailure};

/// Bases of the next batch that are named.
const MOST_NEXT: usize = 10;

impl Turn<'_, '_> {
    /// Numbers and names for people.
    pub(super) fn counts(&mut self) {
        let members = self.members();
        let failed = self.failed(&members);
        let is_stable = self.status.stable_revision.as_deref() == Some(&*self.current);
        let all: Vec<_> = if is_stable { self.facts.bases.iter().collect() } else { members.clone() };
        let settled = self.is_settled();
        // Pods that are to come count from the start.
        let total = if is_stable { all.len() } else { self.total(all.len(), settled) };
        let done = all.iter().filter(|base| self.is_done(base)).count();
        let has = all.iter().filter(|base| self.is_released(base.base)).count();
        let left = if is_stable || self.is_released_to_all() { 0 } else { total.saturating_sub(has) };
        let at_work = total.saturating_sub(done).saturating_sub(left).saturating_sub(failed.len());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let joined = self.joined();
        self.status.bases = BaseCounts {
            total: number(total),
            done: number(done),
            batch: if is_stable { 0 } else { number(at_work) },
            left: number(left),
            failed: number(failed.len()),
            joined: if is_stable { 0 } else { number(joined.len()) },
        };
        let next = self.steps.get(usize::try_from(self.status.step).unwrap_or(usize::MAX));
        let selector = next.and_then(|step| step.selector.as_ref());
        let size = next.map_or(0, |step| size_of(&step.replicas, total));
        let waits = self.status.phase == Some(Phase::Waiting);
        let next: Vec<_> = in_order(&members, &joined)
            .into_iter()
            .filter(|base| waits && !self.is_released(base.base) && is_selected(selector, base.base, self.facts))
            .take(size.saturating_sub(has).min(MOST_NEXT))
            .map(|base| base.node.to_owned())
            .collect();
        self.status.next = next;
        let named = failed.into_iter().take(MAX_FAILURES);
        self.status.failures = named
            .map(|(_, base, reason, message)| RolloutFailure { base: base.node.to_owned(), reason, message })
            .collect();
    }
}
