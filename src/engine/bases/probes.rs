//! What is asked of the containers on a base: said anew when it changes.

use std::{sync::Arc, time::Instant};

use crate::{
    domain::{BaseId, Later, Plan, ProbeOrder},
    engine::{
        record::mark,
        state::{State, WITHOUT_ROOM},
    },
    planning::Effect,
};

impl State {
    /// Has the containers of a base probed that are to be. What is known of them goes along where one is new, and does not
    /// count as a change: the prober knows it first.
    pub(super) fn plan_probes(&mut self, id: &BaseId, plan: &mut Plan, now: Instant, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id) else { return };
        let mut targets = std::mem::take(&mut plan.probes);
        if targets.is_empty() && state.probed_mark == 0 {
            return;
        }
        let address = state.base.info.as_ref().and_then(|info| info.ip.as_deref());
        if address.is_none() {
            targets.clear();
        }
        let address: Arc<str> = address.unwrap_or_default().into();
        let busy = state.base.is_at_work(now);
        let asked: Vec<_> = targets.iter().map(|target| (&target.pod, &target.container, target.run)).collect();
        let mark = if asked.is_empty() { 0 } else { mark(&(&address, busy, asked)).max(1) };
        if std::mem::replace(&mut state.probed_mark, mark) != mark {
            out.push(Effect::Probe(ProbeOrder { base: id.clone(), address, busy, targets }));
        }
    }

    /// There was no room for what is to be probed on a base: it is said again.
    pub(in crate::engine) fn probes_lost(&mut self, id: &BaseId, now: Instant) {
        if let Some(state) = self.bases.get_mut(id) {
            // Neither nothing nor anything that was said.
            state.probed_mark = 1;
            self.schedule.wake_base(id, now.later(WITHOUT_ROOM));
        }
    }
}
