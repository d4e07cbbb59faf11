//! The set of ordered modules: an install is on record before it is ordered.
//!
//! The record of a base is its ledger, which is written some time after. A release is one module id for many bases,
//! so the id goes on record first, in one small object: one write for a release, not one for each base. What a base
//! lists, is in this set and is no exception was installed by us, also for a process that knows nothing else. An id
//! leaves when the ledgers of all bases that it was ordered for are written.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{
    domain::{BaseId, Later, Ledger, ModuleId},
    k8s::Ordered,
    planning::Tracked,
};

/// Module ids that may be in the set. Beyond them installs wait until some have left.
const MOST: usize = 2_000;
/// An id stays this long after it was last ordered: a release's next base need not wait for a write.
const KEPT: Duration = Duration::from_secs(30);
/// A command of the process before this one does not arrive later than this.
const LATE: Duration = Duration::from_secs(300);
/// What nobody waits for is written after this time, with whatever else has come.
const LAZY: Duration = Duration::from_secs(10);

/// An id in the set.
#[derive(Debug)]
struct Entry {
    /// The API server has it.
    on_record: bool,
    /// Bases that had it before, and not by us.
    not_ours: BTreeSet<BaseId>,
    /// Bases that it was ordered for and whose ledgers do not say so yet.
    needed_by: BTreeSet<BaseId>,
    /// Bases whose install waits for it.
    waiting: BTreeSet<BaseId>,
    kept_until: Instant,
    /// A process before this one ordered it: bases that have not reported yet may have it.
    former: bool,
}

impl Entry {
    fn new(not_ours: BTreeSet<BaseId>, former: bool, now: Instant) -> Self {
        let (needed_by, waiting) = (BTreeSet::new(), BTreeSet::new());
        Self { on_record: former, not_ours, needed_by, waiting, kept_until: now, former }
    }
}

/// The set.
#[derive(Debug)]
pub(in crate::engine) struct OrderedSet {
    ids: BTreeMap<ModuleId, Entry>,
    /// The object, and the ids that the write on its way has in it.
    pub(super) object: Tracked<(), Vec<ModuleId>>,
    /// Since when it differs from what was written last.
    changed: Option<Instant>,
    /// Bases that may have something by a process before this one, and whether they have listed since.
    former: HashMap<BaseId, bool>,
    former_until: Option<Instant>,
}

impl Default for OrderedSet {
    fn default() -> Self {
        let (ids, former) = (BTreeMap::new(), HashMap::new());
        Self { ids, object: Tracked::unpaced(), changed: None, former, former_until: None }
    }
}

impl OrderedSet {
    /// What a process before this one left.
    pub(super) fn restore(&mut self, ordered: Ordered, now: Instant) {
        let entries = ordered.into_iter().map(|(id, not_ours)| (id, Entry::new(not_ours, true, now)));
        self.ids.extend(entries);
    }

    /// What is in the set.
    pub(in crate::engine) fn ids(&self) -> impl Iterator<Item = &ModuleId> {
        self.ids.keys()
    }

    /// All watches have delivered: these bases may have been told something by a process before this one.
    pub(super) fn expect_reports(&mut self, bases: impl Iterator<Item = BaseId>, now: Instant) {
        if self.ids.values().any(|entry| entry.former) {
            self.former = bases.map(|base| (base, false)).collect();
            self.former_until = now.checked_add(LATE);
        }
        self.end_former(now);
    }

    /// A base has listed these modules. Returns those that a process before this one ordered, and nobody wrote down.
    pub(in crate::engine) fn listed<'m>(
        &mut self,
        base: &BaseId,
        modules: impl Iterator<Item = &'m ModuleId>,
        ledger: &Ledger,
        now: Instant,
    ) -> Vec<ModuleId> {
        if self.ids.is_empty() {
            return Vec::new();
        }
        let former = self.former.get_mut(base).map(|listed| *listed = true).is_some();
        let mut ours = Vec::new();
        for id in modules.filter(|id| !ledger.installed(id)) {
            let Some(entry) = self.ids.get_mut(id) else { continue };
            if former && entry.former && !entry.not_ours.contains(base) {
                entry.needed_by.insert(base.clone());
                ours.push(id.clone());
            } else if entry.not_ours.insert(base.clone()) {
                // It came by somebody else while we are looking: the next process must not take it for ours.
                self.changed.get_or_insert(now);
            }
        }
        self.end_former(now);
        ours
    }

    /// What a base that has not listed since the process began may have by the process before.
    pub(super) fn may_be_on(&self, base: &BaseId) -> Vec<ModuleId> {
        let unheard = self.former.get(base) == Some(&false);
        let ids = self.ids.iter().filter(|(_, entry)| unheard && entry.former && !entry.not_ours.contains(base));
        ids.map(|(id, _)| id.clone()).collect()
    }

    /// The base is not waited for any more.
    pub(super) fn forget(&mut self, base: &BaseId) {
        self.former.remove(base);
        for entry in self.ids.values_mut() {
            entry.needed_by.remove(base);
            entry.waiting.remove(base);
            entry.not_ours.remove(base);
        }
    }

    /// A command of the process before can be late, but not for ever; and a base that is away has not said yet what
    /// it has.
    fn end_former(&mut self, now: Instant) {
        if self.former_until.is_some_and(|until| until <= now) {
            self.former.retain(|_, listed| !*listed);
        }
        if self.former.is_empty() {
            self.former_until = None;
            self.ids.values_mut().for_each(|entry| entry.former = false);
        }
    }

    /// A base is to be told to install this. True if that is on record; else the base is named once it is.
    /// `not_ours` are the bases that have it by somebody else.
    pub(super) fn want(
        &mut self,
        base: &BaseId,
        id: &ModuleId,
        not_ours: impl FnOnce() -> BTreeSet<BaseId>,
        now: Instant,
    ) -> bool {
        if !self.ids.contains_key(id) {
            if self.ids.len() >= MOST {
                return false; // looked at again when the base is: some will have left
            }
            self.ids.insert(id.clone(), Entry::new(not_ours(), false, now));
            self.changed.get_or_insert(now);
        }
        let Some(entry) = self.ids.get_mut(id) else { return false };
        entry.needed_by.insert(base.clone());
        entry.kept_until = now.later(KEPT);
        if !entry.on_record {
            entry.waiting.insert(base.clone());
        }
        entry.on_record
    }

    /// The base's ledger is on record as it is now: nothing here is needed for it.
    pub(in crate::engine) fn saved(&mut self, base: &BaseId) {
        for entry in self.ids.values_mut() {
            entry.needed_by.remove(base);
        }
    }

    /// What is to be written now, if anything is; and when to look again.
    pub(super) fn due(&mut self, now: Instant) -> (Option<Ordered>, Option<Instant>) {
        self.end_former(now);
        let before = self.ids.len();
        self.ids.retain(|_, entry| !entry.needed_by.is_empty() || entry.former || entry.kept_until > now);
        if self.ids.len() < before {
            self.changed.get_or_insert(now);
        }
        let ends = self.ids.values().filter(|e| e.needed_by.is_empty() && !e.former).map(|e| e.kept_until).min();
        let Some(changed) = self.changed else { return (None, ends) };
        let urgent = self.ids.values().any(|entry| !entry.on_record && !entry.waiting.is_empty());
        let at = if urgent { now } else { changed.later(LAZY) };
        let Some(at) = self.object.next_write(now).map(|next| next.max(at)) else { return (None, ends) };
        if at > now {
            return (None, Some(ends.map_or(at, |ends| ends.min(at))));
        }
        self.changed = None;
        self.object.write(self.ids.keys().cloned().collect(), now);
        (Some(self.ids.iter().map(|(id, entry)| (id.clone(), entry.not_ours.clone())).collect()), ends)
    }

    /// The write on its way ended well. Returns the bases that waited for it.
    pub(super) fn written(&mut self, version: u64) -> BTreeSet<BaseId> {
        let mut waited = BTreeSet::new();
        for id in self.object.created_or_updated(version).unwrap_or_default() {
            if let Some(entry) = self.ids.get_mut(&id) {
                entry.on_record = true;
                waited.append(&mut entry.waiting);
            }
        }
        waited
    }

    /// The write on its way failed: everything is still to be written. `there` is whether the object exists now, where
    /// the answer tells.
    pub(super) fn failed(&mut self, there: Option<bool>, now: Instant) {
        self.object.failed_with(there, now);
        self.changed.get_or_insert(now);
        if there == Some(false) {
            self.lost(now);
        }
    }

    /// The object is gone: what was on record is not any more.
    pub(super) fn lost(&mut self, now: Instant) {
        self.object.gone();
        if !self.ids.is_empty() {
            self.ids.values_mut().for_each(|entry| entry.on_record = false);
            self.changed.get_or_insert(now);
        }
    }

    /// Bases whose install waits.
    pub(super) fn waiting(&self) -> BTreeSet<BaseId> {
        self.ids.values().flat_map(|entry| entry.waiting.iter().cloned()).collect()
    }

    /// Whether no id can be added.
    pub(super) fn is_full(&self) -> bool {
        self.ids.len() >= MOST
    }

    /// How many ids are in it.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
