//! A command on its way: what came of it, judged by its reply and by the base's list after it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::needs::Took;
use crate::domain::{Command, ListedModule, ModuleId, ModuleSpec, ModuleState, Reason, Strategy, times::Later};

/// The list is asked for again after this time, and shows a command that was sent before.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// An unanswered command of which the list shows nothing is sent again after this time.
const RESEND_AFTER: Duration = Duration::from_secs(30);
/// The same where the base says that it is at work on it ("conflict"): fetching a jar can take minutes.
const WORKS_FOR: Duration = Duration::from_secs(900);
/// The same for a baseline: bases up to 2.1.6 ignore it.
const RESEND_BASELINE_AFTER: Duration = Duration::from_secs(10);
/// A look whether a jar can be fetched again is answered within this time, or the base says "conflict" to the next one,
/// or it is one of those that say nothing of a module which they have already (bases up to 2.1.6).
const LOOKS_FOR: Duration = Duration::from_secs(5);

/// A base's reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Name of the command it answers, as in [`Command::name`](crate::domain::Command::name).
    pub command: &'static str,
    /// Which module was asked for; older bases leave it out where something failed.
    pub module: Option<ModuleId>,
    /// What came of it.
    pub answer: Answer,
    /// By how many bytes the used metaspace of the whole JVM grew meanwhile, as an install says.
    pub space: Option<u64>,
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
pub(in crate::domain) enum Ended {
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

/// Whether a jar that was fetched once can be fetched once more: a switch does that, after it has taken the other
/// versions away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Jar {
    #[default]
    NotLookedFor,
    /// A look went unanswered once.
    NoAnswer,
    CanBeFetched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Order {
    Install(ModuleSpec, Strategy),
    Baseline(ModuleSpec),
    Switch(ModuleSpec),
    Uninstall(ModuleId),
}

impl Order {
    pub(in crate::domain) fn id(&self) -> &ModuleId {
        match self {
            Self::Install(spec, _) | Self::Baseline(spec) | Self::Switch(spec) => &spec.id,
            Self::Uninstall(id) => id,
        }
    }

    /// Whether it loads another version of that module.
    pub(super) fn is_to_load_another(&self, id: &ModuleId) -> bool {
        !matches!(self, Self::Uninstall(_)) && self.id().name == id.name && self.id() != id
    }

    /// What has started is to take over from the others.
    pub(in crate::domain) fn is_switch(&self) -> bool {
        matches!(self, Self::Switch(_) | Self::Install(_, Strategy::UninstallThenInstall))
    }

    pub(super) fn command(&self) -> &'static str {
        match self {
            Self::Install(..) => "installBiz",
            Self::Baseline(_) => "baseline",
            Self::Switch(_) => Command::SWITCH,
            Self::Uninstall(_) => "uninstallBiz",
        }
    }
}

/// A command on its way, from being sent until the list after its reply.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::domain) struct Operation {
    pub(in crate::domain) order: Order,
    pub(super) sent: Instant,
    /// It may not have arrived: a connection was lost or the base was away.
    pub(super) uncertain: bool,
    /// The base said that it is at work on it.
    pub(super) at_work: bool,
    /// An install of what has started already and is deactivated: it only shows whether the jar can be fetched.
    pub(super) looks: bool,
    /// Nothing else was under way meanwhile.
    pub(super) alone: bool,
    pub(super) answer: Option<Answer>,
}

/// A command that has not ended.
#[derive(Clone, Debug)]
pub struct CommandView {
    /// Its name on the wire.
    pub command: &'static str,
    /// What it is about.
    pub module: ModuleId,
    /// Since when it is under way.
    pub sent: Instant,
    /// The base has answered; its next list tells how it ended.
    pub answered: bool,
    /// It may not have arrived.
    pub uncertain: bool,
}

impl Operation {
    /// How it ended, by its reply and a list that was asked for at `asked`; none while it goes on.
    pub(super) fn judge(&self, list: &BTreeMap<ModuleId, ListedModule>, asked: Instant) -> Option<Ended> {
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
                    Some(_) => Ended::Installed(id.clone()),
                    // A baseline's reply says nothing about its elements: what is missing is installed one by one.
                    None if self.is_baseline() => Ended::Lost,
                    None => {
                        let message = format!("the base answered SUCCESS but does not list {id}");
                        failed(spec, Reason::InstallFailed, message)
                    }
                }),
                None => self.judge_install_unanswered(spec, listed, asked),
            },
            Order::Switch(spec) => match (&self.answer, listed.map(|m| m.state)) {
                (_, Some(ModuleState::Activated)) => Some(Ended::Installed(id.clone())),
                (Some(Answer::Failed(message)), _) => Some(failed(spec, Reason::InstallFailed, message.clone())),
                (Some(Answer::Done { .. }), Some(_)) => {
                    let message = format!("the base answered SUCCESS to the switch and keeps {id} deactivated");
                    Some(failed(spec, Reason::InstallFailed, message))
                }
                // It is gone, and installed anew.
                (Some(_), _) => Some(Ended::Lost),
                (None, _) => self.presumed_lost(asked).then_some(Ended::Lost),
            },
            Order::Uninstall(id) => match (&self.answer, listed) {
                (_, None) if self.answer.is_some() || asked > self.sent => Some(Ended::Uninstalled(id.clone())),
                (Some(Answer::Failed(message)), Some(_)) => {
                    Some(Ended::UninstallFailed { id: id.clone(), message: message.clone() })
                }
                (Some(_), Some(_)) => Some(Ended::UninstallFailed {
                    id: id.clone(),
                    message: "the base answered but still lists it".to_owned(),
                }),
                _ => self.presumed_lost(asked).then_some(Ended::Lost),
            },
        }
    }

    fn judge_install_unanswered(
        &self,
        spec: &ModuleSpec,
        listed: Option<&ListedModule>,
        asked: Instant,
    ) -> Option<Ended> {
        if asked < self.sent {
            return None;
        }
        let switching = self.order.is_switch();
        let overdue = self.uncertain || asked >= self.sent.later(QUERY_TIMEOUT);
        match listed.map(|m| m.state) {
            Some(ModuleState::Activated) => Some(Ended::Installed(spec.id.clone())),
            Some(ModuleState::Resolved) => None,
            Some(ModuleState::Broken) if overdue && !switching => {
                let message = listed.and_then(|m| m.message.clone());
                let message = message.unwrap_or_else(|| "the base lists it as broken and gives no reason".to_owned());
                Some(failed(spec, Reason::InstallFailed, message))
            }
            Some(ModuleState::Deactivated | ModuleState::Unknown) if overdue && !switching && !self.looks => {
                Some(Ended::Installed(spec.id.clone()))
            }
            _ if !self.presumed_lost(asked) => None,
            _ if self.uncertain || self.is_baseline() || self.looks => Some(Ended::Lost),
            _ => Some(Ended::Unanswered(spec.clone())),
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

    /// What an install took that ends with this answer, and whether it ran alone.
    pub(super) fn took(&self, answer: &Answer, bytes: u64) -> Option<(Took, bool)> {
        let ends = matches!(self.order, Order::Install(..)) && *answer != Answer::Conflict && bytes > 0;
        let alone = self.alone && matches!(answer, Answer::Done { .. });
        ends.then(|| (Took { module: self.order.id().clone(), bytes }, alone))
    }

    /// What its end says about the jar of what it was about.
    pub(super) fn note_jar(&self, started: &mut BTreeMap<ModuleId, Jar>, ended: &Ended) {
        let is_silence = self.looks && self.answer.is_none() && !self.uncertain;
        if !is_silence && (self.order.is_switch() || !matches!(ended, Ended::Installed(_))) {
            return;
        }
        let jar = started.entry(self.order.id().clone()).or_default();
        if is_silence && *jar == Jar::NotLookedFor {
            *jar = Jar::NoAnswer;
        } else if self.looks {
            // Also at the second look that goes unanswered: it is one of those bases that say nothing of a module which
            // they have.
            *jar = Jar::CanBeFetched;
        }
    }

    pub(super) fn is_baseline(&self) -> bool {
        matches!(self.order, Order::Baseline(_))
    }
}

fn failed(spec: &ModuleSpec, reason: Reason, message: String) -> Ended {
    Ended::InstallFailed { spec: spec.clone(), reason, message }
}
