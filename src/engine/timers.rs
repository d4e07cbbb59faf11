//! When to look at which base again.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use crate::domain::BaseId;

/// One wake-up for each base.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Instant, BaseId)>,
    by_base: HashMap<BaseId, Instant>,
}

impl Timers {
    /// Replaces the base's wake-up.
    pub(super) fn set(&mut self, base: &BaseId, at: Option<Instant>) {
        if let Some(old) = self.by_base.remove(base) {
            self.order.remove(&(old, base.clone()));
        }
        if let Some(at) = at {
            self.by_base.insert(base.clone(), at);
            self.order.insert((at, base.clone()));
        }
    }

    /// The earliest wake-up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a base whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<BaseId> {
        if self.next()? > now {
            return None;
        }
        let (_, base) = self.order.pop_first()?;
        self.by_base.remove(&base);
        Some(base)
    }
}
