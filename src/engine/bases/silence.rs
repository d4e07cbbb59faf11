//! Whose silence it is: before a base is given up it is judged whether most of the others are silent too.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::{
    domain::{BaseId, Link, Reachability},
    engine::{
        known::BaseState,
        state::State,
        suspicion::{FOR, Verdict},
    },
    planning::Effect,
};

/// All bases are looked through at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl State {
    /// A base says something. Before the first one does, all that is silent is nobody's silence but ours: a wrong
    /// environment, a wrong broker. From then on each has the time that it would have had.
    pub(in crate::engine) fn heard_somebody(&mut self, now: Instant) {
        if std::mem::replace(&mut self.suspicion.heard, true) {
            return;
        }
        if std::mem::take(&mut self.suspicion.reported_nobody) {
            info!("bases are heard");
            self.metrics.bases_suspected.set(0);
        }
        for (id, state) in &mut self.bases {
            if self.connected {
                state.base.liveness.deaf(now);
                state.base.liveness.listening(now);
            }
            self.dirty.insert(id.clone());
        }
    }

    fn report_nobody(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get(id).filter(|state| state.node.object.exists()) else { return };
        if std::mem::replace(&mut self.suspicion.reported_nobody, true) {
            return;
        }
        let (bases, env) = (self.bases.len(), self.topics.env());
        warn!(
            bases,
            env,
            "not one base was heard since the start, and all Nodes stay as they are: is this the bases' broker, and their environment?"
        );
        self.metrics.bases_suspected.set(1);
        let message =
            format!("not one base of environment {env} was heard since modulet started: Nodes stay as they are");
        out.push(state.note(true, "NoBaseHeard", message));
    }

    /// Before a base is given up: whether most of the others are silent too.
    pub(super) fn suspect(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        let link = Link { proven: self.last_arrival, suspected: false };
        let overdue = self.bases.get(id).is_some_and(|state| state.base.is_overdue(&link, now));
        let looked = self.suspicion.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY);
        if overdue && !self.suspicion.heard {
            self.report_nobody(id, out);
            return;
        }
        if looked || !(overdue || self.suspicion.since.is_some()) {
            return;
        }
        self.suspicion.looked = Some(now);
        let (mut silent, mut known) = (0_usize, 0_usize);
        // One that never answered anything tells nothing by its silence.
        let answered = |state: &&BaseState| state.node.object.exists() && state.base.modules().is_some();
        for state in self.bases.values().map(Box::as_ref).filter(answered) {
            known = known.saturating_add(1);
            let lost = matches!(state.base.reachability(now), Reachability::Unreachable | Reachability::Dead);
            silent = silent.saturating_add(usize::from(lost || state.base.is_unanswered(now)));
        }
        let Some(verdict) = self.suspicion.judge(silent, known, now) else { return };
        self.metrics.bases_suspected.set(i64::from(self.suspicion.is_on()));
        let message = format!("{silent} of {known} bases are silent at once");
        match verdict {
            Verdict::Suspected => {
                warn!(
                    silent,
                    known, "most bases fell silent at once: modulet suspects its own link and gives up nobody"
                );
                let message =
                    format!("{message}: the link to them is suspected, and nobody is given up for {} s", FOR.as_secs());
                let Some(state) = self.bases.get(id) else { return };
                out.push(state.note(true, "MostBasesSilent", message));
            }
            Verdict::Believed => warn!(silent, known, "they are still silent, and are given up"),
            Verdict::Cleared => info!(silent, known, "most bases are heard again"),
        }
    }
}
