//! The batch that is under way: which bases it is, which of them are told now, and whether it is done.

use std::collections::HashSet;

use super::{
    facts::{BaseFacts, PodIs, Suits},
    order::{in_order, is_selected, size_of},
    turn::{ALL, Turn},
};
use crate::k8s::rollout::{FailureAction, Phase, Step};

impl<'a> Turn<'a, '_> {
    /// One look at the batch that is under way. Says whether the next one has begun by it.
    pub(super) fn goes_on(&mut self) -> bool {
        let settled = self.is_settled();
        let last_step = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let step = if self.is_deleted() { last_step } else { self.status.step };
        self.status.step = step.min(last_step).max(1);
        let index = usize::try_from(self.status.step.saturating_sub(1)).unwrap_or(0);
        let Some(step) = self.steps.get(index).cloned() else { return false };
        let is_last = self.status.step == last_step;
        let members = self.members();
        let total = self.total(members.len(), settled);
        let complete = if is_last {
            self.release_to_all(&members);
            members.len() >= total.min(self.workload.replicas.unwrap_or(0))
        } else {
            self.choose(&step, &members, total, settled)
        };
        self.open();
        let failed = self.failed(&members);
        let too_many = usize::try_from(self.object.spec.failure_policy.max_failures).unwrap_or(usize::MAX);
        if failed.len() > too_many && !self.is_deleted() {
            self.fails();
            return false;
        }
        let passed: HashSet<_> = failed.iter().map(|(base, _)| *base).collect();
        let is_over =
            |base: &&&BaseFacts<'_>| self.is_done(base) || passed.contains(base.base) || self.is_skipped(base.base);
        let released: Vec<_> = members.iter().filter(|base| self.is_released(base.base)).collect();
        let over = released.iter().filter(|base| is_over(base)).count();
        if self.memory.progress.is_none_or(|(was, _)| was != (self.status.step, over)) {
            self.memory.progress = Some(((self.status.step, over), self.now));
        }
        if !settled || !complete || over < released.len() {
            self.deadline().into_iter().for_each(|at| self.wake_at(at));
            return false;
        }
        if is_last {
            self.completes();
            return false;
        }
        match step.pause {
            None => self.next_step(),
            Some(pause) => {
                self.status.phase = Some(Phase::Waiting);
                self.status.pause_seconds_left = pause.duration_seconds;
                self.waits();
            }
        }
        self.status.phase == Some(Phase::Progressing)
    }

    /// Of a `DaemonSet` with their names, by which a base is known that has no Pod for a moment.
    fn release_to_all(&mut self, members: &[&BaseFacts<'_>]) {
        let mut released = vec![ALL.to_owned()];
        if self.is_daemon_set() {
            released.extend(members.iter().map(|base| base.base.to_string()));
            released.sort();
        }
        self.status.released.insert(self.current.to_string(), released);
    }

    /// Of how many bases a per cent is.
    pub(super) fn total(&self, members: usize, settled: bool) -> usize {
        let replicas = self.workload.replicas.unwrap_or(members);
        let counted = settled && self.workload.suits == Suits::ByBase;
        if counted { members } else { members.max(replicas) }
    }

    /// Fills the batch up to its size. Says whether it has it, or there are no more bases for it.
    pub(super) fn choose(&mut self, step: &Step, members: &[&'a BaseFacts<'a>], total: usize, settled: bool) -> bool {
        let joined = self.joined();
        let turns = in_order(members, &joined);
        let has = members.iter().filter(|base| self.is_released(base.base)).count();
        let size = size_of(&step.replicas, total);
        let missing = size.saturating_sub(has);
        if !settled || missing == 0 {
            return settled;
        }
        let mine = |base: &&&BaseFacts<'_>| {
            !self.is_released(base.base) && is_selected(step.selector.as_ref(), base.base, self.facts)
        };
        let chosen: Vec<_> = turns.iter().filter(mine).take(missing).map(|base| base.base.to_string()).collect();
        let full = chosen.len() == missing || self.workload.suits == Suits::ByBase;
        if !chosen.is_empty() {
            let released = self.status.released.entry(self.current.to_string()).or_default();
            released.extend(chosen);
            released.sort();
        }
        full
    }

    /// Tells as many bases of the batch at once as there may be at work.
    pub(super) fn open(&mut self) {
        let members = self.members();
        let failed: HashSet<_> = self.failed(&members).into_iter().map(|(base, _)| base.clone()).collect();
        let mut released: Vec<_> =
            in_order(&members, &HashSet::new()).into_iter().filter(|base| self.is_released(base.base)).collect();
        // A base that is away for a time keeps its turn.
        let opened = std::mem::take(&mut self.memory.opened);
        self.memory.opened = opened.into_iter().filter(|base| self.is_released(base)).collect();
        for base in &released {
            if base.pod_of(&self.current).is_some_and(|pod| pod.is != PodIs::Awaiting) {
                self.memory.opened.insert(base.base.clone());
            }
        }
        let most = self.most_at_work();
        let is_at_work = |base: &&&BaseFacts<'_>| {
            let is_over = self.is_ready(base) || failed.contains(base.base) || self.is_skipped(base.base);
            self.memory.opened.contains(base.base) && !is_over
        };
        let at_work = released.iter().filter(is_at_work).count();
        let waiting = released.iter().filter(|base| !self.memory.opened.contains(base.base));
        let next: Vec<_> = waiting.take(most.saturating_sub(at_work)).map(|base| base.base.clone()).collect();
        self.memory.opened.extend(next);
        if self.is_daemon_set() {
            released.retain(|base| self.memory.opened.contains(base.base));
            self.make_room(released.into_iter());
        }
    }

    /// More bases failed than may.
    pub(super) fn fails(&mut self) {
        match self.object.spec.failure_policy.action {
            FailureAction::Pause => self.status.phase = Some(Phase::Paused),
            FailureAction::Rollback => {
                self.status.rejected_revision = Some(self.current.to_string());
                self.status.phase = Some(Phase::RollingBack);
                self.out.rolls_back = true;
            }
        }
    }

    /// Every base has it.
    pub(super) fn completes(&mut self) {
        self.status.phase = Some(Phase::Completed);
        self.status.stable_revision = Some(self.current.to_string());
        self.status.released.clear();
        self.status.rejected_revision = None;
        self.memory.opened.clear();
        self.forget();
    }
}
