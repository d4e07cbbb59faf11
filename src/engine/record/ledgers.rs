//! The ledgers of all bases, kept in some objects that each have many of them.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    api::Request,
    domain::BaseId,
    k8s::{Saved, ledger_entry, ledgers_name, record_object},
    planning::Tracked,
};

/// What changes within this time is one write.
pub(super) const COLLECTS: Duration = Duration::from_secs(10);
/// A base is put into an object with fewer bytes than this (an object may have 1 MiB).
const FULL: usize = 96 * 1024;
/// An object that has grown to this gives bases away.
const TOO_LARGE: usize = 512 * 1024;
/// More bytes than this of one base are not written.
const LARGEST: usize = 256 * 1024;
/// More objects than this are not made: 48 MB of ledgers.
const MOST: usize = 512;

/// Some bases' ledgers.
#[derive(Debug)]
struct Shard {
    /// The object, and what the write on its way saves: bases with the marks of their ledgers.
    object: Tracked<(), Vec<(BaseId, u64)>>,
    bytes: usize,
    /// Bases whose ledgers are to be written, and by when the first of them.
    due: BTreeSet<BaseId>,
    first_due: Option<Instant>,
}

impl Shard {
    fn is_due(&mut self, base: BaseId, by: Instant) {
        self.due.insert(base);
        self.first_due = Some(self.first_due.map_or(by, |at| at.min(by)));
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { object: Tracked::unpaced(), bytes: 0, due: BTreeSet::new(), first_due: None }
    }
}

/// Where a base's ledger is.
#[derive(Clone, Copy, Debug)]
struct Home {
    shard: usize,
    bytes: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    shards: Vec<Shard>,
    homes: HashMap<BaseId, Home>,
}

impl Ledgers {
    /// The object with this number is there, with this version.
    pub(super) fn observed(&mut self, number: usize, version: u64) {
        if let Some(shard) = self.shard(number) {
            shard.object.observed((), version);
        }
    }

    /// It has an entry of so many bytes for this base, which is what the record knows of it at the start.
    pub(super) fn restore(&mut self, number: usize, base: BaseId, bytes: usize) {
        if let Some(shard) = self.shard(number) {
            shard.bytes = shard.bytes.saturating_add(bytes);
            self.homes.insert(base, Home { shard: number, bytes });
        }
    }

    fn shard(&mut self, number: usize) -> Option<&mut Shard> {
        if number < MOST && number >= self.shards.len() {
            self.shards.resize_with(number.saturating_add(1), Shard::default);
        }
        self.shards.get_mut(number)
    }

    /// Somebody took the object away: all that was in it is written again.
    pub(super) fn lost(&mut self, number: usize, now: Instant) {
        let Some(shard) = self.shards.get_mut(number) else { return };
        shard.object.gone();
        let homes = self.homes.iter().filter(|(_, home)| home.shard == number);
        shard.due = homes.map(|(base, _)| base.clone()).collect();
        shard.first_due = (!shard.due.is_empty()).then_some(now);
    }

    /// The base's ledger has changed and is to be written by then; `bytes` tells how large it is. False if there is
    /// no room.
    pub(super) fn changed(&mut self, base: &BaseId, bytes: impl FnOnce() -> usize, by: Instant) -> bool {
        let shard = match self.homes.get(base) {
            Some(home) => home.shard,
            None => {
                let Some(room) = self.place(base, bytes()) else { return false };
                room
            }
        };
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.is_due(base.clone(), by);
        }
        true
    }

    /// Gives the base a place in an object that has room.
    fn place(&mut self, base: &BaseId, bytes: usize) -> Option<usize> {
        let room = self.shards.iter().position(|shard| shard.bytes < FULL).unwrap_or(self.shards.len());
        let shard = self.shard(room)?;
        shard.bytes = shard.bytes.saturating_add(bytes);
        self.homes.insert(base.clone(), Home { shard: room, bytes });
        Some(room)
    }

    /// A base whose ledger has grown moves out of an object that has become too large.
    fn move_out(&mut self, number: usize, base: &BaseId, bytes: usize, now: Instant) -> bool {
        let too_large =
            self.shards.get(number).is_some_and(|s| s.bytes.saturating_add(bytes) > TOO_LARGE && s.bytes > bytes);
        let Some(old) = self.homes.get(base).copied().filter(|_| too_large) else { return false };
        if self.place(base, bytes).is_none() {
            return false;
        }
        if let Some(shard) = self.shards.get_mut(number) {
            shard.bytes = shard.bytes.saturating_sub(old.bytes);
        }
        self.changed(base, || bytes, now)
    }

    /// The object with this number is written now, if something in it is due and nothing is in the way. `content` is
    /// what is to be kept of a base, with its mark.
    fn write(
        &mut self,
        number: usize,
        env: &str,
        path: &str,
        content: &impl Fn(&BaseId) -> (Saved, u64),
        now: Instant,
    ) -> Option<(String, Request)> {
        let exists = self.shards.get(number)?.object.exists();
        let bases: Vec<BaseId> = if exists {
            self.shards.get(number)?.due.iter().cloned().collect()
        } else {
            self.homes.iter().filter(|(_, home)| home.shard == number).map(|(base, _)| base.clone()).collect()
        };
        let (mut entries, mut marks) = (BTreeMap::new(), Vec::new());
        for base in bases {
            let (saved, mark) = content(&base);
            let (key, value) = ledger_entry(&base, &saved);
            let bytes = value.as_str().map_or(0, |text| key.len().saturating_add(text.len()));
            if bytes > LARGEST {
                continue; // its last ledger stays
            }
            let grows = self.homes.get(&base).is_some_and(|home| home.bytes < bytes);
            if grows && self.move_out(number, &base, bytes, now) {
                if exists {
                    entries.insert(key, Value::Null);
                }
                continue;
            }
            let shard = self.shards.get_mut(number)?;
            if let Some(home) = self.homes.get_mut(&base) {
                shard.bytes =
                    shard.bytes.saturating_add(bytes).saturating_sub(std::mem::replace(&mut home.bytes, bytes));
                if bytes == 0 {
                    self.homes.remove(&base);
                }
            }
            marks.push((base, mark));
            if exists || value != Value::Null {
                entries.insert(key, value);
            }
        }
        let shard = self.shards.get_mut(number)?;
        (shard.due, shard.first_due) = (BTreeSet::new(), None);
        if entries.is_empty() {
            return None;
        }
        let name = ledgers_name(env, number);
        shard.object.write(marks, now);
        let request = write(env, path, &name, &entries, exists);
        Some((name, request))
    }

    /// What is to be written now, by the objects' names; and when to look again.
    pub(super) fn due(
        &mut self,
        env: &str,
        path: &str,
        content: impl Fn(&BaseId) -> (Saved, u64),
        now: Instant,
    ) -> (Vec<(String, Request)>, Option<Instant>) {
        let (mut writes, mut wake) = (Vec::new(), None::<Instant>);
        for number in 0..self.shards.len() {
            let Some(shard) = self.shards.get(number) else { continue };
            let Some(by) = shard.first_due else { continue };
            let Some(at) = shard.object.next_write(now).map(|next| next.max(by)) else { continue };
            if at > now {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
            } else {
                writes.extend(self.write(number, env, path, &content, now));
            }
        }
        (writes, wake)
    }

    /// The write on its way ended well. Returns what it saved.
    pub(super) fn written(&mut self, number: usize, version: u64) -> Vec<(BaseId, u64)> {
        let Some(shard) = self.shards.get_mut(number) else { return Vec::new() };
        shard.object.created_or_updated(version).unwrap_or_default()
    }

    /// It failed: what it would have saved is still to be written. `there` is whether the object exists now, where
    /// the answer tells.
    pub(super) fn failed(&mut self, number: usize, there: Option<bool>, now: Instant) {
        let Some(shard) = self.shards.get_mut(number) else { return };
        for (base, _) in shard.object.failed_with(there, now).unwrap_or_default() {
            shard.is_due(base.clone(), now);
            self.homes.entry(base).or_insert(Home { shard: number, bytes: 0 });
        }
        if there == Some(false) {
            self.lost(number, now);
        }
    }

    /// Everything that waits is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        for shard in &mut self.shards {
            shard.first_due = shard.first_due.map(|_| now);
            shard.object.at_once();
        }
    }

    /// Bases whose ledgers are not on record as they are, or on their way there.
    pub(super) fn unsaved(&self) -> usize {
        self.shards.iter().map(|s| s.due.len().saturating_add(s.object.writing().map_or(0, Vec::len))).sum()
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.shards.len()
    }
}

/// Writes these entries of an object of the record that exists, or makes it of them.
pub(super) fn write(env: &str, path: &str, name: &str, entries: &BTreeMap<String, Value>, exists: bool) -> Request {
    if exists {
        Request::merge_patch(format!("{path}/{name}"), &json!({ "data": entries }))
    } else {
        Request::create(path.to_owned(), &record_object(env, name, entries))
    }
}

/// Tells one ledger from another, or whatever else.
pub(in crate::engine) fn mark(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
