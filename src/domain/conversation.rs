//! The conversation with one base: its list, what was asked, what was ordered.
//!
//! Protocol facts behind it: replies have no request id and may be lost, doubled or late; the
//! list is the truth, but an answer may have been computed before a command that ended
//! meanwhile; a base that is busy with the same command says "conflict" at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Command, CommandView, ListedModule, ModuleId, ModuleSpec, ModuleState, Reason, Settings, Strategy,
    times::{Later, so_far},
};

/// An answer to the list question is expected within this time.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// While a command is unanswered, the list is asked for this often: replies get lost.
const LIST_WHILE_BUSY: Duration = Duration::from_secs(5);
/// An unanswered command of which the list shows nothing is sent again after this time.
const RESEND_AFTER: Duration = Duration::from_secs(30);
/// The same where the base says that it is at work on it ("conflict"): fetching a jar can take minutes.
const WORKS_FOR: Duration = Duration::from_secs(900);
/// The same for a baseline: bases up to 2.1.6 ignore it.
const RESEND_BASELINE_AFTER: Duration = Duration::from_secs(10);
/// A look whether a jar can be fetched again is answered within this time, or the base says "conflict" to the next one,
/// or it is one of those that say nothing of a module which they have already (bases up to 2.1.6).
const LOOKS_FOR: Duration = Duration::from_secs(5);
/// A command that lasts longer does not hold its place any more: others are sent beside it.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// So many at most.
const HANGING: usize = 4;
/// Questions that a silent base leaves open are repeated at most this far apart.
const QUERY_BACKOFF_MAX: Duration = Duration::from_secs(20);

/// A base's reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Name of the command it answers, as in [`Command::name`].
    pub command: &'static str,
    /// Which module was asked for; older bases leave it out where something failed.
    pub module: Option<ModuleId>,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done. An install names the module that the jar really holds, as far as the base says.
    Done {
        /// Name and version in the jar.
        actual: Option<ModuleId>,
    },
    /// The module in the jar is there already.
    Repeat {
        /// Name and version in the jar, as far as the base says.
        actual: Option<ModuleId>,
    },
    /// There is no such module.
    NotFound,
    /// The base is at work on a command for this module; its reply comes later.
    Conflict,
    /// Failed; the text is for people.
    Failed(String),
}

/// How a command ended, judged by its reply and the list after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Installed(ModuleId),
    Uninstalled(ModuleId),
    InstallFailed {
        spec: ModuleSpec,
        reason: Reason,
        message: String,
    },
    UninstallFailed {
        id: ModuleId,
        message: String,
    },
    /// It never arrived, as far as can be told: what is wanted decides again.
    Lost,
    /// No answer in all the time there was, from a base that answers questions.
    Unanswered(ModuleSpec),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Install(ModuleSpec, Strategy),
    Baseline(ModuleSpec),
    Uninstall(ModuleId),
}

impl Order {
    pub(super) fn id(&self) -> &ModuleId {
        match self {
            Self::Install(spec, _) | Self::Baseline(spec) => &spec.id,
            Self::Uninstall(id) => id,
        }
    }

    fn command(&self) -> &'static str {
        match self {
            Self::Install(..) => "installBiz",
            Self::Baseline(_) => "baseline",
            Self::Uninstall(_) => "uninstallBiz",
        }
    }
}

/// A command on its way, from being sent until the list after its reply.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) order: Order,
    sent: Instant,
    /// It may not have arrived: a connection was lost or the base was away.
    uncertain: bool,
    /// The base said that it is at work on it.
    at_work: bool,
    /// An install of what has started already and is deactivated: it only shows whether the jar can be fetched.
    looks: bool,
    answer: Option<Answer>,
}

/// State of the conversation.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    list: Option<BTreeMap<ModuleId, ListedModule>>,
    /// The last list of a base that was away since: it may have other modules now.
    former_list: Option<BTreeMap<ModuleId, ListedModule>>,
    listed: Option<Instant>,
    /// When the list was asked for: what happened later it may not know.
    list_asked: Option<Instant>,
    /// By module name: at most one command for a name is in flight.
    operations: BTreeMap<String, Operation>,
    asked: Option<Instant>,
    unanswered: u32,
    ask_now: bool,
    /// The answer under way may be older than the end of a command.
    outdated: bool,
    baseline_wanted: bool,
    /// Versions that have started by our command and that the base keeps deactivated.
    proven: BTreeSet<ModuleId>,
    /// Those of them whose jar could be fetched once more: a switch fetches it again, after it has taken the other
    /// versions away.
    fetchable: BTreeSet<ModuleId>,
    /// Those for which a look went unanswered once.
    looked_in_vain: BTreeSet<ModuleId>,
}

impl Conversation {
    /// The last list that can be trusted.
    pub fn list(&self) -> Option<&BTreeMap<ModuleId, ListedModule>> {
        self.list.as_ref()
    }

    /// The last list, also of a base that has been away since.
    pub(super) fn last_list(&self) -> Option<&BTreeMap<ModuleId, ListedModule>> {
        self.list.as_ref().or(self.former_list.as_ref())
    }

    /// The base is away: what it listed is not believed until it lists again, for which it is asked as soon as it is
    /// back, and what was ordered may not have arrived.
    pub(super) fn away(&mut self) {
        self.former_list = self.list.take().or(self.former_list.take());
        self.connection_lost();
        (self.unanswered, self.ask_now) = (0, true);
    }

    /// The base waits for its baseline.
    pub(super) fn baseline_wanted(&self) -> bool {
        self.baseline_wanted
    }

    pub(super) fn proven(&self, id: &ModuleId) -> bool {
        self.proven.contains(id)
    }

    pub(super) fn fetchable(&self, id: &ModuleId) -> bool {
        self.fetchable.contains(id)
    }

    /// Whether it answers an install that is open.
    pub(super) fn ends_an_install(&self, reply: &Reply) -> bool {
        let asked = reply.module.as_ref();
        let open = asked.and_then(|id| self.operations.get(&id.name)).filter(|o| o.answer.is_none());
        open.is_some_and(|o| matches!(o.order, Order::Install(..)) && Some(o.order.id()) == asked)
    }

    pub(super) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// When the last list came.
    pub(super) fn last_listed(&self) -> Option<Instant> {
        self.listed
    }

    /// Commands that have not ended.
    pub(super) fn under_way(&self) -> impl Iterator<Item = CommandView> {
        self.operations.values().map(|operation| CommandView {
            command: operation.order.command(),
            module: operation.order.id().clone(),
            sent: operation.sent,
            answered: operation.answer.is_some(),
            uncertain: operation.uncertain,
        })
    }

    /// Commands that occupy a worker of the base. A baseline is one command.
    pub(super) fn in_flight(&self) -> usize {
        let open = || self.operations.values().filter(|o| o.answer.is_none());
        let single = open().filter(|o| !matches!(o.order, Order::Baseline(_))).count();
        single.saturating_add(usize::from(open().count() > single))
    }

    /// How many of them have lasted for so long that they keep no others waiting any more.
    pub(super) fn hanging(&self, now: Instant) -> usize {
        let hangs = |o: &&Operation| !matches!(o.order, Order::Baseline(_)) && now >= o.sent.later(HANGS_AFTER);
        self.operations.values().filter(|o| o.answer.is_none()).filter(hangs).count().min(HANGING)
    }

    /// What the base is at work on for longer than is usual, and since when.
    pub(super) fn lasting(&self, now: Instant) -> Vec<(&ModuleId, Duration)> {
        let lasted = |o: &Operation| now.saturating_duration_since(o.sent);
        let open = self.operations.values().filter(|o| o.answer.is_none() && so_far(lasted(o)).is_some());
        open.map(|o| (o.order.id(), lasted(o))).collect()
    }

    /// When the list is to be asked for.
    pub(super) fn ask_at(&self, settings: &Settings, now: Instant) -> Instant {
        if let Some(asked) = self.asked {
            let timeout = QUERY_TIMEOUT.saturating_mul(1 << self.unanswered.min(8));
            return asked.later(timeout.min(QUERY_BACKOFF_MAX));
        }
        let Some(listed) = self.listed else { return now };
        if self.ask_now || self.operations.values().any(|o| o.answer.is_some()) {
            return now;
        }
        let regular = listed.later(settings.list_every);
        match self.operations.values().map(|o| o.sent).min() {
            Some(sent) => regular.min(sent.later(QUERY_TIMEOUT).max(listed.later(LIST_WHILE_BUSY))),
            None => regular,
        }
    }

    /// Whether the list was asked for at that time or later.
    pub(super) fn knows(&self, at: Instant) -> bool {
        self.list_asked.is_some_and(|asked| asked >= at)
    }

    /// A list that is newer than this is needed. One that is under way is waited for first.
    pub(super) fn needs_newer_list(&mut self, than: Instant) {
        if !self.knows(than) && self.asked.is_none() {
            self.ask_now = true;
        }
    }

    pub(super) fn ask_now(&mut self) {
        self.ask_now = true;
        self.asked = None;
        self.unanswered = 0;
    }

    /// The command about this name never went out.
    pub(super) fn forget_operation(&mut self, id: &ModuleId) {
        if self.operations.get(&id.name).is_some_and(|operation| operation.order.id() == id) {
            self.operations.remove(&id.name);
        }
    }

    pub(super) fn connection_lost(&mut self) {
        self.asked = None;
        self.operations.values_mut().for_each(|operation| operation.uncertain = true);
    }

    /// The commands that are open may not have arrived: the next list tells, and is asked for at once.
    pub(super) fn commands_uncertain(&mut self) {
        self.operations.values_mut().for_each(|operation| operation.uncertain = true);
        self.ask_now |= !self.operations.is_empty();
    }

    /// What was ordered before is void if the JVM is a new one; if it is not, the base says "conflict".
    pub(super) fn asked_for_baseline(&mut self) {
        self.operations.clear();
        self.proven.clear();
        self.fetchable.clear();
        self.looked_in_vain.clear();
        self.baseline_wanted = true;
        self.ask_now();
    }

    pub(super) fn sent(&mut self, command: &Command, now: Instant) {
        let orders: Vec<Order> = match command {
            Command::Install(spec, strategy) => vec![Order::Install(spec.clone(), *strategy)],
            Command::Uninstall(id) => vec![Order::Uninstall(id.clone())],
            Command::Baseline(specs) => {
                self.baseline_wanted = false;
                specs.iter().cloned().map(Order::Baseline).collect()
            }
            Command::QueryModules => {
                if self.asked.is_some() {
                    // The last question stayed open: the base was away, and with it what we sent.
                    self.unanswered = self.unanswered.saturating_add(1);
                    self.operations.values_mut().for_each(|o| o.uncertain = true);
                }
                self.asked = Some(now);
                self.ask_now = false;
                self.outdated = false;
                return;
            }
            Command::QueryHealth => return,
        };
        for order in orders {
            let looks = matches!(&order, Order::Install(spec, Strategy::InstallOnly) if self.proven.contains(&spec.id));
            let operation = Operation { sent: now, uncertain: false, at_work: false, looks, answer: None, order };
            self.operations.insert(operation.order.id().name.clone(), operation);
        }
    }

    pub(super) fn replied(&mut self, reply: Reply) {
        if self.asked.is_some() {
            self.outdated = true;
        } else {
            self.ask_now = true;
        }
        let Reply { command, module, answer } = reply;
        let mut candidates: Vec<_> = self
            .operations
            .values_mut()
            .filter(|o| {
                o.answer.is_none()
                    && o.order.command() == command
                    && module.as_ref().is_none_or(|id| id == o.order.id())
            })
            .collect();
        if command != "baseline" && candidates.len() > 1 {
            return; // Without a name it could be the answer to any of them; the list will tell.
        }
        for operation in &mut candidates {
            if answer == Answer::Conflict {
                (operation.uncertain, operation.at_work) = (false, true);
            } else {
                operation.answer = Some(answer.clone());
            }
        }
    }

    pub(super) fn listed(&mut self, modules: Vec<ListedModule>, now: Instant) -> Vec<Settled> {
        let was_asked = self.asked.is_some();
        let asked = self.asked.take().unwrap_or(now);
        self.unanswered = 0;
        if std::mem::take(&mut self.outdated) || self.former_list.is_some() && !was_asked {
            self.ask_now = true;
            return Vec::new();
        }
        self.former_list = None;
        let list: BTreeMap<_, _> = modules.into_iter().map(|m| (m.id.clone(), m)).collect();
        let mut settled = Vec::new();
        let (proven, fetchable, in_vain) = (&mut self.proven, &mut self.fetchable, &mut self.looked_in_vain);
        self.operations.retain(|_, operation| match operation.judge(&list, asked) {
            None => true,
            Some(end) => {
                if let Settled::Installed(id) = &end
                    && !matches!(operation.order, Order::Install(_, Strategy::UninstallThenInstall))
                {
                    if operation.looks {
                        fetchable.insert(id.clone());
                    }
                    proven.insert(id.clone());
                }
                if operation.looks
                    && operation.answer.is_none()
                    && !operation.uncertain
                    && !in_vain.insert(operation.order.id().clone())
                {
                    fetchable.insert(operation.order.id().clone());
                }
                settled.push(end);
                false
            }
        });
        proven.retain(|id| list.get(id).is_some_and(|m| m.state == ModuleState::Deactivated));
        fetchable.retain(|id| proven.contains(id));
        in_vain.retain(|id| proven.contains(id));
        self.list = Some(list);
        (self.listed, self.list_asked) = (Some(now), Some(asked));
        settled
    }
}

impl Operation {
    /// How it ended, by its reply and a list that was asked for at `asked`; none while it goes on.
    fn judge(&self, list: &BTreeMap<ModuleId, ListedModule>, asked: Instant) -> Option<Settled> {
        let id = self.order.id();
        let listed = list.get(id);
        match &self.order {
            Order::Install(spec, _) | Order::Baseline(spec) => match &self.answer {
                Some(Answer::Failed(message)) if !self.is_baseline() => {
                    Some(failed(spec, Reason::InstallFailed, message.clone()))
                }
                Some(Answer::Done { actual: Some(actual) }) if actual != id && listed.is_none() => {
                    let message = format!("the jar at {} is {actual}, the Pod asks for {id}", spec.shown_url());
                    Some(failed(spec, Reason::ModuleMismatch, message))
                }
                Some(Answer::Repeat { actual }) if listed.is_none() => {
                    let what = actual.as_ref().map_or("another module".to_owned(), ToString::to_string);
                    let message = format!(
                        "the jar at {} is {what}, which the base has already; the Pod asks for {id}",
                        spec.shown_url()
                    );
                    Some(failed(spec, Reason::ModuleMismatch, message))
                }
                Some(_) => Some(match listed {
                    Some(_) => Settled::Installed(id.clone()),
                    // A baseline's reply says nothing about its elements: what is missing is installed one by one.
                    None if self.is_baseline() => Settled::Lost,
                    None => {
                        let message = format!("the base answered SUCCESS but does not list {id}");
                        failed(spec, Reason::InstallFailed, message)
                    }
                }),
                None => self.judge_install_unanswered(spec, listed, asked),
            },
            Order::Uninstall(id) => match (&self.answer, listed) {
                (_, None) if self.answer.is_some() || asked > self.sent => Some(Settled::Uninstalled(id.clone())),
                (Some(Answer::Failed(message)), Some(_)) => {
                    Some(Settled::UninstallFailed { id: id.clone(), message: message.clone() })
                }
                (Some(_), Some(_)) => Some(Settled::UninstallFailed {
                    id: id.clone(),
                    message: "the base answered but still lists it".to_owned(),
                }),
                _ => self.presumed_lost(asked).then_some(Settled::Lost),
            },
        }
    }

    fn judge_install_unanswered(
        &self,
        spec: &ModuleSpec,
        listed: Option<&ListedModule>,
        asked: Instant,
    ) -> Option<Settled> {
        if asked < self.sent {
            return None;
        }
        let switching = matches!(self.order, Order::Install(_, Strategy::UninstallThenInstall));
        let overdue = self.uncertain || asked >= self.sent.later(QUERY_TIMEOUT);
        match listed.map(|m| m.state) {
            Some(ModuleState::Activated) => Some(Settled::Installed(spec.id.clone())),
            Some(ModuleState::Resolved) => None,
            Some(ModuleState::Broken) if overdue && !switching => {
                let message = listed.and_then(|m| m.message.clone());
                let message = message.unwrap_or_else(|| "the base lists it as broken and gives no reason".to_owned());
                Some(failed(spec, Reason::InstallFailed, message))
            }
            Some(ModuleState::Deactivated | ModuleState::Unknown) if overdue && !switching && !self.looks => {
                Some(Settled::Installed(spec.id.clone()))
            }
            _ if !self.presumed_lost(asked) => None,
            _ if self.uncertain || self.is_baseline() || self.looks => Some(Settled::Lost),
            _ => Some(Settled::Unanswered(spec.clone())),
        }
    }

    fn presumed_lost(&self, asked: Instant) -> bool {
        let patience = match () {
            () if self.is_baseline() => RESEND_BASELINE_AFTER,
            () if self.at_work => WORKS_FOR,
            () if self.looks => LOOKS_FOR,
            () => RESEND_AFTER,
        };
        asked > self.sent && (self.uncertain || asked >= self.sent.later(patience))
    }

    fn is_baseline(&self) -> bool {
        matches!(self.order, Order::Baseline(_))
    }
}

fn failed(spec: &ModuleSpec, reason: Reason, message: String) -> Settled {
    Settled::InstallFailed { spec: spec.clone(), reason, message }
}
