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
#[derive(Debug, Default)]
pub(super) struct Departed(HashMap<BaseId, Saved>);

impl Departed {
    /// All of them.
    pub(super) fn bases(&self) -> impl Iterator<Item = &BaseId> {
        self.0.keys()
    }

    /// The process before this one kept this.
    pub(super) fn restore(&mut self, base: BaseId, saved: Saved) {
        self.0.insert(base, saved);
    }

    /// What is kept of a base.
    pub(super) fn get(&self, base: &BaseId) -> Option<&Saved> {
        self.0.get(base)
    }

    /// The base is known from now on. Returns its ledger.
    pub(super) fn take(&mut self, base: &BaseId) -> Option<Ledger> {
        self.0.remove(base).map(|saved| saved.ledger)
    }

    /// Forgets what has been kept for long enough, and says of which bases.
    pub(super) fn expire(&mut self, today: i64) -> Vec<BaseId> {
        let is_old = |saved: &mut Saved| saved.departed.is_some_and(|day| today.saturating_sub(day) > DAYS);
        self.0.extract_if(|_, saved| is_old(saved)).map(|(base, _)| base).collect()
    }

    /// The base is not known any more. Returns the one that is forgotten for it, where there are too many.
    pub(super) fn keep(&mut self, base: &BaseId, ledger: Ledger, today: i64) -> Option<BaseId> {
        let full = self.0.len() >= MOST;
        let oldest = self.0.iter().filter(|_| full).min_by_key(|(_, saved)| saved.departed);
        let oldest = oldest.map(|(base, _)| base.clone());
        if let Some(oldest) = &oldest {
            warn!(base = %oldest, "the ledger of a base that went long ago is given up: there are too many");
            self.0.remove(oldest);
        }
        self.0.insert(base.clone(), Saved { ledger, departed: Some(today) });
        oldest
    }
}
