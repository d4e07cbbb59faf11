//! What is remembered about Pods while the process runs; their statuses and restart counts give it back after a restart.

use std::{collections::HashMap, time::Instant};

use super::probes::{Probed, Restart};
use crate::domain::ModuleId;

/// What is remembered about a Pod while this process runs.
#[derive(Clone, Debug, Default)]
pub(in crate::domain) struct PodMemory {
    pub(in crate::domain) first_seen: Option<Instant>,
    pub(in crate::domain) deletion_seen: Option<Instant>,
    pub(in crate::domain) superseded_seen: Option<Instant>,
    /// By container name.
    pub(in crate::domain) containers: HashMap<String, ContainerMemory>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::domain) struct ContainerMemory {
    /// The module that the container stands for.
    pub(in crate::domain) module: Option<ModuleId>,
    pub(in crate::domain) has_run: bool,
    pub(in crate::domain) failed: bool,
    pub(in crate::domain) restarts: u32,
    /// What its probes have said of it since it is active.
    pub(in crate::domain) probed: Probed,
    /// It is started anew, because a probe failed; boxed, as few are.
    pub(in crate::domain) restart: Option<Box<Restart>>,
    /// How often that was so lately, and when last.
    pub(in crate::domain) unhealthy: Option<(u32, Instant)>,
}
