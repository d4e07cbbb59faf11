//! An Event before it is written: what it is about, and what it says.

use std::{borrow::Cow, sync::Arc};

use crate::domain::printable_bytes;

/// Bytes of a note (limit of the API).
pub(super) const NOTE_MAX: usize = 1024;
/// Bytes of a trace: as many as a label's value has.
const TRACE_MAX: usize = 63;

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A Pod: namespace, name, uid.
    Pod(String, String, String),
    /// A Deployment: namespace, name, uid.
    Deployment(String, String, String),
    /// A `ModuleRollout`: namespace, name, uid.
    ModuleRollout(String, String, String),
    /// A `ConfigMap` of modulet's record: namespace, name.
    ConfigMap(String, String),
    /// A Lease: namespace, name, uid.
    Lease(String, String, String),
    /// A `CertificateSigningRequest`, by name.
    CertificateSigningRequest(String),
    /// A Node, by name: as a kubelet's, its Events have the name as uid.
    Node(String),
}

/// An Event to write.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it is about.
    pub subject: Subject,
    /// Something is wrong.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people. What the API does not take is cut, and what a terminal would act on is replaced.
    pub message: String,
    /// The work that a Pod belongs to, as whoever made it calls it.
    pub trace: Option<Arc<str>>,
}

impl Note {
    /// Of an object that belongs to no work.
    pub fn of(subject: Subject, warning: bool, reason: &'static str, message: String) -> Self {
        Self { subject, warning, reason, message, trace: None }
    }

    /// What the Event says; the trace is never what is cut.
    pub(super) fn text(&self) -> String {
        let Some(trace) = &self.trace else { return printable_bytes(&self.message, NOTE_MAX).into_owned() };
        let behind = format!(" (trace {})", shown_trace(trace));
        let room = NOTE_MAX.saturating_sub(behind.len());
        format!("{}{behind}", printable_bytes(&self.message, room))
    }
}

/// A trace as it may be shown.
pub(super) fn shown_trace(trace: &str) -> Cow<'_, str> {
    printable_bytes(trace, TRACE_MAX)
}
