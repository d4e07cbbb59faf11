//! The journal: an install is on record before it is ordered.
//!
//! The record of a base is the ledger on its Node. One install's record is one write of its Node. Where many
//! bases install at once, one object has the installs of all of them on record (a *segment*), and their Nodes
//! are written when there is time; then the segment goes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use tracing::{info, warn};

use super::{
    Edges,
    world::{World, Writing},
};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, ModuleId},
    k8s::{Installs, journal_segment},
};

/// Fewer Nodes than this are written directly.
const FEW: usize = 2;
/// Bases in one segment, to stay far below the size that an object may have.
const SEGMENT: usize = 500;
/// Installs in the journal; what comes on top waits for the ledgers.
const CAPACITY: usize = 8192;

/// Installs that are not in the ledgers on the Nodes yet.
#[derive(Debug)]
pub(super) struct Journal {
    namespace: String,
    env: String,
    /// Tells this process' segments from those of the one before.
    run: String,
    serial: u64,
    /// Writing it is allowed, as far as is known.
    usable: bool,
    pub(super) synced: bool,
    by_base: HashMap<BaseId, Vec<Entry>>,
    count: usize,
    waiting: BTreeSet<BaseId>,
    segments: HashMap<Arc<str>, Segment>,
    writing: Writing,
    /// Ledgers on their way to Nodes.
    pub(super) saving: HashSet<BaseId>,
}

#[derive(Debug)]
struct Entry {
    install: ModuleId,
    /// None: it waits for the next one.
    segment: Option<Arc<str>>,
}

#[derive(Debug)]
struct Segment {
    state: State,
    bases: Vec<BaseId>,
    /// Entries that still need it.
    left: usize,
    deletion: Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Creating,
    Written,
    /// It may be there, and is not needed.
    Leaving,
}

impl Journal {
    pub(super) fn new(namespace: String, env: String, run: String) -> Self {
        Self {
            namespace,
            env,
            run,
            serial: 0,
            usable: true,
            synced: false,
            by_base: HashMap::new(),
            count: 0,
            waiting: BTreeSet::new(),
            segments: HashMap::new(),
            writing: Writing::default(),
            saving: HashSet::new(),
        }
    }

    /// What the process before this one left.
    pub(super) fn restore(&mut self, segments: Option<Vec<(String, Installs)>>) {
        self.usable = segments.is_some();
        self.synced = true;
        for (name, installs) in segments.into_iter().flatten() {
            let name: Arc<str> = name.into();
            let left = installs.values().map(Vec::len).sum();
            let state = if left > 0 { State::Written } else { State::Leaving };
            let bases = installs.keys().cloned().collect();
            self.segments.insert(Arc::clone(&name), Segment { state, bases, left, deletion: Writing::default() });
            self.count += left;
            for (base, modules) in installs {
                let entries = modules.into_iter().map(|install| Entry { install, segment: Some(Arc::clone(&name)) });
                self.by_base.entry(base).or_default().extend(entries);
            }
        }
    }

    /// Whether a record of its own is quicker than the next segment.
    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && !self.writing.in_flight && self.saving.len() < FEW
    }

    /// Puts installs on the list for the next segment.
    fn want(&mut self, base: &BaseId, installs: &[ModuleId]) {
        if !self.usable || self.count + installs.len() > CAPACITY {
            return; // the ledger is saved at once, as nothing covers it
        }
        let entries = self.by_base.entry(base.clone()).or_default();
        for install in installs.iter().filter(|i| !entries.iter().any(|e| e.install == **i)).collect::<Vec<_>>() {
            entries.push(Entry { install: install.clone(), segment: None });
            self.count += 1;
            self.waiting.insert(base.clone());
        }
    }

    /// The install is in the journal, or will be with its next segment.
    pub(super) fn covers(&self, base: &BaseId, install: &ModuleId) -> bool {
        self.by_base.get(base).is_some_and(|entries| entries.iter().any(|e| e.install == *install))
    }

    /// The install is in the journal.
    fn has(&self, base: &BaseId, install: &ModuleId) -> bool {
        let written = |e: &Entry| {
            let segment = e.segment.as_ref().and_then(|name| self.segments.get(name));
            e.install == *install && segment.is_some_and(|s| s.state == State::Written)
        };
        self.by_base.get(base).is_some_and(|entries| entries.iter().any(written))
    }

    /// The installs of a base that a process before this one had in the journal.
    pub(super) fn of(&self, base: &BaseId) -> impl Iterator<Item = &ModuleId> {
        self.by_base.get(base).into_iter().flatten().map(|e| &e.install)
    }

    /// Drops what the journal need not know of this base any more.
    pub(super) fn settle(&mut self, base: &BaseId, needs: impl Fn(&ModuleId) -> bool) {
        let Some(entries) = self.by_base.get_mut(base) else { return };
        let before = entries.len();
        let segments = &mut self.segments;
        entries.retain(|entry| {
            let needed = needs(&entry.install);
            if !needed && let Some(segment) = entry.segment.as_ref().and_then(|name| segments.get_mut(name)) {
                segment.left -= 1;
                if segment.left == 0 && segment.state == State::Written {
                    segment.state = State::Leaving;
                }
            }
            needed
        });
        self.count -= before - entries.len();
        if !entries.iter().any(|e| e.segment.is_none()) {
            self.waiting.remove(base);
        }
        if entries.is_empty() {
            self.by_base.remove(base);
        }
    }

    /// When to look again at what could not be written.
    pub(super) fn next(&self) -> Option<Instant> {
        let creation = (!self.waiting.is_empty()).then_some(&self.writing);
        let deletions = self.segments.values().filter(|s| s.state == State::Leaving).map(|s| &s.deletion);
        creation.into_iter().chain(deletions).filter_map(Writing::retry_at).min()
    }

    /// The next segment, if something waits for it and the one before is written.
    fn next_segment(&mut self, now: Instant) -> Option<(Arc<str>, Installs)> {
        if self.waiting.is_empty() || self.writing.may_start(now).is_err() {
            return None;
        }
        self.serial += 1;
        let name: Arc<str> = format!("modulet-journal.{}.{}-{}", self.env, self.run, self.serial).into();
        let mut installs = Installs::new();
        while installs.len() < SEGMENT
            && let Some(base) = self.waiting.pop_first()
        {
            for entry in self.by_base.get_mut(&base).into_iter().flatten().filter(|e| e.segment.is_none()) {
                entry.segment = Some(Arc::clone(&name));
                installs.entry(base.clone()).or_default().push(entry.install.clone());
            }
        }
        let segment = Segment {
            state: State::Creating,
            bases: installs.keys().cloned().collect(),
            left: installs.values().map(Vec::len).sum(),
            deletion: Writing::default(),
        };
        self.segments.insert(Arc::clone(&name), segment);
        Some((name, installs))
    }

    /// A segment was created, or not. Returns the bases that it is about.
    fn created(&mut self, name: &Arc<str>, result: Result<Outcome, WriteError>, now: Instant) -> Vec<BaseId> {
        self.writing.ended(result.is_ok(), now);
        let Some(segment) = self.segments.get_mut(name) else { return Vec::new() };
        let bases = segment.bases.clone();
        match result {
            Ok(_) => segment.state = if segment.left > 0 { State::Written } else { State::Leaving },
            Err(error) => {
                // It may have been created all the same.
                segment.state = State::Leaving;
                let refused = matches!(error, WriteError::Refused { code: 400..429, .. });
                warn!(%error, retry = !refused, "cannot write the journal");
                self.usable &= !refused;
                for base in &bases {
                    for entry in self.by_base.get_mut(base).into_iter().flatten() {
                        if entry.segment.as_ref() == Some(name) {
                            entry.segment = None;
                            self.waiting.insert(base.clone());
                        }
                    }
                    if refused {
                        self.settle(base, |_| false);
                    }
                }
            }
        }
        bases
    }

    /// A segment was deleted, or not.
    fn deleted(&mut self, name: &Arc<str>, result: &Result<Outcome, WriteError>, now: Instant) {
        match result {
            Err(error) if !error.is_gone() => {
                if let Some(segment) = self.segments.get_mut(name) {
                    segment.deletion.ended(false, now);
                }
            }
            _ => drop(self.segments.remove(name)),
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }
}

impl World {
    /// Sees to it that these installs come on record. True if some are already.
    pub(super) fn put_on_record(&mut self, id: &BaseId, installs: &[ModuleId]) -> bool {
        let Some(record) = self.bases.get_mut(id) else { return false };
        let known: Vec<_> =
            installs.iter().filter(|i| record.node.has_on_record(i) || self.journal.has(id, i)).cloned().collect();
        if !known.is_empty() {
            record.base.recorded(known);
            return true;
        }
        if !(record.node.can_be_written_now() && self.journal.is_quiet()) {
            self.journal.want(id, installs);
        }
        false
    }

    /// Writes the next segment, and deletes those that are not needed any more.
    pub(super) fn keep_journal(&mut self, edges: &Edges, now: Instant) {
        if let Some((name, installs)) = self.journal.next_segment(now) {
            let object = journal_segment(&name, &self.journal.env, &installs);
            let request = Request::create(self.journal.path(), &object);
            self.journal.writing.in_flight = edges.journal.submit(Key::Journal(Arc::clone(&name)), request);
            if !self.journal.writing.in_flight {
                self.metrics.overflow(edges.journal.name());
                let full = WriteError::Unreachable("the queue is full".to_owned());
                self.journal_created(&name, Err(full), now);
            }
        }
        let path = self.journal.path();
        for (name, segment) in &mut self.journal.segments {
            if segment.state == State::Leaving && segment.deletion.may_start(now).is_ok() {
                let request = Request::remove(format!("{path}/{name}"));
                segment.deletion.in_flight = edges.background.submit(Key::JournalEnd(Arc::clone(name)), request);
            }
        }
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
        let bases: Vec<_> = self.journal.by_base.keys().cloned().collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        Journal::new("modulet".into(), "dev".into(), "1".into())
    }

    fn base(name: &str) -> BaseId {
        BaseId::new(name)
    }

    fn biz(version: &str) -> ModuleId {
        ModuleId::new("biz1", version)
    }

    fn unreachable() -> WriteError {
        WriteError::Unreachable("no answer".into())
    }

    #[test]
    fn what_many_bases_install_is_one_segment_and_goes_with_the_last_of_them() {
        let (mut journal, now) = (journal(), Instant::now());
        journal.want(&base("a"), &[biz("1"), biz("2")]);
        journal.want(&base("b"), &[biz("1")]);
        let (name, installs) = journal.next_segment(now).unwrap();
        assert_eq!(installs.values().map(Vec::len).sum::<usize>(), 3);
        journal.writing.in_flight = true;
        assert!(journal.covers(&base("a"), &biz("1")) && !journal.has(&base("a"), &biz("1")));
        assert_eq!(journal.created(&name, Ok(Outcome::default()), now), [base("a"), base("b")]);
        assert!(journal.has(&base("a"), &biz("1")) && journal.has(&base("b"), &biz("1")));
        journal.settle(&base("a"), |install| *install == biz("2"));
        journal.settle(&base("b"), |_| false);
        assert_eq!(journal.segments[&name].state, State::Written);
        journal.settle(&base("a"), |_| false);
        assert_eq!(journal.segments[&name].state, State::Leaving);
        journal.deleted(&name, &Ok(Outcome::default()), now);
        assert!(journal.segments.is_empty() && journal.by_base.is_empty() && journal.count == 0);
    }

    #[test]
    fn a_segment_of_which_nothing_was_heard_is_written_anew_and_deleted() {
        let (mut journal, now) = (journal(), Instant::now());
        journal.want(&base("a"), &[biz("1")]);
        let (first, _) = journal.next_segment(now).unwrap();
        journal.created(&first, Err(unreachable()), now);
        assert_eq!(journal.segments[&first].state, State::Leaving);
        assert!(journal.next_segment(now).is_none(), "not at once");
        let later = journal.next().unwrap();
        let (second, installs) = journal.next_segment(later).unwrap();
        assert!(second != first && installs.contains_key(&base("a")));
        journal.created(&second, Ok(Outcome::default()), later);
        journal.deleted(&first, &Err(unreachable()), later);
        assert!(journal.next().is_some(), "the deletion is tried again");
        assert!(journal.has(&base("a"), &biz("1")));
    }

    #[test]
    fn where_it_is_not_allowed_nothing_is_covered_so_that_ledgers_are_saved_at_once() {
        let (mut journal, now) = (journal(), Instant::now());
        journal.want(&base("a"), &[biz("1")]);
        let (name, _) = journal.next_segment(now).unwrap();
        let refused = WriteError::Refused { code: 403, message: "forbidden".into() };
        assert_eq!(journal.created(&name, Err(refused), now), [base("a")]);
        journal.want(&base("b"), &[biz("1")]);
        assert!(!journal.covers(&base("a"), &biz("1")) && !journal.covers(&base("b"), &biz("1")));
        assert_eq!(journal.count, 0);
    }

    #[test]
    fn it_has_an_end() {
        let mut journal = journal();
        for n in 0..CAPACITY + 10 {
            journal.want(&base(&format!("b{n}")), &[biz("1")]);
        }
        assert_eq!(journal.count, CAPACITY);
        assert!(!journal.covers(&base(&format!("b{}", CAPACITY + 5)), &biz("1")));
    }

    #[test]
    fn what_the_process_before_left_is_known_and_goes_when_saved() {
        let mut journal = journal();
        let installs = Installs::from([(base("a"), vec![biz("1")])]);
        journal.restore(Some(vec![("old".to_owned(), installs), ("empty".to_owned(), Installs::new())]));
        assert_eq!(journal.of(&base("a")).collect::<Vec<_>>(), [&biz("1")]);
        assert!(journal.has(&base("a"), &biz("1")));
        journal.settle(&base("a"), |_| false);
        assert!(journal.segments.values().all(|s| s.state == State::Leaving));
    }
}
