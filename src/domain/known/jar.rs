//! Whether a jar that a base has loaded can be fetched once more.

use std::collections::BTreeMap;

use super::operation::{Ended, Operation, Order};
use crate::domain::{ModuleId, Strategy};

/// Whether a jar that was fetched once can be fetched once more: a switch does that, after it has taken the other
/// versions away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jar {
    NotLookedFor,
    /// A look went unanswered once.
    NoAnswer,
    CanBeFetched,
}

/// What the end of an operation says about the jar of what it was about.
pub(super) fn note_jar(started: &mut BTreeMap<ModuleId, Jar>, operation: &Operation, ended: &Ended) {
    let id = operation.order.id();
    if operation.looks && operation.answer.is_none() && !operation.uncertain {
        // The second look that goes unanswered: it is one of those bases that say nothing of a module which they have.
        let jar = started.entry(id.clone()).or_insert(Jar::NotLookedFor);
        *jar = if *jar == Jar::NotLookedFor { Jar::NoAnswer } else { Jar::CanBeFetched };
        return;
    }
    let switches = matches!(operation.order, Order::Switch(_) | Order::Install(_, Strategy::UninstallThenInstall));
    if matches!(ended, Ended::Installed(_)) && !switches {
        let jar = started.entry(id.clone()).or_insert(Jar::NotLookedFor);
        if operation.looks {
            *jar = Jar::CanBeFetched;
        }
    }
}
