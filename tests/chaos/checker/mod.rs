//! Holds the promises to what is observed. Pure: time comes with the events, so that made-up histories can be tried.

mod disturbances;
mod lapses;
mod leads;
mod orders;
mod promise;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use super::event::{At, Event, FOREIGN, Module, Order};
use disturbances::Disturbances;
use lapses::Lapses;
use leads::Leads;
use orders::Pending;
pub(crate) use promise::{Broken, Promise};
use wishes::{SLACK, Wishes};

/// More of one kind are not kept: the first ones tell.
const MOST_BROKEN: usize = 10;
/// For so long whoever led may still command, until the new leader has taken its session away.
const FENCED_WITHIN: At = At::from_secs(15);
/// Whoever led may have a write on its way, and connect with its last renewal in its hands.
const LATE: At = At::from_secs(3);
/// The same where the way itself is slow, or whoever holds it stands still.
const LATE_IF_DISTURBED: At = At::from_secs(30);

/// So long it may take until what a base did is written at its Pods.
const NOTICED: At = At::from_secs(40);
/// Whoever wrote something so long ago renewed Nodes, too.
const RENEWED: At = At::from_secs(20);

/// What is known, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    disturbances: Disturbances,
    wishes: Wishes,
    leads: Leads,
    lapses: Lapses,
    pending: Pending,
    active: BTreeMap<usize, BTreeSet<Module>>,
    /// Whose commands the broker takes.
    commander: Option<String>,
    /// When something was last commanded or written, and what.
    last_change: (At, String),
    /// When anything at all was written.
    last_write: At,
    /// Which Pods are Ready.
    ready: BTreeSet<String>,
    broken: Vec<Broken>,
    checked: BTreeMap<Promise, u64>,
    /// The longest that who did not lead any more commanded, or wrote.
    late_command: At,
    late_write: At,
}

impl Checker {
    /// Takes in what was observed at that time. Times of one kind of event only grow.
    pub(crate) fn observe(&mut self, at: At, event: Event) {
        match event {
            Event::Begins { part } => self.disturbances.begin(part, at),
            Event::Ends { part } => self.disturbances.end(part, at),
            Event::Pod { uid, name, base, modules, wanted, ready } => {
                self.stays_ready(at, &uid, &name, base, &modules, wanted, ready);
                match base {
                    Some(base) if wanted => self.wishes.begin(&uid, base, &modules, at),
                    _ => self.no_wish(&uid, at),
                }
                let claims = base.filter(|_| ready && wanted).map(|base| (base, modules));
                self.checked(Promise::ReadyIsActive);
                self.lapses.pod(&uid, &name, claims, &self.active, at);
            }
            Event::PodGone { uid } => {
                self.ready.remove(&uid);
                self.no_wish(&uid, at);
                self.lapses.pod(&uid, "", None, &self.active, at);
            }
            Event::Active { base, modules } => {
                self.checked(Promise::ReadyIsActive);
                self.active.insert(base, modules);
                self.lapses.base(base, &self.active, at);
            }
            Event::Told { base, order } => self.told(at, base, order),
            Event::Sent { client, topic, qos, retained } => self.sent(at, &client, &topic, qos, retained),
            Event::Commands { who } => {
                self.pending.connected(at, &who);
                self.commander = Some(who);
            }
            Event::Leads { who, since } => self.leads.change(who, since),
            Event::Wrote { who, what, counts } => {
                self.last_write = self.last_write.max(at);
                if counts {
                    self.last_change = (at, format!("{who} wrote {what}"));
                }
                self.pending.wrote(at, &who, &what);
            }
        }
        self.tick(at);
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, at: At) {
        let late = self.lapses.tick(&self.disturbances, at);
        late.into_iter().for_each(|text| self.broken(Promise::ReadyIsActive, at, text));
        self.judge(at);
    }

    /// Nothing that goes wrong elsewhere makes a Pod unready that serves.
    #[expect(clippy::too_many_arguments, reason = "what an event has")]
    fn stays_ready(
        &mut self,
        at: At,
        uid: &str,
        name: &str,
        base: Option<usize>,
        modules: &[Module],
        wanted: bool,
        ready: bool,
    ) {
        self.checked(Promise::StaysReady);
        let was = if ready { !self.ready.insert(uid.to_owned()) } else { self.ready.remove(uid) };
        let Some(base) = base.filter(|_| was && wanted && !ready) else { return };
        let known = at.saturating_sub(NOTICED);
        let serves = self.active.get(&base).is_some_and(|active| modules.iter().all(|module| active.contains(module)));
        // Another version that takes over makes this one unready.
        let alone = modules.iter().all(|module| {
            self.wishes.possible(Some(base), &module.name, known, at).iter().all(|wanted| *wanted == module)
        });
        let base_was_well = !self.disturbances.of_base_itself(base, known, at);
        // Without a renewal Kubernetes gives Nodes up by itself.
        if serves && alone && base_was_well && self.last_write + RENEWED > at {
            self.broken(
                Promise::StaysReady,
                at,
                format!("Pod {name} on base {base} serves, and is not Ready any more"),
            );
        }
    }

    fn no_wish(&mut self, uid: &str, at: At) {
        let earliest = self.disturbances.of_sight(at).unwrap_or(at).saturating_sub(SLACK);
        self.wishes.end(uid, earliest, at);
    }

    fn told(&mut self, at: At, base: usize, order: Order) {
        self.checked(Promise::ForeignStays);
        self.last_change = (at, format!("base {base} was told {order:?}"));
        if order.modules().iter().any(|module| module.name == FOREIGN) {
            self.broken(Promise::ForeignStays, at, format!("base {base} was told {order:?}"));
        }
        let active = self.active.get(&base).cloned().unwrap_or_default();
        self.pending.told(at, base, order, active);
    }

    fn sent(&mut self, at: At, client: &str, topic: &str, qos: u8, retained: bool) {
        self.checked(Promise::QosOne);
        if qos != 1 || retained {
            self.broken(Promise::QosOne, at, format!("{topic} with QoS {qos}, retained: {retained}"));
        }
        match self.commander.clone() {
            Some(who) if client.contains("commands") => self.pending.sent(at, &who, topic),
            _ => self.broken(Promise::OneCommander, at, format!("{client} sent {topic}")),
        }
    }

    fn checked(&mut self, promise: Promise) {
        *self.checked.entry(promise).or_default() += 1;
    }

    /// Notes that a promise was not kept.
    pub(crate) fn broken(&mut self, promise: Promise, at: At, text: String) {
        if self.broken.iter().filter(|broken| broken.promise == promise).count() < MOST_BROKEN {
            self.broken.push(Broken { promise, at, text });
        }
    }

    /// Notes that one was, where somebody else looked.
    pub(crate) fn kept(&mut self, promise: Promise) {
        self.checked(promise);
    }

    /// What was not kept so far.
    pub(crate) fn all_broken(&self) -> &[Broken] {
        &self.broken
    }

    /// How often each was looked at.
    pub(crate) fn all_checked(&self) -> &BTreeMap<Promise, u64> {
        &self.checked
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.leads.now()
    }

    /// Whether something is wrong just now that concerns all.
    pub(crate) fn disturbed(&self) -> bool {
        self.disturbances.on()
    }

    /// When something was last commanded or written, and what.
    pub(crate) fn last_change(&self) -> (At, String) {
        self.last_change.clone()
    }

    /// The longest moments, by what they are.
    pub(crate) fn longest(&self) -> [(&'static str, At); 4] {
        [
            ("Ready and not active, undisturbed", self.lapses.longest_undisturbed),
            ("Ready and not active, at all", self.lapses.longest),
            ("commands after the lead was lost", self.late_command),
            ("writes after the lead was lost", self.late_write),
        ]
    }
}
