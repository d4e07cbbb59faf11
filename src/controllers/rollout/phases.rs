//! How a release comes from one phase to the next: a new revision, the way back, requests, and waits between batches.

use std::{collections::HashSet, time::Duration};

use super::{
    facts::{BaseFacts, PodIs},
    requests::{Request, Word},
    turn::{ALL, Turn},
    words,
};
use crate::{
    domain::Later,
    k8s::rollout::{JoinedBases, Phase},
};

/// A failure that is tried again counts anew when it fails again, or after this time.
const FORGIVEN_FOR: Duration = Duration::from_secs(60);
/// What is left of a pause is written so often, rounded up: a restart makes no pause shorter.
const PAUSE_STEPS: u32 = 30;

impl Turn<'_, '_> {
    /// The stable revision is the current one: nothing is held, and what had another one comes back.
    pub(super) fn returns(&mut self) {
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
            self.makes_room_for_the_way_back();
        }
        self.status.step = 0;
        self.status.skipped.clear();
        self.forget();
    }

    /// Who has another Pod of a `DaemonSet` gets the stable one when that is gone: not more bases at once than may be at work.
    fn makes_room_for_the_way_back(&mut self) {
        if !self.is_daemon_set() {
            return;
        }
        let has_another = |base: &&BaseFacts<'_>| base.pods.iter().any(|pod| pod.revision != self.current);
        let (others, alone): (Vec<_>, Vec<_>) = self.facts.bases.iter().partition(has_another);
        let released: HashSet<_> = self.status.released.values().flatten().map(String::as_str).collect();
        let between_pods = self.facts.others.iter().filter(|base| released.contains(base.base.as_str())).count();
        let at_work = alone.iter().filter(|base| !self.is_ready(base)).count().saturating_add(between_pods);
        let most = self.most_at_work();
        self.make_room(others.into_iter().take(most.saturating_sub(at_work)));
    }

    /// What was said and seen about one release is not about another.
    pub(super) fn forget(&mut self) {
        (self.status.confirmed_all, self.status.pause_seconds_left) = (false, None);
        self.memory.forgiven.clear();
        (self.memory.progress, self.memory.pause_until) = (None, None);
    }

    pub(super) fn releases(&mut self, request: Option<&Request>) {
        if self.status.revision.as_deref() != Some(&*self.current) {
            self.status.revision = Some(self.current.to_string());
            self.begins();
        }
        // On the way back the workload has its template until it gets the stable one, which makes the step 0: who applies
        // the rejected one after that finds it held.
        let goes_back = self.status.phase == Some(Phase::RollingBack) && self.status.step > 0;
        if self.status.rejected_revision.as_deref() == Some(&*self.current) && !goes_back {
            if self.is_deleted() {
                // Nobody will hold it any more; so that it comes in order all the same.
                self.status.rejected_revision = None;
                self.begins();
            } else {
                self.closes();
            }
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

    /// The revision was rejected, and is applied again, perhaps before the way back is over: it stays where it serves, and is
    /// not tried again where it does not.
    fn closes(&mut self) {
        let was_blocked = self.status.phase.replace(Phase::Blocked) == Some(Phase::Blocked);
        let pod_is = |name: &str| {
            let base = self.facts.bases.iter().find(|base| base.base.as_str() == name)?;
            base.pod_of(&self.current).map(|pod| &pod.is)
        };
        let mut names = self.status.released.remove(&*self.current).unwrap_or_default();
        let is_all = names.iter().any(|name| name == ALL);
        if is_all {
            names = self.facts.bases.iter().map(|base| base.base.to_string()).collect();
            names.sort();
        }
        names.retain(|name| match pod_is(name) {
            Some(PodIs::Ready) => true,
            Some(PodIs::Failed(..)) => false,
            // Later on a base that is not to be seen for a moment is no reason.
            _ => was_blocked && !is_all,
        });
        if !names.is_empty() {
            self.status.released.insert(self.current.to_string(), names);
        }
    }

    /// Another revision is released from now on.
    pub(super) fn begins(&mut self) {
        self.memory.opened.clear();
        self.status.phase = Some(Phase::Progressing);
        self.status.step = 1;
        self.status.skipped.clear();
        self.forget();
        self.memory.ready_since.clear();
        self.observe();
    }

    pub(super) fn hears(&mut self, request: &Request) {
        let revision = self.current.to_string();
        let phase = self.status.phase;
        let rejected = self.status.rejected_revision.as_deref() == Some(&*revision);
        let ignored = match request.word {
            _ if request.revision != revision => {
                format!("it is about {}, and {revision} is being released", request.revision)
            }
            Word::Confirm if phase == Some(Phase::Waiting) => return self.next_step(),
            Word::ConfirmAll if !rejected => {
                self.status.confirmed_all = true;
                if phase == Some(Phase::Waiting) {
                    self.next_step();
                }
                return;
            }
            Word::Abort if !rejected => {
                self.status.rejected_revision = Some(revision);
                self.status.phase = Some(Phase::RollingBack);
                return;
            }
            Word::Retry if rejected => {
                self.status.rejected_revision = None;
                return self.begins();
            }
            Word::Retry if phase == Some(Phase::Paused) => {
                self.forgives();
                self.status.phase = Some(Phase::Progressing);
                return;
            }
            Word::Skip if phase == Some(Phase::Paused) => {
                let failed = self.failed(&self.members());
                self.status.skipped.extend(failed.into_iter().map(|(base, _)| base.to_string()));
                self.status.phase = Some(Phase::Progressing);
                return;
            }
            Word::Confirm => "no batch waits for a confirmation".to_owned(),
            Word::Retry | Word::Skip => "the release is not paused by a failure".to_owned(),
            Word::ConfirmAll | Word::Abort => "the revision was rolled back".to_owned(),
        };
        self.out.ignored = Some(format!("{}={}: {ignored}", request.word.annotation(), request.revision));
    }

    pub(super) fn forgives(&mut self) {
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

    pub(super) fn next_step(&mut self) {
        self.status.step = self.status.step.saturating_add(1);
        self.status.phase = Some(Phase::Progressing);
        self.status.pause_seconds_left = None;
        (self.memory.pause_until, self.memory.progress) = (None, None);
    }

    /// A batch is done, and the next one waits.
    pub(super) fn waits(&mut self) {
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

    pub(super) fn release_joined(&mut self) {
        if self.object.spec.joined_bases == JoinedBases::Release {
            let joined: Vec<_> = self.joined().into_iter().map(ToString::to_string).collect();
            let released = self.status.released.entry(self.current.to_string()).or_default();
            released.extend(joined);
            released.sort();
        }
    }
}
