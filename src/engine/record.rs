//! Installs come on record: by the journal, or by the ledger on the Node.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use tracing::info;

use super::{
    Edges,
    world::{BaseRecord, World},
};
use crate::{
    api::{Key, Outcome, WriteError},
    domain::{BaseId, ModuleId},
    k8s::Installs,
};

impl World {
    /// Sees to it that these installs come on record. True if some are already.
    pub(super) fn put_on_record(&mut self, id: &BaseId, installs: &[ModuleId], now: Instant) -> bool {
        let Some(record) = self.bases.get_mut(id) else { return false };
        let known: Vec<_> =
            installs.iter().filter(|i| record.node.has_on_record(i) || self.journal.has(id, i)).cloned().collect();
        if !known.is_empty() {
            record.base.recorded(known);
            return true;
        }
        let own_record = record.node.can_be_written_now() && self.journal.is_quiet();
        if !own_record || self.may_begin_a_release(id, installs, now) {
            self.journal.want(id, installs);
        }
        false
    }

    /// Whether other bases may be next with these, so that a reservation for them is worth a segment.
    fn may_begin_a_release(&self, id: &BaseId, installs: &[ModuleId], now: Instant) -> bool {
        if !self.journal.may_reserve(now) {
            return false;
        }
        let first = Installs::from([(id.clone(), installs.to_vec())]);
        next_in_line(&self.bases, &first).any(|(base, _)| base != *id)
    }

    /// Writes the next segment, and deletes those that are not needed any more.
    pub(super) fn keep_journal(&mut self, edges: &Edges, now: Instant) {
        self.end_reservations(|until| until <= now, now);
        if let Some(due) = self.journal.due(now) {
            if self.journal.room() < self.bases.len() {
                self.end_reservations(|_| true, now); // what is released now is likelier
            }
            let likely = next_in_line(&self.bases, &due);
            let (name, installs) = self.journal.begin(&due, likely);
            let request = self.journal.creation(&name, &installs);
            let taken = edges.journal.submit(Key::Journal(Arc::clone(&name)), request);
            self.journal.sent(taken);
            if !taken {
                self.metrics.overflow(edges.journal.name());
                let full = WriteError::Unreachable("the queue is full".to_owned());
                self.journal_created(&name, Err(full), now);
            }
        }
        self.journal.delete(now, |name, request| edges.background.submit(Key::JournalEnd(Arc::clone(name)), request));
    }

    fn end_reservations(&mut self, ends: impl Fn(Instant) -> bool, now: Instant) {
        for base in self.journal.end_reservations(ends) {
            self.settle_journal(&base, now);
        }
    }

    /// Drops what this base does not need in the journal any more.
    pub(super) fn settle_journal(&mut self, id: &BaseId, now: Instant) {
        let Some(record) = self.bases.get(id) else { return };
        let (node, ledger) = (&record.node, &record.base.ledger);
        self.journal.settle(id, |install| ledger.installed(install) && !node.has_on_record(install), now);
    }

    pub(super) fn journal_created(&mut self, name: &Arc<str>, result: Result<Outcome, WriteError>, now: Instant) {
        let bases = self.journal.created(name, result, now);
        self.dirty.extend(bases);
    }

    pub(super) fn journal_deleted(&mut self, name: &Arc<str>, result: &Result<Outcome, WriteError>, now: Instant) {
        self.journal.deleted(name, result, now);
    }

    /// What the process before this one had ordered last is part of the ledgers.
    pub(super) fn journal_read(&mut self, segments: Option<Vec<(String, Installs)>>, now: Instant) {
        if let Some(segments) = segments.as_ref().filter(|s| !s.is_empty()) {
            info!(segments = segments.len(), "the process before this one left a journal");
        }
        self.journal.restore(segments);
        let bases: Vec<_> = self.journal.bases().cloned().collect();
        for id in bases {
            let installs: Vec<_> = self.journal.of(&id).cloned().collect();
            if let Some(record) = self.base_mut(&id, now) {
                installs.iter().for_each(|install| record.base.ledger.install(install));
                record.base.recorded(installs);
            }
            self.dirty.insert(id);
        }
    }
}

fn application(record: &BaseRecord) -> Option<&str> {
    record.base.info.as_ref().map(|info| info.name.as_str())
}

/// The same modules on other bases of the same applications.
fn next_in_line(
    bases: &HashMap<BaseId, Box<BaseRecord>>,
    installs: &Installs,
) -> impl Iterator<Item = (BaseId, ModuleId)> {
    let modules: BTreeSet<_> = installs.values().flatten().cloned().collect();
    let names: BTreeSet<_> = installs.keys().filter_map(|id| bases.get(id)).map(|r| application(r)).collect();
    let alike = bases.iter().filter(move |(_, r)| r.node.exists() && names.contains(&application(r)));
    alike.flat_map(move |(id, record)| {
        let lacking: Vec<_> =
            modules.iter().filter(|m| record.base.lacks(m)).map(|m| (id.clone(), m.clone())).collect();
        lacking
    })
}
