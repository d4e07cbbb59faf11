//! What is promised.

use std::fmt;

use super::super::event::At;

/// Each of the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// Nothing that is wanted goes.
    WantedStays,
    /// Nothing comes that nobody wants.
    OnlyWanted,
    /// Ready means active.
    ReadyIsActive,
    /// Serves means Ready.
    StaysReady,
    /// What others installed is left alone.
    ForeignStays,
    /// How commands go out.
    QosOne,
    /// Who sends them.
    OneCommander,
    /// Who writes.
    OneWriter,
    /// All is well soon.
    Heals,
    /// And then nothing happens.
    Quiet,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WantedStays => "no module that a Pod wants is uninstalled",
            Self::OnlyWanted => "no module is installed that no Pod wants",
            Self::ReadyIsActive => "no Pod is Ready whose module is not active",
            Self::StaysReady => "a Pod whose module serves stays Ready, whatever else breaks",
            Self::ForeignStays => "what others installed is not touched",
            Self::QosOne => "commands are QoS 1 and not retained",
            Self::OneCommander => "only the leader commands",
            Self::OneWriter => "only the leader writes",
            Self::Heals => "all is well within a minute of the last fault",
            Self::Quiet => "then nothing is commanded or written but Leases",
        })
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) at: At,
    pub(crate) text: String,
}
