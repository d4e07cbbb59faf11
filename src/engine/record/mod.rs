//! What outlives Nodes, Pods and this process: which modules were ordered, and the ledger of every base.
//!
//! - [`ordered`]: ids of modules, on record *before* a base is told to install one;
//! - [`ledgers`]: what was installed on which base and who took a name over from whom, written some time after.
//!
//! Ledgers are not on the Nodes: a Node that is deleted, by us or by somebody else, also while we are away, takes
//! nothing along, and a release to a fleet is a few writes.

mod departed;
mod ledgers;
mod ordered;
mod rival;
#[cfg(test)]
mod tests;

pub(super) use ledgers::mark;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use k8s_openapi::api::core::v1::ConfigMap;
use tracing::{info, warn};

use departed::{Departed, expire, keep};
use ledgers::{COLLECTS, Ledgers, write};
use ordered::OrderedSet;
use rival::Rival;

use crate::{
    api::{Key, Outcome, Seen, WriteError},
    domain::{BaseId, Later, Ledger, ModuleId},
    k8s::{
        Saved, foreign_format, ledgers_in, ledgers_name, ledgers_number, ordered_entry, ordered_in, ordered_name,
        writer_entry,
    },
    planning::{Effect, Lane, Listing, version},
};

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    env: String,
    namespace: String,
    path: String,
    rival: Rival,
    /// The first list has been delivered.
    synced: bool,
    listing: Listing<String>,
    pub(super) ordered: OrderedSet,
    ledgers: Ledgers,
    departed: Departed,
    /// The API server lets us write nothing. Then modules are ordered all the same: better a leftover after a death of
    /// this process than none at all.
    refused: bool,
    warned_full: bool,
    foreign: Option<Foreign>,
}

/// An object of the record that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ConfigMap {name} is of a later version of modulet (record format {format:?}): use that version, see docs/upgrading.md"
)]
pub(super) struct Foreign {
    name: String,
    format: String,
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
            listing: Listing::default(),
            ordered: OrderedSet::default(),
            ledgers: Ledgers::default(),
            departed: Departed::default(),
            refused: false,
            warned_full: false,
            foreign: None,
        }
    }

    /// A fact from the watch. The first list is what the process before this one left; from then on this process is
    /// the one who writes.
    pub(super) fn seen(&mut self, seen: Seen<ConfigMap>, now: Instant) {
        let known = || (0..self.ledgers.len()).map(|n| ledgers_name(&self.env, n)).chain([ordered_name(&self.env)]);
        let lost = self.listing.gone(&seen, |object| object.metadata.name.clone(), known);
        let is_first_list = matches!(seen, Seen::ListEnds) && !std::mem::replace(&mut self.synced, true);
        for name in lost.iter().filter(|_| !is_first_list) {
            self.lost(name, now);
        }
        if let Seen::Applied(object) = seen {
            self.applied(&object, object.metadata.name.as_deref().unwrap_or_default(), now);
        }
    }

    /// Part of it says what we do not understand. Who orders modules without knowing it does so twice.
    pub(super) fn foreign(&self) -> Option<&Foreign> {
        self.foreign.as_ref()
    }

    fn applied(&mut self, object: &ConfigMap, name: &str, now: Instant) {
        if let Some(format) = foreign_format(object) {
            self.foreign = Some(Foreign { name: name.to_owned(), format: format.chars().take(20).collect() });
            return;
        }
        let version = version(&object.metadata);
        if name == ordered_name(&self.env) {
            self.ordered.object.observed((), version);
            if self.synced {
                self.rival.observed(object, now);
            } else {
                self.ordered.restore(ordered_in(object), now);
            }
        } else if let Some(number) = ledgers_number(&self.env, name) {
            self.ledgers.observed(number, version);
            let first = !self.synced;
            for (base, saved, bytes) in ledgers_in(object).filter(|_| first) {
                self.ledgers.restore(number, base.clone(), bytes);
                self.departed.insert(base, saved);
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
        for base in &expire(&mut self.departed, today) {
            self.ledgers.changed(base, || 0, now.later(COLLECTS));
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
    ///
    /// What it may have been told to install by the process before goes along: it was silent since that process died,
    /// its Node is deleted and its Pods are gone by now, so nothing else remembers it when it comes back.
    pub(super) fn forget(&mut self, base: &BaseId, mut ledger: Ledger, today: i64, now: Instant) {
        self.ordered.may_be_on(base).iter().for_each(|id| ledger.install(id));
        self.ordered.forget(base);
        if ledger == Ledger::default() {
            return;
        }
        if let Some(forgotten) = keep(&mut self.departed, base, ledger, today) {
            self.ledgers.changed(&forgotten, || 0, now);
        }
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
        if self.ordered.is_full() && !std::mem::replace(&mut self.warned_full, true) {
            warn!(modules = self.ordered.len(), "so many modules are being installed that others wait");
        }
        self.warned_full &= self.ordered.is_full();
        if self.refused { installs.to_vec() } else { on_record }
    }

    /// A base's ledger is another than the one on record. `urgent`: a death now would lose what nobody else knows.
    pub(super) fn changed(&mut self, base: &BaseId, ledger: &Ledger, urgent: bool, now: Instant) {
        let by = if urgent { now } else { now.later(COLLECTS) };
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
        self.rival.report(&self.env, &self.namespace, &ordered_name(&self.env), out);
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

    /// A Node came that this controller did not make.
    pub(super) fn made_by_another(&mut self, node: &str) {
        self.rival.made(node);
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
            Ok(Outcome { resource_version }) => {
                if std::mem::take(&mut self.refused) {
                    info!(name, "the record can be written again");
                }
                return match number {
                    Some(number) => (BTreeSet::new(), self.ledgers.written(number, resource_version)),
                    None => (self.ordered.written(resource_version), Vec::new()),
                };
            }
            Err(error) => error,
        };
        let forbidden = matches!(&error, WriteError::Refused { code: 401 | 403, .. });
        if forbidden && !std::mem::replace(&mut self.refused, true) {
            warn!(name, %error, "modulet may not write its record: modules are installed all the same, but what is \
                                 installed is not known to the next process where its Pod is gone; grant create and \
                                 patch of configmaps in its namespace");
        }
        // A conflict on the way to create it means that it is there: our answer was lost, or it came with the watch.
        match number {
            Some(number) => self.ledgers.failed(number, error.exists(), now),
            None => {
                self.ordered.failed(error.exists(), now);
                if self.ordered.object.reports_failure() && !forbidden && error.is_about_it() {
                    warn!(name, %error, "cannot write the record, trying again; installs wait for it");
                }
            }
        }
        (if forbidden { self.ordered.waiting() } else { BTreeSet::new() }, Vec::new())
    }

    /// At the end: everything is to be written now. Returns how many ledgers are not on record.
    pub(super) fn hurry(&mut self, now: Instant) -> usize {
        self.ledgers.hurry(now);
        if self.refused { 0 } else { self.ledgers.unsaved() }
    }
}
