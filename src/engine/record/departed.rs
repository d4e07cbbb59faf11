//! What is kept of bases that are gone: their ledgers, for when they come back.

use std::collections::HashMap;

use tracing::warn;

use crate::{
    domain::{BaseId, Ledger},
    k8s::Saved,
};

/// Ledgers are kept for so many days,
pub(super) const DAYS: i64 = 30;
/// and of so many bases: those that went first are forgotten first.
const MOST: usize = 2_000;

/// What is kept of bases that are not known otherwise.
pub(super) type Departed = HashMap<BaseId, Saved>;

/// Forgets what has been kept for long enough, and says of which bases.
pub(super) fn expire(departed: &mut Departed, today: i64) -> Vec<BaseId> {
    let is_old = |saved: &mut Saved| saved.departed.is_some_and(|day| today.saturating_sub(day) > DAYS);
    departed.extract_if(|_, saved| is_old(saved)).map(|(base, _)| base).collect()
}

/// The base is not known any more. Returns the one that is forgotten for it, where there are too many.
pub(super) fn keep(departed: &mut Departed, base: &BaseId, ledger: Ledger, today: i64) -> Option<BaseId> {
    let full = departed.len() >= MOST;
    let oldest = departed.iter().filter(|_| full).min_by_key(|(_, saved)| saved.departed);
    let oldest = oldest.map(|(base, _)| base.clone());
    if let Some(oldest) = &oldest {
        warn!(base = %oldest, "the ledger of a base that went long ago is given up: there are too many");
        departed.remove(oldest);
    }
    departed.insert(base.clone(), Saved { ledger, departed: Some(today) });
    oldest
}
