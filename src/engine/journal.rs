//! The journal: an install is on record before it is ordered.
//!
//! The record of a base is the ledger on its Node. One install's record is one write of its Node. Where many
//! bases install at once, one object has the installs of all of them on record (a *segment*), and their Nodes
//! are written when there is time; then the segment goes.
//!
//! More of the same is likely to follow, so a segment takes in bases that may be next (a *reservation*): their
//! installs are on record already when their Pods come. One that is not used ends after a time. A lone install
//! begins a segment for that alone, unless there are enough of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::world::Writing;
use crate::{
    api::{Outcome, Request, WriteError},
    domain::{BaseId, ModuleId},
    k8s::{Installs, journal_segment},
};

/// Fewer Nodes than this are written directly.
const FEW: usize = 2;
/// Bytes of one segment, about: half of what an object may have.
const SEGMENT: usize = 512 * 1024;
/// Installs in the journal; what comes on top waits for the ledgers.
const CAPACITY: usize = 16 * 1024;
/// Reservations leave that much room for what is wanted.
const RESERVED: usize = CAPACITY / 2;
/// With so many reservations standing a lone install begins none: where modules of many kinds come one by one,
/// ledgers cost less.
const RESERVATIONS: usize = 4;
/// How long a reservation waits for its Pod.
const RESERVED_FOR: Duration = Duration::from_secs(10);

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

#[derive(Debug, Default)]
struct Segment {
    state: State,
    /// Bases that wait for it.
    asked: BTreeSet<BaseId>,
    /// Entries that still need it.
    left: usize,
    reserved_until: Option<Instant>,
    deletion: Writing,
}

impl Segment {
    /// It keeps also what nobody needs yet.
    fn reserves(&self, now: Instant) -> bool {
        self.state == State::Creating || self.reserved_until.is_some_and(|until| until > now)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
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
            self.segments.insert(Arc::clone(&name), Segment { state, left, ..Segment::default() });
            self.count += left;
            for (base, modules) in installs {
                let entries = modules.into_iter().map(|install| Entry { install, segment: Some(Arc::clone(&name)) });
                self.by_base.entry(base).or_default().extend(entries);
            }
        }
    }

    /// Whether a record of its own is quicker than the next segment.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && !self.writing.in_flight && self.saving.len() < FEW
    }

    /// Puts installs on the list for the next segment.
    pub(super) fn want(&mut self, base: &BaseId, installs: &[ModuleId]) {
        for install in installs {
            let mut known = self.by_base.get(base).into_iter().flatten();
            match known.find(|e| e.install == *install) {
                Some(Entry { segment, .. }) => {
                    if let Some(segment) = segment.as_ref().and_then(|name| self.segments.get_mut(name)) {
                        segment.asked.insert(base.clone());
                    }
                }
                None if self.usable && self.count < CAPACITY => {
                    let entry = Entry { install: install.clone(), segment: None };
                    self.by_base.entry(base.clone()).or_default().push(entry);
                    self.count += 1;
                    self.waiting.insert(base.clone());
                }
                None => {} // the ledger is saved at once, as nothing covers it
            }
        }
    }

    /// The install is in the journal, or will be with its next segment.
    pub(super) fn covers(&self, base: &BaseId, install: &ModuleId) -> bool {
        self.by_base.get(base).is_some_and(|entries| entries.iter().any(|e| e.install == *install))
    }

    /// The install is in the journal.
    pub(super) fn has(&self, base: &BaseId, install: &ModuleId) -> bool {
        let written = |e: &Entry| {
            let segment = e.segment.as_ref().and_then(|name| self.segments.get(name));
            e.install == *install && segment.is_some_and(|s| s.state == State::Written)
        };
        self.by_base.get(base).is_some_and(|entries| entries.iter().any(written))
    }

    /// All bases that it knows.
    pub(super) fn bases(&self) -> impl Iterator<Item = &BaseId> {
        self.by_base.keys()
    }

    /// The installs of a base that a process before this one had in the journal.
    pub(super) fn of(&self, base: &BaseId) -> impl Iterator<Item = &ModuleId> {
        self.by_base.get(base).into_iter().flatten().map(|e| &e.install)
    }

    /// Drops what the journal need not know of this base any more.
    pub(super) fn settle(&mut self, base: &BaseId, needs: impl Fn(&ModuleId) -> bool, now: Instant) {
        self.retain(base, |entry, segment| needs(&entry.install) || segment.is_some_and(|s| s.reserves(now)));
    }

    /// Drops all that it knows of this base.
    pub(super) fn forget(&mut self, base: &BaseId) {
        self.retain(base, |_, _| false);
    }

    fn retain(&mut self, base: &BaseId, keep: impl Fn(&Entry, Option<&Segment>) -> bool) {
        let Some(entries) = self.by_base.get_mut(base) else { return };
        let before = entries.len();
        let segments = &mut self.segments;
        entries.retain(|entry| {
            let mut segment = entry.segment.as_ref().and_then(|name| segments.get_mut(name));
            let kept = keep(entry, segment.as_deref());
            if !kept && let Some(segment) = &mut segment {
                segment.left -= 1;
                if segment.left == 0 && segment.state == State::Written {
                    segment.state = State::Leaving;
                }
            }
            kept
        });
        self.count -= before - entries.len();
        if !entries.iter().any(|e| e.segment.is_none()) {
            self.waiting.remove(base);
        }
        if entries.is_empty() {
            self.by_base.remove(base);
        }
    }

    /// Whether a lone install may begin a segment, for the sake of those that may follow.
    pub(super) fn may_reserve(&self, now: Instant) -> bool {
        self.usable && self.segments.values().filter(|s| s.reserves(now)).count() < RESERVATIONS
    }

    /// How much can be reserved.
    pub(super) fn room(&self) -> usize {
        RESERVED.saturating_sub(self.count)
    }

    /// Ends reservations. Returns the bases that they are of.
    pub(super) fn end_reservations(&mut self, ends: impl Fn(Instant) -> bool) -> Vec<BaseId> {
        let ended = self.segments.iter_mut().filter(|(_, s)| s.reserved_until.is_some_and(&ends));
        let names: HashSet<_> = ended
            .map(|(name, segment)| {
                segment.reserved_until = None;
                Arc::clone(name)
            })
            .collect();
        if names.is_empty() { Vec::new() } else { self.bases_in(|name| names.contains(name)) }
    }

    fn bases_in(&self, segment: impl Fn(&Arc<str>) -> bool) -> Vec<BaseId> {
        let within = |entries: &Vec<Entry>| entries.iter().any(|e| e.segment.as_ref().is_some_and(&segment));
        self.by_base.iter().filter(|(_, entries)| within(entries)).map(|(base, _)| base.clone()).collect()
    }

    /// When to look again: at what could not be written, and at reservations.
    pub(super) fn next(&self) -> Option<Instant> {
        let creation = (!self.waiting.is_empty()).then_some(&self.writing);
        let deletions = self.segments.values().filter(|s| s.state == State::Leaving).map(|s| &s.deletion);
        let retries = creation.into_iter().chain(deletions).filter_map(Writing::retry_at);
        retries.chain(self.segments.values().filter_map(|s| s.reserved_until)).min()
    }

    /// What waits for the next segment, if that can be written now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Installs> {
        if self.waiting.is_empty() || self.writing.may_start(now).is_err() {
            return None;
        }
        let (mut installs, mut bytes) = (Installs::new(), 0);
        while bytes < SEGMENT / 2
            && let Some(base) = self.waiting.pop_first()
        {
            let waiting = self.by_base.get(&base).into_iter().flatten().filter(|e| e.segment.is_none());
            let waiting: Vec<_> = waiting.map(|e| e.install.clone()).collect();
            bytes += waiting.len() * size(&base);
            installs.insert(base, waiting);
        }
        Some(installs)
    }

    /// Begins a segment with these installs. `likely` ones are reserved, as far as there is room.
    pub(super) fn begin(
        &mut self,
        due: &Installs,
        likely: impl Iterator<Item = (BaseId, ModuleId)>,
    ) -> (Arc<str>, Installs) {
        self.serial += 1;
        let name: Arc<str> = format!("modulet-journal.{}.{}-{}", self.env, self.run, self.serial).into();
        let asked = due.keys().cloned().collect();
        let mut installs = due.clone();
        for base in due.keys() {
            for entry in self.by_base.get_mut(base).into_iter().flatten() {
                entry.segment.get_or_insert_with(|| Arc::clone(&name));
            }
        }
        let mut bytes: usize = installs.iter().map(|(base, modules)| modules.len() * size(base)).sum();
        let fits = |(base, _): &(BaseId, ModuleId)| {
            bytes += size(base);
            bytes < SEGMENT
        };
        let new = likely.filter(|(base, install)| !self.covers(base, install)).take(self.room()).take_while(fits);
        let new: Vec<_> = new.collect();
        for (base, install) in new {
            let entry = Entry { install: install.clone(), segment: Some(Arc::clone(&name)) };
            self.by_base.entry(base.clone()).or_default().push(entry);
            self.count += 1;
            installs.entry(base).or_default().push(install);
        }
        let left = installs.values().map(Vec::len).sum();
        self.segments.insert(Arc::clone(&name), Segment { asked, left, ..Segment::default() });
        (name, installs)
    }

    /// A segment was created, or not. Returns the bases that wait for it.
    pub(super) fn created(
        &mut self,
        name: &Arc<str>,
        result: Result<Outcome, WriteError>,
        now: Instant,
    ) -> BTreeSet<BaseId> {
        self.writing.ended(result.is_ok(), now);
        let Some(segment) = self.segments.get_mut(name) else { return BTreeSet::new() };
        let asked = std::mem::take(&mut segment.asked);
        match result {
            Ok(_) if segment.left > 0 => {
                (segment.state, segment.reserved_until) = (State::Written, Some(now + RESERVED_FOR));
            }
            Ok(_) => segment.state = State::Leaving,
            Err(error) => {
                // It may have been created all the same.
                segment.state = State::Leaving;
                let refused = matches!(error, WriteError::Refused { code: 400..429, .. });
                warn!(%error, retry = !refused, "cannot write the journal");
                self.usable &= !refused;
                for base in self.bases_in(|n| n == name) {
                    if refused || !asked.contains(&base) {
                        self.retain(&base, |entry, _| entry.segment.as_ref() != Some(name));
                        continue;
                    }
                    for entry in self.by_base.get_mut(&base).into_iter().flatten() {
                        entry.segment.take_if(|n| n == name);
                    }
                    self.waiting.insert(base);
                }
            }
        }
        asked
    }

    /// A segment was deleted, or not.
    pub(super) fn deleted(&mut self, name: &Arc<str>, result: &Result<Outcome, WriteError>, now: Instant) {
        match result {
            Err(error) if !error.is_gone() => {
                if let Some(segment) = self.segments.get_mut(name) {
                    segment.deletion.ended(false, now);
                }
            }
            _ => drop(self.segments.remove(name)),
        }
    }

    /// The request that writes a segment.
    pub(super) fn creation(&self, name: &Arc<str>, installs: &Installs) -> Request {
        Request::create(self.path(), &journal_segment(name, &self.env, installs))
    }

    /// The segment that was begun is on its way, or found no room there.
    pub(super) fn sent(&mut self, taken: bool) {
        self.writing.in_flight = taken;
    }

    /// Segments to be deleted now, and the requests for it. `send` says whether one was taken.
    pub(super) fn delete(&mut self, now: Instant, send: impl Fn(&Arc<str>, Request) -> bool) {
        let path = self.path();
        for (name, segment) in &mut self.segments {
            if segment.state == State::Leaving && segment.deletion.may_start(now).is_ok() {
                segment.deletion.in_flight = send(name, Request::remove(format!("{path}/{name}")));
            }
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }
}

/// Bytes of one install of this base in a segment: its name, quoted.
fn size(base: &BaseId) -> usize {
    base.as_str().len() + 5
}

#[cfg(test)]
mod tests;
