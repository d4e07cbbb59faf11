//! Most bases fall silent at once: that is rather our link, our broker or our machine than all of them.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{bases::BaseState, state::State};
use crate::{
    api::{Note, Subject},
    domain::{BaseId, Reachability},
    planning::Effect,
    tunnel::Via,
};

/// With fewer bases than this all of them may well be dead.
const FEW: usize = 5;
/// After so long we believe it.
const FOR: Duration = Duration::from_secs(120);
/// All bases are looked through at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether we suspect ourselves.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    since: Option<Instant>,
    believed: bool,
    looked: Option<Instant>,
    /// Some base was heard since the start.
    heard: bool,
    /// That nobody was heard has been said.
    told_nobody: bool,
}

impl Suspicion {
    /// Nobody is given up.
    pub(super) fn is_on(&self) -> bool {
        !self.heard || (self.since.is_some() && !self.believed)
    }

    /// Some base was heard since the start.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Of `known` bases that were there, so many are silent now. Returns what is to be said, if anything is.
    fn judge(&mut self, silent: usize, known: usize, now: Instant) -> Option<Verdict> {
        let most = known >= FEW && silent > known.saturating_sub(silent);
        match self.since {
            None if most => {
                self.since = Some(now);
                Some(Verdict::Suspected)
            }
            Some(_) if !most => {
                (self.since, self.believed) = (None, false);
                Some(Verdict::Cleared)
            }
            Some(since) if !self.believed && now.saturating_duration_since(since) >= FOR => {
                self.believed = true;
                Some(Verdict::Believed)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Suspected,
    Believed,
    Cleared,
}

impl State {
    /// A base says something. Before the first one does, all that is silent is nobody's silence but ours: a wrong
    /// environment, a wrong broker. From then on each has the time that it would have had.
    pub(super) fn heard_somebody(&mut self, now: Instant) {
        if std::mem::replace(&mut self.suspicion.heard, true) {
            return;
        }
        if std::mem::take(&mut self.suspicion.told_nobody) {
            info!("bases are heard");
            self.metrics.bases_suspected.set(0);
        }
        for (id, state) in &mut self.bases {
            if self.connected || state.via == Via::Http {
                state.base.liveness.deaf(now);
                state.base.liveness.listening(now);
            }
            self.dirty.insert(id.clone());
        }
    }

    fn tell_nobody(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get(id).filter(|state| state.node.object.exists()) else { return };
        if std::mem::replace(&mut self.suspicion.told_nobody, true) {
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
        let subject = Subject::Node(state.node.name.clone());
        out.push(Effect::Note(Note { subject, warning: true, reason: "NoBaseHeard", message }));
    }

    /// Before a base is given up: whether most of the others are silent too.
    pub(super) fn suspect(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        let proven = self.link_proven;
        let is_overdue = |state: &BaseState| state.base.is_overdue(&state.link(proven, false, now), now);
        let overdue = self.bases.get(id).is_some_and(|state| is_overdue(state));
        let looked = self.suspicion.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY);
        if overdue && !self.suspicion.heard {
            self.tell_nobody(id, out);
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
                let subject = Subject::Node(state.node.name.clone());
                out.push(Effect::Note(Note { subject, warning: true, reason: "MostBasesSilent", message }));
            }
            Verdict::Believed => warn!(silent, known, "they are still silent, and are given up"),
            Verdict::Cleared => info!(silent, known, "most bases are heard again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_bases_at_once_are_suspected_for_a_time_and_a_few_are_not() {
        let now = Instant::now();
        let cases = [(4, 4, false), (3, 5, true), (2, 5, false), (51, 100, true), (50, 100, false)];
        for (silent, known, suspected) in cases {
            let mut suspicion = Suspicion { heard: true, ..Suspicion::default() };
            suspicion.judge(silent, known, now);
            assert_eq!(suspicion.is_on(), suspected, "{silent} of {known}");
        }
    }

    #[test]
    fn what_lasts_is_believed_and_what_ends_can_begin_again() {
        let (now, mut suspicion) = (Instant::now(), Suspicion { heard: true, ..Suspicion::default() });
        assert_eq!(suspicion.judge(10, 10, now), Some(Verdict::Suspected));
        assert_eq!(suspicion.judge(10, 10, now + FOR / 2), None);
        assert_eq!(suspicion.judge(10, 10, now + FOR), Some(Verdict::Believed));
        assert!(!suspicion.is_on());
        assert_eq!(suspicion.judge(10, 10, now + 2 * FOR), None);
        assert_eq!(suspicion.judge(1, 10, now + 3 * FOR), Some(Verdict::Cleared));
        assert_eq!(suspicion.judge(9, 10, now + 4 * FOR), Some(Verdict::Suspected));
    }
}
