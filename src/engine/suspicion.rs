//! Most bases fall silent at once: that is rather our link, our broker or our machine than all of them.

use std::time::{Duration, Instant};

/// With fewer bases than this all of them may well be dead.
const FEW: usize = 5;
/// After so long we believe it.
pub(super) const FOR: Duration = Duration::from_secs(120);

/// Whether we suspect ourselves.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    pub(super) since: Option<Instant>,
    believed: bool,
    /// When all bases were looked through last.
    pub(super) looked: Option<Instant>,
    /// Some base was heard since the start.
    pub(super) heard: bool,
    /// That nobody was heard was reported.
    pub(super) reported_nobody: bool,
}

impl Suspicion {
    /// Nobody is given up.
    pub(super) fn is_on(&self) -> bool {
        !self.heard || (self.since.is_some() && !self.believed)
    }

    /// Of `known` bases that were there, so many are silent now. Returns what is to be said, if anything is.
    pub(super) fn judge(&mut self, silent: usize, known: usize, now: Instant) -> Option<Verdict> {
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

/// What is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Suspected,
    Believed,
    Cleared,
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
