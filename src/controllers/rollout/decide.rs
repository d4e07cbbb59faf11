//! How a release goes on: from what its status says and what is seen of its bases comes what its status is to say.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    facts::{BaseFacts, Kind, PodIs, RolloutFacts, WorkloadFacts},
    order::{in_order, is_selected, size_of},
    requests::{Request, Word},
    suitable::Suits,
    words,
};
use crate::{
    domain::{BaseId, Later, PodUid},
    k8s::rollout::{
        BaseCounts, FailureAction, JoinedBases, MAX_FAILURES, ModuleRollout, ModuleRolloutStatus, Phase,
        RolloutFailure, Step,
    },
};

/// Pods of a new revision that are not all bound are waited for as long as more come, and for so long after.
const SETTLES: Duration = Duration::from_secs(10);
/// A failure that is tried again counts anew when it fails again, or after this time.
const FORGIVEN_FOR: Duration = Duration::from_secs(60);
/// What is left of a pause is written so often, rounded up: a restart makes no pause shorter.
const PAUSE_STEPS: u32 = 30;
/// Bases of the next batch that are named.
const MOST_NEXT: usize = 10;
/// Released to every base, in place of all names.
pub(super) const ALL: &str = "*";

/// What a process knows of a release and another one need not.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ready_since: HashMap<BaseId, Instant>,
    /// Bases of the batch that are told, of those that it was released to: not more at once than there may be.
    pub(super) opened: BTreeSet<BaseId>,
    /// Step and bases done, and since when that is so.
    progress: Option<((u32, usize), Instant)>,
    pause_until: Option<Instant>,
    /// Pods that are bound, and since when so many are.
    bound: Option<(usize, Instant)>,
    forgiven: HashMap<BaseId, (i32, Instant)>,
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

/// Decides. Pure: the status is all that is remembered across a death.
pub(super) fn decide(
    object: &ModuleRollout,
    request: Option<&Request>,
    facts: &RolloutFacts<'_>,
    memory: &mut Memory,
    now: Instant,
) -> Decision {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    let mut out = Decision::default();
    let current = facts.revisions.last().cloned();
    let (Some(workload), Some(current)) = (&facts.workload, current) else {
        words::without_workload(&mut status, object);
        return Decision { status, ..out };
    };
    if status.stable_revision.is_none() {
        status.stable_revision = Some(stable_so_far(facts, &current).to_string());
    }
    let steps = object.spec.planned_steps();
    let selects = steps.iter().any(|step| step.selector.is_some());
    let why_not = match &workload.suits {
        Suits::Held(why) | Suits::Refused(why) => Some(why.clone()),
        Suits::ByCount(_) if selects => Some(
            "its maxSurge is below 100%, so the scheduler chooses its bases, and steps with a selector cannot be kept"
                .to_owned(),
        ),
        Suits::ByBase | Suits::ByCount(_) => None,
    };
    words::suits(&mut status, why_not.as_deref());
    let mut turn = Turn { object, steps, facts, workload, current, memory, status, now, out: &mut out };
    turn.observe();
    let is_stable = turn.status.stable_revision.as_deref() == Some(&*turn.current);
    if let Some(why) = why_not.filter(|_| !is_stable) {
        turn.status.phase = Some(Phase::Blocked);
        turn.status.message = Some(why);
    } else if is_stable {
        turn.returns();
    } else {
        turn.releases(request);
    }
    turn.counts();
    words::say(&mut turn.status, object, turn.steps.len(), facts.wall);
    out.status = std::mem::take(&mut turn.status);
    out
}

/// The revision that most bases have; the current one where none has any.
fn stable_so_far(facts: &RolloutFacts<'_>, current: &Arc<str>) -> Arc<str> {
    let ready_with = |revision: &Arc<str>| {
        let has = |b: &&BaseFacts<'_>| b.pod_of(revision).is_some_and(|pod| pod.is == PodIs::Ready);
        facts.bases.iter().filter(has).count()
    };
    let most = facts.revisions.iter().max_by_key(|revision| ready_with(revision));
    most.filter(|revision| ready_with(revision) > 0).unwrap_or(current).clone()
}

struct Turn<'a, 'f> {
    object: &'a ModuleRollout,
    steps: Vec<Step>,
    facts: &'a RolloutFacts<'f>,
    workload: &'a WorkloadFacts,
    current: Arc<str>,
    memory: &'a mut Memory,
    status: ModuleRolloutStatus,
    now: Instant,
    out: &'a mut Decision,
}

impl<'a> Turn<'a, '_> {
    fn wake_at(&mut self, at: Instant) {
        self.out.wake = Some(self.out.wake.map_or(at, |wake| wake.min(at)));
    }

    fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    fn is_daemon_set(&self) -> bool {
        self.object.spec.workload_ref.kind == "DaemonSet"
    }

    /// Bases that the release is about: those with a Pod of the revision, and of a `DaemonSet` all that it is on.
    fn members(&self) -> Vec<&'a BaseFacts<'a>> {
        let all = self.is_daemon_set();
        self.facts.bases.iter().filter(|base| all || base.pod_of(&self.current).is_some()).collect()
    }

    fn is_ready(&self, base: &BaseFacts<'_>) -> bool {
        base.pod_of(&self.current).is_some_and(|pod| pod.is == PodIs::Ready)
    }

    /// Ready for long enough.
    fn is_done(&self, base: &BaseFacts<'_>) -> bool {
        self.memory.ready_since.get(base.base).is_some_and(|since| self.done_at(*since) <= self.now)
    }

    fn done_at(&self, since: Instant) -> Instant {
        since.later(Duration::from_secs(self.workload.min_ready_seconds))
    }

    fn is_released(&self, base: &BaseId) -> bool {
        let released = self.status.released.get(&*self.current);
        released.is_some_and(|names| names.iter().any(|name| name == ALL || name == base.as_str()))
    }

    /// Takes note of since when Pods are Ready, and how many are bound.
    fn observe(&mut self) {
        let ready: HashSet<_> = self.facts.bases.iter().filter(|b| self.is_ready(b)).map(|b| b.base.clone()).collect();
        self.memory.ready_since.retain(|base, _| ready.contains(base));
        for base in ready {
            let since = *self.memory.ready_since.entry(base).or_insert(self.now);
            let done = self.done_at(since);
            if done > self.now {
                self.wake_at(done);
            }
        }
        let bound = self.members().len();
        if self.memory.bound.is_none_or(|(before, _)| before != bound) {
            self.memory.bound = Some((bound, self.now));
        }
    }

    /// Whether the revision's Pods are where they will be.
    fn is_settled(&mut self) -> bool {
        let (Some(replicas), Some((bound, since))) = (self.workload.replicas, self.memory.bound) else { return true };
        let done = self.members().iter().filter(|base| self.is_done(base)).count();
        let expected = match self.workload.suits {
            Suits::ByCount(surge) => done.saturating_add(surge).min(replicas),
            _ => replicas,
        };
        let settles = since.later(SETTLES);
        if bound < expected && settles > self.now {
            self.wake_at(settles);
        }
        bound >= expected || settles <= self.now
    }

    /// The stable revision is the current one: nothing is held, and what had another one comes back.
    fn returns(&mut self) {
        let alone = |base: &BaseFacts<'_>| self.is_ready(base) && !base.has_another_than(&self.current);
        let is_back = self.facts.bases.iter().all(alone) && self.is_settled();
        let quiet = matches!(self.status.phase, None | Some(Phase::Idle | Phase::Completed));
        if quiet && self.status.released.is_empty() {
            self.status.phase.get_or_insert(Phase::Idle);
            self.status.revision = Some(self.current.to_string());
            return;
        }
        if is_back {
            self.status.phase = Some(Phase::Idle);
            self.status.revision = Some(self.current.to_string());
            self.status.released.clear();
            self.memory.opened.clear();
        } else {
            self.status.phase = Some(Phase::RollingBack);
        }
        self.status.step = 0;
        (self.status.confirmed_all, self.status.pause_seconds_left) = (false, None);
        self.status.skipped.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.memory.forgiven.clear();
        (self.memory.progress, self.memory.pause_until) = (None, None);
    }

    fn releases(&mut self, request: Option<&Request>) {
        if self.status.revision.as_deref() != Some(&*self.current) {
            self.status.revision = Some(self.current.to_string());
            self.begins();
        }
        if self.status.rejected_revision.as_deref() == Some(&*self.current)
            && self.status.phase != Some(Phase::RollingBack)
        {
            self.status.phase = Some(Phase::Blocked);
        }
        if let Some(request) = request {
            self.hears(request);
        }
        match self.status.phase {
            Some(Phase::RollingBack) => self.out.rolls_back = true,
            Some(Phase::Blocked) if self.status.rejected_revision.as_deref() == Some(&*self.current) => {
                self.status.message = Some(words::rejected(self.object, &self.current));
            }
            Some(Phase::Paused) if !self.is_deleted() => {}
            Some(Phase::Waiting) => self.waits(),
            Some(Phase::Progressing) => {}
            _ => self.status.phase = Some(Phase::Progressing),
        }
        // At most once round for each step.
        for _ in 0..=self.steps.len() {
            if self.status.phase != Some(Phase::Progressing) || !self.goes_on() {
                break;
            }
        }
    }

    /// Another revision is released from now on.
    fn begins(&mut self) {
        self.memory.opened.clear();
        self.status.phase = Some(Phase::Progressing);
        self.status.step = 1;
        (self.status.confirmed_all, self.status.pause_seconds_left) = (false, None);
        self.status.skipped.clear();
        self.forget();
        self.memory.ready_since.retain(|_, _| false);
        self.observe();
    }

    fn hears(&mut self, request: &Request) {
        let revision = self.current.to_string();
        let phase = self.status.phase;
        let rejected = self.status.rejected_revision.as_deref() == Some(&*revision);
        let ignored = match request.word {
            _ if request.revision != revision => {
                Some(format!("it is about {}, and {revision} is being released", request.revision))
            }
            Word::Confirm if phase == Some(Phase::Waiting) => {
                self.next_step();
                None
            }
            Word::ConfirmAll if !rejected => {
                self.status.confirmed_all = true;
                if phase == Some(Phase::Waiting) {
                    self.next_step();
                }
                None
            }
            Word::Abort if !rejected => {
                self.status.rejected_revision = Some(revision);
                self.status.phase = Some(Phase::RollingBack);
                None
            }
            Word::Retry if rejected => {
                self.status.rejected_revision = None;
                self.begins();
                None
            }
            Word::Retry if phase == Some(Phase::Paused) => {
                self.forgives();
                self.status.phase = Some(Phase::Progressing);
                None
            }
            Word::Skip if phase == Some(Phase::Paused) => {
                let failed: Vec<_> = self.failed(&self.members()).into_iter().map(|(base, ..)| base.clone()).collect();
                self.status.skipped.extend(failed.iter().map(ToString::to_string));
                self.status.phase = Some(Phase::Progressing);
                None
            }
            Word::Confirm => Some("no batch waits for a confirmation".to_owned()),
            Word::Retry | Word::Skip => Some("the release is not paused by a failure".to_owned()),
            Word::ConfirmAll | Word::Abort => Some("the revision was rolled back".to_owned()),
        };
        self.out.ignored = ignored.map(|why| format!("{}={}: {why}", request.word.annotation(), request.revision));
    }

    fn forgives(&mut self) {
        let until = self.now.later(FORGIVEN_FOR);
        self.memory.progress = None;
        for base in self.members() {
            let tries = match base.pod_of(&self.current).map(|pod| &pod.is) {
                Some(PodIs::Failed(_, _, tries)) => *tries,
                _ => 0,
            };
            self.memory.forgiven.insert(base.base.clone(), (tries, until));
        }
    }

    fn next_step(&mut self) {
        self.status.step = self.status.step.saturating_add(1);
        self.status.phase = Some(Phase::Progressing);
        self.status.pause_seconds_left = None;
        (self.memory.pause_until, self.memory.progress) = (None, None);
    }

    /// A batch is done, and the next one waits.
    fn waits(&mut self) {
        if self.is_deleted() || self.status.confirmed_all {
            return self.next_step();
        }
        self.release_joined();
        self.open();
        let Some(left) = self.status.pause_seconds_left else { return }; // until somebody confirms
        let until = *self.memory.pause_until.get_or_insert(self.now.later(Duration::from_secs(left.into())));
        let seconds = until.saturating_duration_since(self.now).as_millis().div_ceil(1000);
        if seconds == 0 {
            return self.next_step();
        }
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let shown = seconds.div_ceil(PAUSE_STEPS).saturating_mul(PAUSE_STEPS).min(left);
        self.status.pause_seconds_left = Some(shown);
        // When the number changes next, or the pause is over.
        let next = shown.saturating_sub(PAUSE_STEPS);
        let at = until.checked_sub(Duration::from_secs(next.into())).unwrap_or(until);
        self.wake_at(at.max(self.now.later(Duration::from_millis(100))));
    }

    /// Bases that came since the release began and have nothing: what stood there would have a Pod of the revision before.
    fn joined(&self) -> HashSet<&'a BaseId> {
        if self.is_daemon_set() || self.workload.suits != Suits::ByBase {
            return HashSet::new();
        }
        let joined = |base: &&BaseFacts<'_>| {
            !self.is_released(base.base) && base.pods.iter().all(|pod| pod.revision == self.current)
        };
        self.members().into_iter().filter(joined).map(|base| base.base).collect()
    }

    fn release_joined(&mut self) {
        if self.object.spec.joined_bases == JoinedBases::Release {
            let joined: Vec<_> = self.joined().into_iter().map(ToString::to_string).collect();
            let released = self.status.released.entry(self.current.to_string()).or_default();
            released.extend(joined);
            released.sort();
        }
    }

    /// One look at the batch that is under way. Says whether the next one has begun by it.
    fn goes_on(&mut self) -> bool {
        let settled = self.is_settled();
        let last_step = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        if self.is_deleted() || self.status.step >= last_step {
            self.status.step = last_step;
        }
        self.status.step = self.status.step.max(1);
        let index = usize::try_from(self.status.step.saturating_sub(1)).unwrap_or(0);
        let Some(step) = self.steps.get(index).cloned() else { return false };
        let is_last = self.status.step == last_step;
        let members = self.members();
        let total = self.total(members.len(), settled);
        let complete = if is_last {
            self.status.released.insert(self.current.to_string(), vec![ALL.to_owned()]);
            members.len() >= total.min(self.workload.replicas.unwrap_or(0))
        } else {
            self.choose(&step, &members, total, settled)
        };
        self.open();
        let failed = self.failed(&members);
        let too_many = usize::try_from(self.object.spec.failure_policy.max_failures).unwrap_or(usize::MAX);
        if failed.len() > too_many && !self.is_deleted() {
            self.fails();
            return false;
        }
        let passed: HashSet<_> = failed.iter().map(|(base, ..)| *base).collect();
        let is_over =
            |base: &&&BaseFacts<'_>| self.is_done(base) || passed.contains(base.base) || self.is_skipped(base.base);
        let released: Vec<_> = members.iter().filter(|base| self.is_released(base.base)).collect();
        let over = released.iter().filter(|base| is_over(base)).count();
        if self.memory.progress.is_none_or(|(was, _)| was != (self.status.step, over)) {
            self.memory.progress = Some(((self.status.step, over), self.now));
        }
        if !settled || !complete || over < released.len() {
            let deadline = self.deadline();
            deadline.filter(|at| *at > self.now).into_iter().for_each(|at| self.wake_at(at));
            return false;
        }
        if is_last {
            self.completes();
            return false;
        }
        match step.pause.filter(|_| !self.status.confirmed_all && !self.is_deleted()) {
            None => self.next_step(),
            Some(pause) => {
                self.status.phase = Some(Phase::Waiting);
                self.status.pause_seconds_left = pause.duration_seconds;
                self.waits();
            }
        }
        self.status.phase == Some(Phase::Progressing)
    }

    /// Of how many bases a per cent is.
    fn total(&self, members: usize, settled: bool) -> usize {
        let replicas = self.workload.replicas.unwrap_or(members);
        let counted = settled && self.workload.suits == Suits::ByBase;
        if counted { members } else { members.max(replicas) }
    }

    /// Fills the batch up to its size. Says whether it has it, or there are no more bases for it.
    fn choose(&mut self, step: &Step, members: &[&'a BaseFacts<'a>], total: usize, settled: bool) -> bool {
        let joined = self.joined();
        let turns = in_order(members, &joined);
        let has = members.iter().filter(|base| self.is_released(base.base)).count();
        let size = size_of(&step.replicas, total);
        let missing = size.saturating_sub(has);
        if !settled || missing == 0 {
            return settled;
        }
        let mine = |base: &&&BaseFacts<'_>| {
            !self.is_released(base.base) && is_selected(step.selector.as_ref(), base.base, self.facts)
        };
        let chosen: Vec<_> = turns.iter().filter(mine).take(missing).map(|base| base.base.to_string()).collect();
        let full = chosen.len() == missing || self.workload.suits == Suits::ByBase;
        if !chosen.is_empty() {
            let released = self.status.released.entry(self.current.to_string()).or_default();
            released.extend(chosen);
            released.sort();
        }
        full
    }

    /// Tells as many bases of the batch at once as there may be at work.
    fn open(&mut self) {
        let members = self.members();
        let failed: HashSet<_> = self.failed(&members).into_iter().map(|(base, ..)| base.clone()).collect();
        let released: Vec<_> =
            in_order(&members, &HashSet::new()).into_iter().filter(|base| self.is_released(base.base)).collect();
        let there: BTreeSet<_> = released.iter().map(|base| base.base.clone()).collect();
        // A base that is away for a time keeps its turn.
        let names = self.status.released.get(&*self.current).cloned().unwrap_or_default();
        self.memory
            .opened
            .retain(|base| there.contains(base) || names.iter().any(|name| name == ALL || name == base.as_str()));
        for base in &released {
            if base.pod_of(&self.current).is_some_and(|pod| pod.is != PodIs::Awaiting) {
                self.memory.opened.insert(base.base.clone());
            }
        }
        let most = usize::try_from(self.object.spec.max_parallel).unwrap_or(usize::MAX).max(1);
        let is_at_work = |base: &&&BaseFacts<'_>| {
            self.memory.opened.contains(base.base) && !self.is_ready(base) && !failed.contains(base.base)
        };
        let at_work = released.iter().filter(is_at_work).count();
        let waiting: Vec<_> = released.iter().filter(|base| !self.memory.opened.contains(base.base)).collect();
        let next = waiting.into_iter().take(most.saturating_sub(at_work)).map(|base| base.base.clone());
        let next: Vec<_> = next.collect();
        self.memory.opened.extend(next);
        if self.is_daemon_set() {
            let opened = released.iter().filter(|base| self.memory.opened.contains(base.base));
            let old = opened.flat_map(|base| base.pods.iter().filter(|pod| pod.revision != self.current));
            self.out.makes_room = old.map(|pod| pod.uid.clone()).collect();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let (_, since) = self.memory.progress?;
        Some(since.later(Duration::from_secs(self.object.spec.progress_deadline_seconds.into())))
    }

    fn is_skipped(&self, base: &BaseId) -> bool {
        self.status.skipped.iter().any(|skipped| skipped == base.as_str())
    }

    /// Bases on which it failed, with a word and a sentence.
    fn failed(&self, members: &[&'a BaseFacts<'a>]) -> Vec<(&'a BaseId, &'a BaseFacts<'a>, String, String)> {
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
                failed.push((base.base, *base, reason, message));
            }
        }
        failed
    }

    /// More bases failed than may.
    fn fails(&mut self) {
        match self.object.spec.failure_policy.action {
            FailureAction::Pause => self.status.phase = Some(Phase::Paused),
            FailureAction::Rollback => {
                self.status.rejected_revision = Some(self.current.to_string());
                self.status.phase = Some(Phase::RollingBack);
                self.out.rolls_back = true;
            }
        }
    }

    /// Every base has it.
    fn completes(&mut self) {
        self.status.phase = Some(Phase::Completed);
        self.status.stable_revision = Some(self.current.to_string());
        self.status.released.clear();
        self.status.rejected_revision = None;
        self.memory.opened.clear();
        (self.status.confirmed_all, self.status.pause_seconds_left) = (false, None);
        self.forget();
    }

    /// Numbers and names for people.
    fn counts(&mut self) {
        let members = self.members();
        let failed = self.failed(&members);
        let is_stable = self.status.stable_revision.as_deref() == Some(&*self.current);
        let all: Vec<_> = if is_stable { self.facts.bases.iter().collect() } else { members.clone() };
        let done = all.iter().filter(|base| self.is_done(base)).count();
        let released = |base: &&&&BaseFacts<'_>| self.is_released(base.base);
        let left = if is_stable { 0 } else { all.iter().filter(|base| !released(&base)).count() };
        let at_work = all.len().saturating_sub(done).saturating_sub(left).saturating_sub(failed.len());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let joined = self.joined();
        self.status.bases = BaseCounts {
            total: number(all.len()),
            done: number(done),
            batch: if is_stable { 0 } else { number(at_work) },
            left: number(left),
            failed: number(failed.len()),
            joined: if is_stable { 0 } else { number(joined.len()) },
        };
        let next = self.steps.get(usize::try_from(self.status.step).unwrap_or(usize::MAX));
        let selector = next.and_then(|step| step.selector.as_ref());
        let size = next.map_or(0, |step| size_of(&step.replicas, all.len()));
        let has = all.iter().filter(|base| self.is_released(base.base)).count();
        let waits = self.status.phase == Some(Phase::Waiting);
        let next: Vec<_> = in_order(&members, &joined)
            .into_iter()
            .filter(|base| waits && !self.is_released(base.base) && is_selected(selector, base.base, self.facts))
            .take(size.saturating_sub(has).min(MOST_NEXT))
            .map(|base| base.node.to_owned())
            .collect();
        self.status.next = next;
        let named = failed.into_iter().take(MAX_FAILURES);
        self.status.failures = named
            .map(|(_, base, reason, message)| RolloutFailure { base: base.node.to_owned(), reason, message })
            .collect();
    }
}

/// What kind of workload is meant.
pub(super) fn kind_of(kind: &str) -> Option<Kind> {
    match kind {
        "Deployment" => Some(Kind::Deployment),
        "DaemonSet" => Some(Kind::DaemonSet),
        _ => None,
    }
}
