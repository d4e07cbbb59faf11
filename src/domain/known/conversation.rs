//! The conversation with one base: its list, what was asked, what was ordered.
//!
//! Protocol facts behind it: replies have no request id and may be lost, doubled or late; the
//! list is the truth, but an answer may have been computed before a command that ended
//! meanwhile; a base that is busy with the same command says "conflict" at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    operation::{Answer, CommandView, Ended, Jar, Operation, Order, QUERY_TIMEOUT, Reply},
    question::Question,
};
use crate::domain::{
    Command, Link, ListedModule, ModuleId, ModuleState, Settings, Strategy, Took,
    times::{Later, so_far},
};

/// While a command is unanswered, the list is asked for this often: replies get lost.
const LIST_WHILE_BUSY: Duration = Duration::from_secs(5);
/// A command that lasts longer does not hold its place any more: others are sent beside it.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// A leader answers the question for the baseline within this, or not at all.
const BASELINE_WITHIN: Duration = Duration::from_secs(20);
/// So many at most.
const HANGING: usize = 4;

/// State of the conversation.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    list: Option<BTreeMap<ModuleId, ListedModule>>,
    /// The base was away since it sent that list: it may have other modules now.
    is_former: bool,
    listed: Option<Instant>,
    /// When the list was asked for: what happened later it may not know.
    list_asked: Option<Instant>,
    /// By module name: at most one command for a name is in flight.
    operations: BTreeMap<String, Operation>,
    question: Question,
    /// The answer under way may be older than the end of a command.
    outdated: bool,
    /// Since when the base waits for its baseline.
    baseline_wanted: Option<Instant>,
    /// Versions that have started by our command and that the base keeps deactivated, and what is known of their jars.
    started: BTreeMap<ModuleId, Jar>,
}

impl Conversation {
    /// The last list that can be trusted.
    pub fn list(&self) -> Option<&BTreeMap<ModuleId, ListedModule>> {
        self.list.as_ref().filter(|_| !self.is_former)
    }

    /// The last list, also of a base that has been away since.
    pub(in crate::domain) fn last_list(&self) -> Option<&BTreeMap<ModuleId, ListedModule>> {
        self.list.as_ref()
    }

    /// The base is away: what it listed is not believed until it lists again, for which it is asked as soon as it is
    /// back, and what was ordered may not have arrived.
    pub(in crate::domain) fn away(&mut self) {
        self.is_former = self.list.is_some();
        self.connection_lost();
        self.question.want_now();
    }

    /// Another process spoke with the base until now. A question for the baseline that it has had time for is answered.
    pub(in crate::domain) fn taken_over(&mut self, now: Instant) {
        self.baseline_wanted = self.baseline_wanted.filter(|asked| now < asked.later(BASELINE_WITHIN));
        self.away();
    }

    /// Another process gave the base its baseline.
    pub(in crate::domain) fn baseline_given(&mut self) {
        self.baseline_wanted = None;
    }

    /// The base waits for its baseline.
    pub(in crate::domain) fn baseline_wanted(&self) -> bool {
        self.baseline_wanted.is_some()
    }

    /// It has started by our command, and the base keeps it deactivated.
    pub(in crate::domain) fn has_started(&self, id: &ModuleId) -> bool {
        self.started.contains_key(id)
    }

    /// That, and its jar could be fetched once more since, or the base says nothing of that.
    pub(in crate::domain) fn can_switch_to(&self, id: &ModuleId) -> bool {
        self.started.get(id) == Some(&Jar::CanBeFetched)
    }

    /// Whether it answers an install that is open.
    pub(in crate::domain) fn ends_an_install(&self, reply: &Reply) -> bool {
        let asked = reply.module.as_ref();
        let open = asked.and_then(|id| self.operations.get(&id.name)).filter(|o| o.answer.is_none());
        open.is_some_and(|o| matches!(o.order, Order::Install(..)) && Some(o.order.id()) == asked)
    }

    pub(in crate::domain) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// When the last list came.
    pub(in crate::domain) fn last_listed(&self) -> Option<Instant> {
        self.listed
    }

    /// Commands that have not ended.
    pub(in crate::domain) fn under_way(&self) -> impl Iterator<Item = CommandView> {
        self.operations.values().map(|operation| CommandView {
            command: operation.order.command(),
            module: operation.order.id().clone(),
            sent: operation.sent,
            answered: operation.answer.is_some(),
            uncertain: operation.uncertain,
        })
    }

    /// Commands that occupy a worker of the base. A baseline is one command.
    pub(in crate::domain) fn in_flight(&self) -> usize {
        let single = self.open().filter(|o| !o.is_baseline()).count();
        single.saturating_add(usize::from(self.open().count() > single))
    }

    /// Commands that the base has not answered.
    fn open(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values().filter(|o| o.answer.is_none())
    }

    pub(in crate::domain) fn loading(&self, now: Instant) -> impl Iterator<Item = &ModuleId> {
        let open = self.open().filter(move |o| now < o.sent.later(HANGS_AFTER));
        open.filter(|o| matches!(o.order, Order::Install(..) | Order::Baseline(_))).map(|o| o.order.id())
    }

    /// How many of them have lasted for so long that they keep no others waiting any more.
    pub(in crate::domain) fn hanging(&self, now: Instant) -> usize {
        let hangs = |o: &&Operation| !o.is_baseline() && now >= o.sent.later(HANGS_AFTER);
        self.open().filter(hangs).count().min(HANGING)
    }

    /// What the base is at work on for longer than is usual, and since when.
    pub(in crate::domain) fn lasting(&self, now: Instant) -> Vec<(&ModuleId, Duration)> {
        let open = self.open().map(|o| (o.order.id(), now.saturating_duration_since(o.sent)));
        open.filter(|(_, lasted)| so_far(*lasted).is_some()).collect()
    }

    /// When the list is to be asked for.
    pub(in crate::domain) fn ask_at(&self, settings: &Settings, now: Instant) -> Instant {
        if let Some(at) = self.question.repeats_at() {
            return at;
        }
        let Some(listed) = self.listed else { return now };
        if self.question.is_wanted() || self.operations.values().any(|o| o.answer.is_some()) {
            return now;
        }
        let regular = listed.later(settings.list_every);
        match self.operations.values().map(|o| o.sent).min() {
            Some(sent) => regular.min(sent.later(QUERY_TIMEOUT).max(listed.later(LIST_WHILE_BUSY))),
            None => regular,
        }
    }

    /// Whether the list was asked for at that time or later.
    pub(in crate::domain) fn knows(&self, at: Instant) -> bool {
        self.list_asked.is_some_and(|asked| asked >= at)
    }

    /// A list that is newer than this is needed. One that is under way is waited for first.
    pub(in crate::domain) fn needs_newer_list(&mut self, than: Instant) {
        if !self.knows(than) && !self.question.is_open() {
            self.question.want();
        }
    }

    pub(in crate::domain) fn ask_now(&mut self) {
        self.question.want_now();
    }

    /// The command about this name never went out.
    pub(in crate::domain) fn forget_operation(&mut self, id: &ModuleId) {
        if self.operations.get(&id.name).is_some_and(|operation| operation.order.id() == id) {
            self.operations.remove(&id.name);
        }
    }

    pub(in crate::domain) fn connection_lost(&mut self) {
        self.question.forget();
        self.operations.values_mut().for_each(|operation| operation.uncertain = true);
    }

    /// The commands that are open may not have arrived: the next list tells, and is asked for at once.
    pub(in crate::domain) fn commands_uncertain(&mut self) {
        self.operations.values_mut().for_each(|operation| operation.uncertain = true);
        if !self.operations.is_empty() {
            self.question.want();
        }
    }

    /// What was ordered before is void if the JVM is a new one; if it is not, the base says "conflict".
    pub(in crate::domain) fn asked_for_baseline(&mut self, now: Instant) {
        self.operations.clear();
        self.started.clear();
        self.baseline_wanted = Some(now);
        self.ask_now();
    }

    pub(in crate::domain) fn sent(&mut self, command: &Command, link: &Link, now: Instant) {
        let orders: Vec<Order> = match command {
            Command::Install(spec, strategy) => vec![Order::Install(spec.clone(), *strategy)],
            Command::Switch(spec) => vec![Order::Switch(spec.clone())],
            Command::Uninstall(id) => vec![Order::Uninstall(id.clone())],
            Command::Baseline(specs) => {
                self.baseline_wanted = None;
                specs.iter().cloned().map(Order::Baseline).collect()
            }
            Command::QueryModules => {
                if self.question.sent(now) && !link.loss_is_told {
                    // The last question stayed open: the base was away, and with it what we sent.
                    self.operations.values_mut().for_each(|o| o.uncertain = true);
                }
                self.outdated = false;
                return;
            }
            Command::QueryHealth => return,
        };
        for order in orders {
            let looks =
                matches!(&order, Order::Install(spec, Strategy::InstallOnly) if self.started.contains_key(&spec.id));
            let alone = self.in_flight() == 0;
            self.operations.values_mut().for_each(|other| other.alone &= alone);
            let operation =
                Operation { sent: now, uncertain: false, at_work: false, looks, alone, answer: None, order };
            self.operations.insert(operation.order.id().name.clone(), operation);
        }
    }

    pub(super) fn give_back_room(&mut self) {
        if self.operations.is_empty() {
            self.operations.clear();
        }
        if self.started.is_empty() {
            self.started.clear();
        }
    }

    /// Returns what an install took that it ends, and whether it ran alone.
    pub(in crate::domain) fn replied(&mut self, reply: Reply) -> Option<(Took, bool)> {
        if self.question.is_open() {
            self.outdated = true;
        } else {
            self.question.want();
        }
        let Reply { command, module, answer, space } = reply;
        let open = self.operations.values_mut().filter(|o| o.answer.is_none() && o.order.command() == command);
        let mut candidates: Vec<_> = open.filter(|o| module.as_ref().is_none_or(|id| id == o.order.id())).collect();
        if command != "baseline" && candidates.len() > 1 {
            return None; // Without a name it could be the answer to any of them; the list will tell.
        }
        let took = candidates.first().and_then(|operation| operation.took(&answer, space?));
        for operation in &mut candidates {
            if answer == Answer::Conflict {
                (operation.uncertain, operation.at_work) = (false, true);
            } else {
                operation.answer = Some(answer.clone());
            }
        }
        took
    }

    pub(in crate::domain) fn listed(&mut self, modules: Vec<ListedModule>, now: Instant) -> Vec<Ended> {
        let was_asked = self.question.answered();
        let asked = was_asked.unwrap_or(now);
        if std::mem::take(&mut self.outdated) || self.is_former && was_asked.is_none() {
            self.question.want();
            return Vec::new();
        }
        let list: BTreeMap<_, _> = modules.into_iter().map(|m| (m.id.clone(), m)).collect();
        let mut all_ended = Vec::new();
        let started = &mut self.started;
        self.operations.retain(|_, operation| {
            let Some(ended) = operation.judge(&list, asked) else { return true };
            operation.note_jar(started, &ended);
            all_ended.push(ended);
            false
        });
        started.retain(|id, _| list.get(id).is_some_and(|m| m.state == ModuleState::Deactivated));
        (self.list, self.is_former) = (Some(list), false);
        (self.listed, self.list_asked) = (Some(now), Some(asked));
        all_ended
    }
}
