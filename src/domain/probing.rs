//! What is to be probed, and what is news of it.

use std::{sync::Arc, time::Duration};

use super::{
    identity::BaseId,
    pod::PodUid,
    probe::{ProbeKind, Probes},
};

/// A container that is to be asked, since its module is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Its Pod.
    pub pod: PodUid,
    /// Its name.
    pub container: String,
    /// Which start of it: answers about an earlier one count no more.
    pub run: u32,
    /// What it is asked.
    pub probes: Arc<Probes>,
    /// It has started, as far as is known.
    pub started: bool,
    /// It may have requests, as far as is known.
    pub ready: bool,
    /// How long it had been active when this was said; none: it was before this process knew it.
    pub active_for: Option<Duration>,
}

/// All that is to be asked of one base; what was asked and is not in it any more is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Which base.
    pub base: BaseId,
    /// Its address.
    pub address: Arc<str>,
    /// It is at work on commands of ours: that it fails to answer says nothing.
    pub busy: bool,
    /// What is asked there.
    pub targets: Vec<ProbeTarget>,
}

/// What is news of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFact {
    /// The base.
    pub base: BaseId,
    /// The Pod on it,
    pub pod: PodUid,
    /// its container,
    pub container: String,
    /// and which start of it.
    pub run: u32,
    /// Of which probe.
    pub kind: ProbeKind,
    /// The news.
    pub says: ProbeSays,
}

/// What is news of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeSays {
    /// It succeeds, as often in a row as is asked for.
    Succeeds,
    /// It fails, as often in a row as is asked for; why, for people.
    Fails(String),
    /// It failed once; why, for people.
    Failed(String),
    /// It succeeded, and there is something to say.
    Warns(String),
}
