//! What a plan wants done. Effects are carried out in one place, `engine/effects.rs`.

use crate::{
    api::{Key, Note, Report, Request},
    domain::{BaseId, Command, ProbeOrder},
    k8s::Reference,
    tunnel::Via,
};

/// One thing to be done outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a command to a base, over this tunnel.
    Tell(Via, BaseId, Command),
    /// Probe what is on a base.
    Probe(ProbeOrder),
    /// Write to the API server; the end comes back as a fact with the same key, whatever happens.
    Write(Lane, Key, Request),
    /// Write an Event.
    Note(Note),
    /// Tell hooks of a failure.
    Report(Report),
    /// Read an object that an environment refers to.
    Read(Reference),
}

/// Which writer takes a write: what is urgent must not wait behind a burst of what is not, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Statuses of Pods and Nodes, deletions.
    Status,
    /// Leases and ledgers.
    Background,
    /// The set of ordered modules: what waits for it is on every Pod's way.
    Record,
}
