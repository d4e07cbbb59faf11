//! What a decision on a release is made from and ends in, and what all its parts ask.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::facts::{BaseFacts, PodIs, RolloutFacts, Suits, WorkloadFacts};
use crate::{
    domain::{BaseId, Later, PodUid},
    k8s::rollout::{ModuleRollout, ModuleRolloutStatus, RolloutFailure, Step},
};

/// Pods of a new revision that are not all bound are waited for as long as more come, and for so long after.
const SETTLES: Duration = Duration::from_secs(10);
/// Released to every base, in place of all names.
pub(super) const ALL: &str = "*";

/// What a process knows of a release and another one need not.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) ready_since: HashMap<BaseId, Instant>,
    /// Bases of the batch that are told, of those that it was released to: not more at once than there may be.
    pub(super) opened: BTreeSet<BaseId>,
    /// Step and bases done, and since when that is so.
    pub(super) progress: Option<((u32, usize), Instant)>,
    pub(super) pause_until: Option<Instant>,
    /// Pods that are bound, and since when so many are.
    pub(super) bound: Option<(usize, Instant)>,
    pub(super) forgiven: HashMap<BaseId, (i32, Instant)>,
}

/// What comes of it.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) status: ModuleRolloutStatus,
    /// When time alone changes the answer.
    pub(super) wake: Option<Instant>,
    /// Pods of the revision before that make room: a `DaemonSet` makes a new one when the old one is gone.
    pub(super) makes_room: Vec<PodUid>,
    /// The template of the stable revision is to be the workload's again.
    pub(super) rolls_back: bool,
    /// A request that changed nothing, and why.
    pub(super) ignored: Option<String>,
}

/// One decision, while it is made.
pub(super) struct Turn<'a, 'f> {
    pub(super) object: &'a ModuleRollout,
    pub(super) steps: Vec<Step>,
    pub(super) facts: &'a RolloutFacts<'f>,
    pub(super) workload: &'a WorkloadFacts,
    pub(super) current: Arc<str>,
    pub(super) memory: &'a mut Memory,
    pub(super) status: ModuleRolloutStatus,
    pub(super) now: Instant,
    pub(super) out: Decision,
}

impl<'a> Turn<'a, '_> {
    /// Looks again then, unless that time has come.
    pub(super) fn wake_at(&mut self, at: Instant) {
        self.out.wake = self.out.wake.into_iter().chain((at > self.now).then_some(at)).min();
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn is_daemon_set(&self) -> bool {
        self.object.spec.workload_ref.kind == "DaemonSet"
    }

    /// Bases that the release is about: those with a Pod of the revision, and of a `DaemonSet` all that it is on and those
    /// that it was released to, which have made room for a Pod that is yet to come.
    pub(super) fn members(&self) -> Vec<&'a BaseFacts<'a>> {
        let all = self.is_daemon_set();
        let with_pods = self.facts.bases.iter().filter(|base| all || base.pod_of(&self.current).is_some());
        let is_named = |base: &BaseId| self.released().iter().any(|name| name == base.as_str());
        with_pods.chain(self.facts.others.iter().filter(|base| all && is_named(base.base))).collect()
    }

    pub(super) fn is_ready(&self, base: &BaseFacts<'_>) -> bool {
        base.pod_of(&self.current).is_some_and(|pod| pod.is == PodIs::Ready)
    }

    /// Ready for long enough.
    pub(super) fn is_done(&self, base: &BaseFacts<'_>) -> bool {
        self.memory.ready_since.get(base.base).is_some_and(|since| self.done_at(*since) <= self.now)
    }

    pub(super) fn done_at(&self, since: Instant) -> Instant {
        since.later(Duration::from_secs(self.workload.min_ready_seconds))
    }

    /// The names to which the revision was released, [`ALL`] among them where that is every base.
    fn released(&self) -> &[String] {
        self.status.released.get(&*self.current).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_released(&self, base: &BaseId) -> bool {
        self.released().iter().any(|name| name == ALL || name == base.as_str())
    }

    pub(super) fn is_released_to_all(&self) -> bool {
        self.released().iter().any(|name| name == ALL)
    }

    /// So many bases may be at work at once.
    pub(super) fn most_at_work(&self) -> usize {
        usize::try_from(self.object.spec.max_parallel).unwrap_or(usize::MAX).max(1)
    }

    /// Has the other revisions' Pods on these bases go.
    pub(super) fn make_room<'b>(&mut self, bases: impl Iterator<Item = &'b BaseFacts<'b>>) {
        let others = bases.flat_map(|base| base.pods.iter().filter(|pod| pod.revision != self.current));
        self.out.makes_room = others.map(|pod| pod.uid.clone()).collect();
    }

    /// Takes note of since when Pods are Ready, and how many are bound.
    pub(super) fn observe(&mut self) {
        let ready: HashSet<_> = self.facts.bases.iter().filter(|b| self.is_ready(b)).map(|b| b.base.clone()).collect();
        self.memory.ready_since.retain(|base, _| ready.contains(base));
        for base in ready {
            let since = *self.memory.ready_since.entry(base).or_insert(self.now);
            self.wake_at(self.done_at(since));
        }
        let bound = self.members().len();
        if self.memory.bound.is_none_or(|(before, _)| before != bound) {
            self.memory.bound = Some((bound, self.now));
        }
    }

    /// Whether the revision's Pods are where they will be.
    pub(super) fn is_settled(&mut self) -> bool {
        let (Some(replicas), Some((bound, since))) = (self.workload.replicas, self.memory.bound) else { return true };
        let done = self.members().iter().filter(|base| self.is_done(base)).count();
        let expected = match self.workload.suits {
            Suits::ByCount(surge) => done.saturating_add(surge).min(replicas),
            _ => replicas,
        };
        let settles = since.later(SETTLES);
        if bound < expected {
            self.wake_at(settles);
        }
        bound >= expected || settles <= self.now
    }

    /// Bases that came since the release began and have nothing: what stood there would have a Pod of the revision before.
    pub(super) fn joined(&self) -> HashSet<&'a BaseId> {
        if self.is_daemon_set() || self.workload.suits != Suits::ByBase {
            return HashSet::new();
        }
        let joined = |base: &&BaseFacts<'_>| {
            !self.is_released(base.base) && base.pods.iter().all(|pod| pod.revision == self.current)
        };
        self.members().into_iter().filter(joined).map(|base| base.base).collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, since) = self.memory.progress?;
        Some(since.later(Duration::from_secs(self.object.spec.progress_deadline_seconds.into())))
    }

    pub(super) fn is_skipped(&self, base: &BaseId) -> bool {
        self.status.skipped.iter().any(|skipped| skipped == base.as_str())
    }

    /// Bases on which it failed, and how.
    pub(super) fn failed(&self, members: &[&'a BaseFacts<'a>]) -> Vec<(&'a BaseId, RolloutFailure)> {
        let late = self.deadline().is_some_and(|at| at <= self.now);
        let mut failed = Vec::new();
        for base in members.iter().filter(|base| self.is_released(base.base) && !self.is_skipped(base.base)) {
            let is = base.pod_of(&self.current).map(|pod| &pod.is);
            let (reason, message, tries) = match is {
                Some(PodIs::Failed(reason, message, tries)) => (reason.clone(), message.clone(), *tries),
                Some(PodIs::Ready) if base.reachable => continue,
                _ if !base.reachable => {
                    ("BaseUnreachable".to_owned(), "the base was asked and does not answer".to_owned(), 0)
                }
                _ if late && self.memory.opened.contains(base.base) => {
                    let seconds = self.object.spec.progress_deadline_seconds;
                    ("ProgressDeadlineExceeded".to_owned(), format!("not Ready within {seconds} s"), 0)
                }
                _ => continue,
            };
            let forgiven = self.memory.forgiven.get(base.base);
            if forgiven.is_none_or(|(tried, until)| *tried != tries || *until <= self.now) {
                failed.push((base.base, RolloutFailure { base: base.node.to_owned(), reason, message }));
            }
        }
        failed
    }
}
