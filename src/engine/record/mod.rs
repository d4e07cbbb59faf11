//! What outlives Nodes, Pods and this process: which modules were ordered, and the ledger of every base.
//!
//! - [`ordered`]: ids of modules, on record *before* a base is told to install one;
//! - [`ledgers`]: what was installed on which base and who took a name over from whom, written some time after.
//!
//! Ledgers are not on the Nodes: a Node that is deleted, by us or by somebody else, also while we are away, takes
//! nothing along, and a release to a fleet is a few writes.

mod ledgers;
mod ordered;
mod rival;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tracing::{info, warn};

use ledgers::{Ledgers, SETTLES};
use ordered::OrderedSet;
use rival::Rival;

use crate::{
    api::{Key, Outcome, Request, Seen, WriteError},
    domain::{BaseId, Later, Ledger, ModuleId},
    k8s::{
        Saved, ledgers_in, ledgers_name, ledgers_number, ordered_entry, ordered_in, ordered_name, record_object,
        writer_entry,
    },
    planning::{Effect, Lane},
};

/// Ledgers of bases that are away are kept for so many days,
const DAYS: i64 = 30;
/// and of so many bases: those that went first are forgotten first.
const DEPARTED: usize = 2_000;

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    env: String,
    namespace: String,
    path: String,
    rival: Rival,
    /// The first list has been delivered.
    pub(super) synced: bool,
    listing: Option<HashSet<String>>,
    ordered: OrderedSet,
    ledgers: Ledgers,
    /// What is kept of bases that are not known otherwise.
    departed: HashMap<BaseId, Saved>,
    /// Why the API server lets us write nothing. Then modules are ordered all the same: better a leftover after a
    /// death of this process than none at all.
    refused: Option<String>,
    told_full: bool,
}

impl Record {
    /// `me` tells this process from all others.
    pub(super) fn new(namespace: &str, env: &str, me: &str) -> Self {
        Self {
            env: env.to_owned(),
            namespace: namespace.to_owned(),
            rival: Rival::new(me),
            path: format!("/api/v1/namespaces/{namespace}/configmaps"),
            synced: false,
            listing: None,
            ordered: OrderedSet::default(),
            ledgers: Ledgers::default(),
            departed: HashMap::new(),
            refused: None,
            told_full: false,
        }
    }

    /// A fact from the watch. The first list is what the process before this one left; from then on this process is
    /// the one who writes.
    pub(super) fn seen(&mut self, seen: Seen<ConfigMap>, version: u64, now: Instant) {
        match seen {
            Seen::Applied(object) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                if name == ordered_name(&self.env) {
                    self.ordered.object.shown((), version);
                    if self.synced {
                        self.rival.shown(&object, now);
                    } else {
                        self.ordered.restore(ordered_in(&object), now);
                    }
                } else if let Some(number) = ledgers_number(&self.env, &name) {
                    self.ledgers.shown(number, version);
                    if !self.synced {
                        for (base, saved, bytes) in ledgers_in(&object) {
                            self.ledgers.restore(number, base.clone(), bytes);
                            self.departed.insert(base, saved);
                        }
                    }
                }
                if let Some(listing) = &mut self.listing {
                    listing.insert(name);
                }
            }
            Seen::Gone(object) => self.lost(object.metadata.name.as_deref().unwrap_or_default(), now),
            Seen::ListBegins => self.listing = Some(HashSet::new()),
            Seen::ListEnds => {
                let listed = self.listing.take().unwrap_or_default();
                let known =
                    (0..self.ledgers.len()).map(|n| ledgers_name(&self.env, n)).chain([ordered_name(&self.env)]);
                let lost: Vec<_> = known.filter(|name| self.synced && !listed.contains(name)).collect();
                lost.iter().for_each(|name| self.lost(name, now));
                self.synced = true;
            }
        }
    }

    fn lost(&mut self, name: &str, now: Instant) {
        if name == ordered_name(&self.env) {
            self.ordered.lost(now);
        } else if let Some(number) = ledgers_number(&self.env, name) {
            self.ledgers.lost(number, now);
        }
    }

    /// All watches have delivered: these bases may have been told something by a process before this one.
    pub(super) fn begin(&mut self, bases: impl Iterator<Item = BaseId>, today: i64, now: Instant) {
        self.ordered.expect_reports(bases, now);
        let is_old = |saved: &Saved| saved.departed.is_some_and(|day| today.saturating_sub(day) > DAYS);
        let old: Vec<_> =
            self.departed.iter().filter(|(_, saved)| is_old(saved)).map(|(base, _)| base.clone()).collect();
        for base in &old {
            self.departed.remove(base);
            self.ledgers.changed(base, || 0, now.later(SETTLES));
        }
        let (orders, away) = (self.ordered.len(), self.departed.len());
        if orders > 0 || away > 0 {
            info!(orders, away, "the process before this one left orders, and ledgers of bases that are away");
        }
    }

    /// Bases that are known from here only.
    pub(super) fn departed(&self) -> impl Iterator<Item = &BaseId> {
        self.departed.keys()
    }

    /// The ledger of a base that was not known otherwise until now.
    pub(super) fn take(&mut self, base: &BaseId) -> Option<Ledger> {
        self.departed.remove(base).map(|saved| saved.ledger)
    }

    /// A base is forgotten; its ledger is kept for when it comes back.
    pub(super) fn forget(&mut self, base: &BaseId, ledger: Ledger, today: i64, now: Instant) {
        self.ordered.forget(base);
        if ledger == Ledger::default() {
            return;
        }
        if self.departed.len() >= DEPARTED {
            let oldest = self.departed.iter().min_by_key(|(_, saved)| saved.departed);
            if let Some(oldest) = oldest.map(|(base, _)| base.clone()) {
                warn!(base = %oldest, "the ledger of a base that went long ago is given up: there are too many");
                self.departed.remove(&oldest);
                self.ledgers.changed(&oldest, || 0, now);
            }
        }
        self.departed.insert(base.clone(), Saved { ledger, departed: Some(today) });
        self.ledgers.changed(base, || 0, now);
    }

    /// A base is to be told to install these. Returns those that are on record; for the others it is named in what
    /// [`Self::written`] returns.
    pub(super) fn want(
        &mut self,
        base: &BaseId,
        installs: &[ModuleId],
        not_ours: impl Fn(&ModuleId) -> BTreeSet<BaseId>,
        now: Instant,
    ) -> Vec<ModuleId> {
        let on_record = installs.iter().filter(|id| self.ordered.want(base, id, || not_ours(id), now));
        let on_record: Vec<_> = on_record.cloned().collect();
        if self.ordered.is_full() && !std::mem::replace(&mut self.told_full, true) {
            warn!(modules = self.ordered.len(), "so many modules are being installed that others wait");
        }
        self.told_full &= self.ordered.is_full();
        if self.refused.is_some() { installs.to_vec() } else { on_record }
    }

    /// Modules that some base was ordered to install lately.
    pub(super) fn ordered(&self) -> impl Iterator<Item = &ModuleId> {
        self.ordered.ids()
    }

    /// A base has listed these modules. Returns those that a process before this one ordered.
    pub(super) fn listed<'m>(
        &mut self,
        base: &BaseId,
        modules: impl Iterator<Item = &'m ModuleId>,
        ledger: &Ledger,
        now: Instant,
    ) -> Vec<ModuleId> {
        self.ordered.listed(base, modules, ledger, now)
    }

    /// A base's ledger is another than the one on record. `urgent`: a death now would lose what nobody else knows.
    pub(super) fn changed(&mut self, base: &BaseId, ledger: &Ledger, urgent: bool, now: Instant) {
        let by = if urgent { now } else { now.later(SETTLES) };
        let bytes = || serde_json::to_string(ledger).map_or(0, |text| text.len());
        if !self.ledgers.changed(base, bytes, by) {
            warn!(%base, "there is no room for its ledger");
        }
    }

    /// What is to be written now. `ledger_of` is the ledger of a base that is known.
    pub(super) fn plan<'l>(
        &mut self,
        ledger_of: impl Fn(&BaseId) -> Option<&'l Ledger>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        self.rival.tell(&self.env, &self.namespace, &ordered_name(&self.env), out);
        let (ordered, wake) = self.ordered.due(now);
        if let Some(ordered) = ordered {
            let entries = BTreeMap::from([ordered_entry(&ordered), writer_entry(self.rival.me())]);
            let name = ordered_name(&self.env);
            let request = write(&self.env, &self.path, &name, &entries, self.ordered.object.exists());
            out.push(Effect::Write(Lane::Record, Key::Record(name.into()), request));
        }
        let departed = &self.departed;
        let content = |base: &BaseId| match ledger_of(base) {
            Some(ledger) => (Saved { ledger: ledger.clone(), departed: None }, mark(ledger)),
            None => {
                departed.get(base).map_or_else(|| (Saved::default(), 0), |saved| (saved.clone(), mark(&saved.ledger)))
            }
        };
        let (writes, later) = self.ledgers.due(&self.env, &self.path, content, now);
        for (name, request) in writes {
            out.push(Effect::Write(Lane::Background, Key::Record(name.into()), request));
        }
        [wake, later].into_iter().flatten().min()
    }

    /// Whether another controller of this environment is at work.
    pub(super) fn is_contested(&self) -> bool {
        self.rival.is_there()
    }

    /// A write ended. Returns the bases whose installs waited for it, and the ledgers that it saved by their marks.
    pub(super) fn written(
        &mut self,
        name: &str,
        result: Result<Outcome, WriteError>,
        now: Instant,
    ) -> (BTreeSet<BaseId>, Vec<(BaseId, u64)>) {
        let number = ledgers_number(&self.env, name);
        let error = match result {
            Ok(outcome) => {
                if self.refused.take().is_some() {
                    info!(name, "the record can be written again");
                }
                return match number {
                    Some(number) => (BTreeSet::new(), self.ledgers.written(number, outcome.resource_version)),
                    None => {
                        self.ordered.object.shown((), outcome.resource_version);
                        (self.ordered.written(outcome.resource_version), Vec::new())
                    }
                };
            }
            Err(error) => error,
        };
        // A conflict on the way to create it means that it is there: our answer was lost, or it came with the watch.
        let there = if error.is_gone() { Some(false) } else { error.is_conflict().then_some(true) };
        let forbidden = matches!(&error, WriteError::Refused { code: 401 | 403, .. });
        if forbidden && self.refused.is_none() {
            warn!(name, %error, "modulet may not write its record: modules are installed all the same, but what is \
                                 installed is not known to the next process where its Pod is gone; grant create and \
                                 patch of configmaps in its namespace");
            self.refused = Some(error.to_string());
        }
        match number {
            Some(number) => self.ledgers.failed(number, there, now),
            None => {
                self.ordered.failed(now);
                match there {
                    Some(true) => drop(self.ordered.object.shown((), u64::MAX)),
                    Some(false) => self.ordered.lost(now),
                    None => {}
                }
                if self.ordered.object.tells_failure() && !forbidden {
                    warn!(name, %error, "cannot write the record, trying again; installs wait for it");
                }
            }
        }
        (if forbidden { self.ordered.waiting() } else { BTreeSet::new() }, Vec::new())
    }

    /// A base's ledger is on record as it is.
    pub(super) fn saved(&mut self, base: &BaseId) {
        self.ordered.saved(base);
    }

    /// At the end: everything is to be written now. Returns how many ledgers are not on record.
    pub(super) fn hurry(&mut self, now: Instant) -> usize {
        self.ledgers.hurry(now);
        if self.refused.is_some() { 0 } else { self.ledgers.unsaved() }
    }
}

/// Writes these entries of an object that exists, or makes it of them.
fn write(env: &str, path: &str, name: &str, entries: &BTreeMap<String, Value>, exists: bool) -> Request {
    if exists {
        Request::merge_patch(format!("{path}/{name}"), &json!({ "data": entries }))
    } else {
        Request::create(path.to_owned(), &record_object(env, name, entries))
    }
}

/// Tells one ledger from another.
pub(super) fn mark(ledger: &Ledger) -> u64 {
    let mut hasher = DefaultHasher::new();
    ledger.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::k8s::ledger_entry;

    #[test]
    fn the_ledgers_of_bases_that_went_long_ago_are_taken_out_of_their_objects() {
        let (now, mut record) = (Instant::now(), Record::new("m", "dev", "me"));
        let saved = |departed| {
            let mut saved = Saved { departed, ..Saved::default() };
            saved.ledger.install(&ModuleId::new("biz1", "1"));
            saved
        };
        let bases = [("old", Some(100)), ("lately", Some(140)), ("here", None)];
        let entries = bases.map(|(base, departed)| ledger_entry(&BaseId::new(base), &saved(departed)));
        let object = record_object("dev", &ledgers_name("dev", 0), &entries.into());
        record.seen(Seen::ListBegins, 0, now);
        record.seen(Seen::Applied(serde_json::from_value(object).unwrap()), 7, now);
        record.seen(Seen::ListEnds, 0, now);
        record.begin([BaseId::new("here")].into_iter(), 100 + DAYS + 1, now);
        assert_eq!(record.departed().count(), 2);
        let mut out = Vec::new();
        record.plan(|_| None, now + Duration::from_secs(11), &mut out);
        let [Effect::Write(_, _, request)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(request.body(), json!({ "data": { "old": null } }));
        record.written(&ledgers_name("dev", 0), Ok(Outcome { resource_version: 8 }), now);
        let mut out = Vec::new();
        assert_eq!(record.plan(|_| None, now + Duration::from_secs(100), &mut out), None);
        assert!(out.is_empty());
    }
}
