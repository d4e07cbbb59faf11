//! One base is decided on: facts first, then the domain's plan, then what becomes of it.

use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use tracing::info;

use super::neighbours::share_names;
use crate::{
    domain::{BaseId, Later, ModuleId, Phase, Plan, Pod, PodOutcome, Reachability, Rejection},
    engine::{known::OUT_OF_PODS, state::State},
    planning::{Effect, Task},
};

/// Takes out the Pods that are too many for one base, as a kubelet does: the youngest that have never run.
fn reject_beyond(
    pods: &mut Vec<&Pod>,
    most: u32,
    first_seen: impl Fn(&Pod) -> Option<(bool, Instant)>,
) -> Vec<PodOutcome> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let used = pods.iter().filter(|pod| !pod.terminal).count();
    if used <= most {
        return Vec::new();
    }
    let has_run = |pod: &Pod| pod.containers().iter().any(|c| c.history.has_run);
    // One that was seen later, and that nothing was ordered for, goes first.
    let mut fresh: Vec<_> = pods.iter().copied().filter(|pod| pod.is_live() && !has_run(pod)).collect();
    fresh.sort_by_cached_key(|pod| {
        std::cmp::Reverse((first_seen(pod).map(|(ordered, at)| (!ordered, at)), pod.uid.clone()))
    });
    fresh.truncate(used.saturating_sub(most));
    let too_many: HashSet<_> = fresh.iter().map(|pod| pod.uid.clone()).collect();
    pods.retain(|pod| !too_many.contains(&pod.uid));
    let message = format!("Node didn't have enough resource: pods, requested: 1, used: {most}, capacity: {most}");
    let rejection = Rejection { reason: OUT_OF_PODS, message };
    let outcome =
        |uid| PodOutcome { rejected: Some(rejection.clone()), ..PodOutcome::new(uid, Phase::Failed, Vec::new()) };
    too_many.into_iter().map(outcome).collect()
}

impl State {
    /// Decides on the base. What is to be done comes out, in order.
    pub(in crate::engine) fn plan_base(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        self.schedule.clear(&Task::Base(id.clone()));
        self.suspect(id, now, out);
        self.expect_modules(id, now);
        let Some(state) = self.bases.get_mut(id) else {
            return self.let_go_of_terminating(id, now, out);
        };
        let mut pods: Vec<_> = self.index.of_base(id).filter_map(|uid| self.pods.get(uid)).map(|p| &p.pod).collect();
        let first_seen = |pod: &Pod| self.pods.get(&pod.uid).map(|p| (p.commanded, p.first_seen));
        let mut rejected = reject_beyond(&mut pods, self.config.max_pods, first_seen);
        let (told, held) = share_names(&mut pods, &self.pods, self.config.shared_module_names, out);
        rejected.extend(held);
        state.base.admitted = state.node.object.exists();
        let link = state.link(self.last_arrival, self.suspicion.is_on(), now);
        let mut plan = state.base.step(&pods, &link, &self.contexts, &self.needs, now);
        if plan.waits_for_a_trial {
            self.waiting_for_trials.insert(id.clone());
        }
        if self.contexts.learn(&plan.lessons, now) {
            for waiting in self.waiting_for_trials.drain() {
                self.schedule.wake_base(&waiting, now);
            }
        }
        std::mem::take(&mut plan.needs).into_iter().for_each(|took| self.needs.learn(took));
        let overdue = link.suspected && state.base.is_overdue(&link, now);
        let (via, reachability) = (state.via, state.base.reachability(now));
        if state.reachability != Some(reachability) {
            info!(base = %id, state = ?reachability, silent_for = ?state.base.liveness.silence(now), "base");
            state.becomes(reachability, now);
        }
        self.report_reachability(id, reachability, out);
        for uid in told {
            self.pods.get_mut(&uid).into_iter().for_each(|pod| pod.told_shared = true);
        }
        self.report_metaspace(id, out);
        self.report_pod_cidr(id, out);
        self.report_without_zones(id, out);
        if let Some(at) = plan.wake {
            self.schedule.wake_base_about(id, at, now);
        }
        self.put_on_record(id, &plan.unrecorded, now);
        for command in &plan.commands {
            out.push(Effect::Tell(via, id.clone(), command.clone()));
            self.report_command(id, command, now, out);
        }
        self.plan_probes(id, &mut plan, now, out);
        self.plan_statuses(id, &plan.pods, now, out);
        rejected.iter().for_each(|outcome| self.plan_status(id, outcome, now, out));
        self.plan_deletions(id, &plan, now, out);
        if reachability == Reachability::Dead {
            self.let_go_of_terminating(id, now, out);
        }
        if overdue && self.suspicion.heard {
            // It would be given up but for the suspicion: looked at again when that may have ended.
            self.schedule.wake_base(id, now.later(std::time::Duration::from_secs(1)));
        }
        self.plan_node(id, now, out);
        self.report_refused_address(id, out);
        self.plan_lease(id, now, out);
        self.note_ledger(id, !plan.expired.is_empty(), now);
    }

    /// Pods of a base that is not known, or gone for good: there is no kubelet to finish their deletion.
    fn let_go_of_terminating(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        let terminating = self.pods_of(id).filter(|p| p.pod.deleting.is_some());
        let terminating: Vec<_> = terminating.map(|p| p.pod.uid.clone()).collect();
        terminating.iter().for_each(|uid| self.plan_deletion(uid, now, out));
    }

    fn plan_deletions(&mut self, id: &BaseId, plan: &Plan, now: Instant, out: &mut Vec<Effect>) {
        plan.finished.iter().for_each(|uid| self.plan_deletion(uid, now, out));
        // What was superseded by whom must be on record before the Pod that shows it goes.
        if !plan.expired.is_empty() && self.bases.get(id).is_some_and(|state| state.is_recorded()) {
            plan.expired.iter().for_each(|uid| self.plan_deletion(uid, now, out));
        }
    }

    /// Sees to it that these installs come on record; the base is looked at again at once for those that are.
    fn put_on_record(&mut self, id: &BaseId, installs: &[ModuleId], now: Instant) {
        if installs.is_empty() {
            return;
        }
        let bases = &self.bases;
        let not_ours = |module: &ModuleId| -> BTreeSet<BaseId> {
            let has = bases.iter().filter(|(_, s)| {
                s.base.modules().is_some_and(|mut list| list.any(|m| m.id == *module))
                    && !s.base.ledger.installed(module)
            });
            has.map(|(base, _)| base.clone()).collect()
        };
        let on_record = self.record.want(id, installs, not_ours, now);
        if !on_record.is_empty()
            && let Some(state) = self.bases.get_mut(id)
        {
            state.base.recorded(on_record);
            self.schedule.wake_base(id, now);
        }
    }

    /// The record is told of a ledger that is another than it has.
    fn note_ledger(&mut self, id: &BaseId, urgent: bool, now: Instant) {
        let Some(state) = self.bases.get_mut(id) else { return };
        let mark = state.ledger_mark();
        let noted = std::mem::replace(&mut state.noted_mark, mark);
        if mark == state.saved_mark {
            return;
        }
        let urgent = urgent || state.base.ledger.is_contended();
        if mark != noted || urgent {
            self.record.changed(id, &state.base.ledger, urgent, now);
        }
    }
}
