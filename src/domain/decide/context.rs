//! What a decision looks at.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use crate::domain::{
    Base, Lesson, ModuleSpec, Needs, Pod, Reachability, WebContexts,
    known::{PodMemory, Replacement, WebContext},
    times::Later,
};

/// Everything a decision may look at.
pub(super) struct Context<'a> {
    pub(super) base: &'a Base,
    /// What is known of web modules of all bases,
    pub(super) contexts: &'a WebContexts,
    /// and what this one has just shown of them.
    pub(super) lessons: Vec<Lesson>,
    /// What modules need of metaspace.
    pub(super) needs: &'a Needs,
    pub(super) now: Instant,
    pub(super) reachability: Reachability,
    /// Pods by the names of their modules.
    pub(super) by_name: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// Updates that need the old version out of the way, by module name.
    pub(super) replacements: BTreeMap<String, Replacement>,
}

/// What is remembered about a Pod that was never seen.
static NOTHING: LazyLock<PodMemory> = LazyLock::new(PodMemory::default);

impl<'a> Context<'a> {
    /// The Pods with a module of that name.
    pub(super) fn pods_of(&self, name: &str) -> &[&'a Pod] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The context that a web module is known to have.
    pub(super) fn context_of(&self, spec: &ModuleSpec) -> Option<&WebContext> {
        self.contexts.of(spec, &self.lessons)
    }

    pub(super) fn memory(&self, pod: &Pod) -> &'a PodMemory {
        self.base.pods.get(&pod.uid).unwrap_or(&NOTHING)
    }
}

/// What the last Pod of a base ran waits this long for its successor.
const LINGERS_FOR: Duration = Duration::from_secs(120);

/// Until when the modules of a deleted Pod wait for their successor, if they do.
pub(super) fn lingers_until(pod: &Pod, memory: &PodMemory, now: Instant) -> Option<Instant> {
    pod.lingers.then(|| memory.deletion_seen.unwrap_or(now).later(LINGERS_FOR))
}

/// When `lifecycle.preStop.sleep` is over; counted from when this process saw the deletion, so
/// that no two machines' clocks are compared.
pub(super) fn pre_stop_ends(pod: &Pod, memory: &PodMemory, now: Instant) -> Instant {
    memory.deletion_seen.unwrap_or(now).later(pod.deleting.unwrap_or(Duration::ZERO))
}
