//! Commands in execution.

use std::time::Instant;

use super::answers::{Answer, Response};
use super::arklet::Ticket;
use super::command::Install;
use super::urls::Jar;

/// A command that occupies a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) ends: Instant,
    pub(super) lock: Option<Lock>,
    pub(super) ending: Ending,
}

/// A name and version that is being worked on.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) word: &'static str,
    pub(super) name: String,
    pub(super) version: String,
}

#[derive(Debug)]
pub(super) enum Ending {
    Said(Answer),
    Install(Install, Start),
    Uninstall(String, String),
    Batch(Vec<(String, Part)>),
    List,
    Health,
}

/// One element of a baseline.
#[derive(Debug)]
pub(super) enum Part {
    Starting(Start),
    Done(Response),
}

/// A module that is being started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) serial: u64,
    /// What the jar is, where it is still being fetched and nothing is listed.
    pub(super) fetched: Option<Jar>,
    pub(super) begun: Instant,
    pub(super) ends: Instant,
    pub(super) broken: Option<String>,
    pub(super) replaced: bool,
}

impl Job {
    /// When this job wants to be looked at.
    pub(super) fn next(&self) -> Instant {
        let Ending::Batch(parts) = &self.ending else {
            return self.ends;
        };
        let starting = parts.iter().filter_map(|(_, part)| match part {
            Part::Starting(start) => Some(start.ends),
            Part::Done(_) => None,
        });
        starting.min().unwrap_or(self.ends)
    }
}
