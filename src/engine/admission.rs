//! Which identities become bases: a stranger on the broker must neither fill the memory nor the cluster with Nodes.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{domain::BaseId, metrics::Metrics, planning::Pace};

/// More bases than this are refused. Those that have a Node or a ledger are known from those and never are.
const MOST: usize = 20_000;
/// From here on it is said that there are many.
const MANY: usize = 16_000;
/// So many new identities may come at once, as when a fleet and modulet start together,
const BURST: u32 = 10_000;
/// and then one in this time.
const EVERY: Duration = Duration::from_millis(20);
/// Refused identities whose refusal was logged are remembered up to this number.
const WARNED: usize = 1_000;

/// The door.
#[derive(Debug)]
pub(super) struct Admission {
    pace: Pace,
    warned_many: bool,
    warned_full: bool,
    refused: HashSet<BaseId>,
}

impl Default for Admission {
    fn default() -> Self {
        let pace = Pace::new(BURST, EVERY);
        Self { pace, warned_many: false, warned_full: false, refused: HashSet::new() }
    }
}

impl Admission {
    /// Whether an identity that is not known becomes a base now.
    pub(super) fn admits(&mut self, id: &BaseId, bases: usize, metrics: &Metrics, now: Instant) -> bool {
        if bases >= MANY && !std::mem::replace(&mut self.warned_many, true) {
            warn!(bases, most = MOST, "there are very many bases; beyond the most, new ones are refused");
        }
        if bases < MOST && self.pace.try_take(now) {
            self.warned_full = false;
            return true;
        }
        metrics.overflow("bases");
        metrics.standing.base_refused(if bases < MOST { "too_fast" } else { "too_many" });
        if !std::mem::replace(&mut self.warned_full, true) {
            warn!(base = %id, bases, "new identities are refused: there are too many, or they come too fast");
        }
        false
    }

    /// Whether the refusal of this identity is to be logged: once for each, and not for more than there can be bases.
    pub(super) fn logs_refusal(&mut self, id: &BaseId) -> bool {
        self.refused.len() < WARNED && self.refused.insert(id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_identities_are_bounded_in_rate_and_number() {
        let (start, metrics, mut door) = (Instant::now(), Metrics::new(), Admission::default());
        let mut bases = 0_usize;
        // A hundred thousand in ten seconds.
        for number in 0..100_000_u64 {
            let id = BaseId::new(format!("invented-{number}"));
            let now = start + Duration::from_micros(100 * number);
            bases += usize::from(door.admits(&id, bases, &metrics, now));
        }
        assert!((10_000..=10_600).contains(&bases), "{bases}");
        let later = start + Duration::from_secs(10_000);
        assert!(door.admits(&BaseId::new("real"), MOST - 1, &metrics, later));
        assert!(!door.admits(&BaseId::new("one-too-many"), MOST, &metrics, later));
    }

    #[test]
    fn refusals_are_told_once_for_each_identity_and_not_for_ever_more() {
        let mut door = Admission::default();
        let logged = (0..5_000).filter(|number| door.logs_refusal(&BaseId::new(format!("bad-{number}")))).count();
        assert_eq!(logged, WARNED);
        assert!(!door.logs_refusal(&BaseId::new("bad-1")));
    }
}
