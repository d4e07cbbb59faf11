//! One question, and what it comes to.

use std::{sync::Arc, time::Instant};

use crate::domain::{BaseId, ProbeKind, Probes};

/// One question that is to be asked now.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) base: BaseId,
    pub(super) address: Arc<str>,
    pub(super) probes: Arc<Probes>,
    pub(super) kind: ProbeKind,
    pub(super) began: Instant,
    /// The base was at work then.
    pub(super) busy: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is well.
    Success,
    /// It is well, and there is something to say.
    Warning(String),
    /// It is not.
    Failure(String),
    /// It was not asked.
    Unknown,
}

impl Outcome {
    /// As a label.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warning(_) => "warning",
            Self::Failure(_) => "failure",
            Self::Unknown => "unknown",
        }
    }
}
