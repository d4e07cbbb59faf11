//! What comes out of a reconciliation.

use std::{collections::BTreeMap, time::Instant};

use crate::domain::{Command, Ledger, Lesson, ModuleId, PodOutcome, PodUid, ProbeTarget, Took, known::Replacement};

/// Everything to be done for one base now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages to the base, in order.
    pub commands: Vec<Command>,
    /// Installs that wait for being on record: one that nobody knows of after a death could never be undone.
    pub unrecorded: Vec<ModuleId>,
    /// What each Pod's status should say. A Pod that is missing here keeps the status it has.
    pub pods: Vec<PodOutcome>,
    /// Pods whose deletion can be completed: their modules are gone.
    pub finished: Vec<PodUid>,
    /// Superseded Pods whose time to live is over.
    pub expired: Vec<PodUid>,
    /// The ledger, where it differs from the base's.
    pub ledger: Option<Ledger>,
    /// What the base shows of web modules, for all bases.
    pub lessons: Vec<Lesson>,
    /// It waits for what another base shows.
    pub waits_for_a_trial: bool,
    /// Something waits for room in the base's metaspace, which is to be asked how much there is.
    pub(in crate::domain) waits_for_room: bool,
    /// What is ordered has room once the JVM has collected what modules left behind.
    pub(in crate::domain) must_collect: bool,
    /// What the statuses of Pods show that modules need, where nobody knows any more.
    pub needs: Vec<Took>,
    /// Bytes of metaspace that what is ordered needs.
    pub(in crate::domain) ordered: u64,
    /// What is to be probed, in the order of its Pods.
    pub probes: Vec<ProbeTarget>,
    /// When time alone changes the answer.
    pub wake: Option<Instant>,
    /// Updates that need the old version out of the way first, by module name.
    pub(in crate::domain) replacements: BTreeMap<String, Replacement>,
}

impl Plan {
    /// Looks again at `at`, or earlier where that was asked already.
    pub(in crate::domain) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// The same for what waits until then. Says whether that is still to come.
    pub(in crate::domain) fn waits_until(&mut self, at: Instant, now: Instant) -> bool {
        if at > now {
            self.wake_at(at);
        }
        at > now
    }
}
