//! What is remembered about Pods and failures while the process runs; the Pods' statuses and restart
//! counts give it back after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{ModuleId, ModuleSpec, PodUid, Reason};

/// An install or uninstall that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What was tried; a changed Pod does not wait for the old try's back-off.
    pub(super) spec: Option<ModuleSpec>,
    /// Pods that share this failure's back-off.
    pub(super) tried_for: BTreeSet<PodUid>,
    pub(super) count: u32,
    pub(super) retry_at: Instant,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// What is remembered about a Pod while this process runs.
#[derive(Clone, Debug, Default)]
pub(super) struct PodMemory {
    pub(super) first_seen: Option<Instant>,
    pub(super) deletion_seen: Option<Instant>,
    pub(super) superseded_seen: Option<Instant>,
    /// By container name.
    pub(super) containers: BTreeMap<String, ContainerMemory>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ContainerMemory {
    /// The module that the container stands for.
    pub(super) module: Option<ModuleId>,
    pub(super) has_run: bool,
    pub(super) failed: bool,
    pub(super) restarts: u32,
}
