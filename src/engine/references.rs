//! Objects that environments refer to: read when a Pod comes, and again while they are missing; forgotten with the
//! last Pod that refers to them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{
    api::Read,
    domain::{Backoff, Later, PodUid},
    k8s::{Reference, Referred},
    planning::{Effect, Schedule, Task},
};

/// What was read this lately is not read again for another Pod of the same rollout.
const FRESH: Duration = Duration::from_secs(5);
/// Something missing is looked for after these times.
const MISSING: Backoff = Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(60) };
/// A read that is lost is made again after this.
const LOST: Duration = Duration::from_secs(30);

/// How a Pod refers to an object.
#[derive(Debug)]
struct User {
    /// It cannot do without.
    needs: bool,
    /// It was told that there is none.
    told: bool,
}

/// Whom it concerns that an object was read.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Pods that see something else now.
    pub(super) changed: Vec<PodUid>,
    /// Those that are to be told that it does not exist, and whether they cannot do without.
    pub(super) missed: Vec<(PodUid, bool)>,
}

/// An object that Pods refer to.
#[derive(Debug, Default)]
struct Referral {
    users: HashMap<PodUid, User>,
    read_at: Option<Instant>,
    due: Option<Instant>,
    /// Times in a row that it was not there.
    missing: u32,
    /// It is being read.
    reading: bool,
}

/// What has been read, and what is to be.
#[derive(Debug, Default)]
pub(super) struct References {
    /// What was read, for as long as a Pod refers to it.
    pub(super) known: HashMap<Reference, Referred>,
    referrals: HashMap<Reference, Referral>,
    by_pod: HashMap<PodUid, BTreeSet<Reference>>,
}

impl References {
    /// A Pod that refers to objects, and needs some of them, has come: it is to see them as they are now. It may have been
    /// told before that they are missing.
    pub(super) fn wanted(
        &mut self,
        pod: &PodUid,
        wanted: BTreeMap<Reference, bool>,
        told: bool,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        for (reference, &needs) in &wanted {
            let referral = self.referrals.entry(reference.clone()).or_default();
            referral.users.insert(pod.clone(), User { needs, told });
            let fresh = referral.read_at.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
            // One that is missing is looked for at once for a Pod that comes.
            if !fresh && (referral.due.is_none() || referral.missing > 0 && !referral.reading) {
                referral.due = Some(now);
                schedule.wake(&Task::References, now);
            }
        }
        if !wanted.is_empty() {
            self.by_pod.insert(pod.clone(), wanted.into_keys().collect());
        }
    }

    /// A Pod is gone: what only it referred to is forgotten, Secrets above all.
    pub(super) fn user_gone(&mut self, pod: &PodUid) {
        for reference in self.by_pod.remove(pod).unwrap_or_default() {
            let Some(referral) = self.referrals.get_mut(&reference) else { continue };
            referral.users.remove(pod);
            if referral.users.is_empty() {
                self.referrals.remove(&reference);
                self.known.remove(&reference);
            }
        }
    }

    /// Reads that are due now.
    pub(super) fn plan(&mut self, now: Instant, schedule: &mut Schedule, out: &mut Vec<Effect>) {
        for (reference, referral) in &mut self.referrals {
            let Some(due) = referral.due else { continue };
            if due <= now {
                out.push(Effect::Read(reference.clone()));
                (referral.due, referral.reading) = (Some(now.later(LOST)), true);
            }
            schedule.wake(&Task::References, referral.due.unwrap_or(due));
        }
    }

    /// An object was read.
    pub(super) fn read(&mut self, read: Read, now: Instant, schedule: &mut Schedule) -> Users {
        let (Read { reference, referred }, mut users) = (read, Users::default());
        let Some(referral) = self.referrals.get_mut(&reference) else { return users };
        (referral.read_at, referral.reading) = (Some(now), false);
        let found = matches!(referred, Referred::Data(_));
        referral.missing = if found { 0 } else { referral.missing.saturating_add(1) };
        referral.due = (!found).then(|| now.later(MISSING.delay(referral.missing)));
        if let Some(due) = referral.due {
            schedule.wake(&Task::References, due);
        }
        for (pod, user) in &mut referral.users {
            match &referred {
                Referred::Missing if !std::mem::replace(&mut user.told, true) => {
                    users.missed.push((pod.clone(), user.needs));
                }
                // It may go again.
                Referred::Data(_) => user.told = false,
                Referred::Missing | Referred::Unreadable(_) => {}
            }
        }
        if self.known.get(&reference) != Some(&referred) {
            users.changed = referral.users.keys().cloned().collect();
            self.known.insert(reference, referred);
        }
        users
    }

    /// How many objects are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.referrals.len() + self.by_pod.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_pod_that_is_gone_referred_to_does_not_stay_in_memory() {
        let (now, mut schedule, mut references) = (Instant::now(), Schedule::default(), References::default());
        let secret = Reference::Secret("ns".into(), "s".into());
        let pods: [PodUid; 2] = ["p1".into(), "p2".into()];
        for pod in &pods {
            references.wanted(pod, BTreeMap::from([(secret.clone(), true)]), false, now, &mut schedule);
        }
        let mut out = Vec::new();
        references.plan(now, &mut schedule, &mut out);
        assert_eq!(out.len(), 1, "one read for both");
        let data = Referred::Data(BTreeMap::from([("password".to_owned(), "x".to_owned())]));
        let read = Read { reference: secret, referred: data };
        assert_eq!(references.read(read, now, &mut schedule).changed.len(), 2);
        references.user_gone(&pods[0]);
        assert!(!references.known.is_empty());
        references.user_gone(&pods[1]);
        assert_eq!(references.len(), 0);
    }

    #[test]
    fn what_is_missing_is_looked_for_ever_more_seldom_and_at_once_for_a_pod_that_comes() {
        let (start, mut schedule, mut references) = (Instant::now(), Schedule::default(), References::default());
        let missing = Reference::ConfigMap("ns".into(), "none".into());
        references.wanted(&"p1".into(), BTreeMap::from([(missing.clone(), true)]), false, start, &mut schedule);
        let mut reads = Vec::new();
        let mut look = |references: &mut References, schedule: &mut Schedule, seconds| {
            let (now, mut out) = (start + Duration::from_secs(seconds), Vec::new());
            references.plan(now, schedule, &mut out);
            for _ in &out {
                reads.push(seconds);
                let read = Read { reference: missing.clone(), referred: Referred::Missing };
                references.read(read, now, schedule);
            }
            out.len()
        };
        for second in 0..3600 {
            look(&mut references, &mut schedule, second);
        }
        assert_eq!(look(&mut references, &mut schedule, 3600), 0);
        references.wanted(
            &"p2".into(),
            BTreeMap::from([(missing.clone(), true)]),
            false,
            start + Duration::from_secs(3600),
            &mut schedule,
        );
        assert_eq!(look(&mut references, &mut schedule, 3600), 1, "at once");
        assert!((60..=70).contains(&reads.len()), "{} reads in an hour", reads.len());
        assert_eq!(reads[..4], [0, 5, 15, 35]);
    }

    #[test]
    fn each_pod_is_told_once_that_an_object_is_missing_and_again_if_it_goes_once_more() {
        let (now, mut schedule, mut references) = (Instant::now(), Schedule::default(), References::default());
        let secret = Reference::Secret("ns".into(), "s".into());
        let mut comes = |references: &mut References, pod: &str, needs, told| {
            references.wanted(&pod.into(), BTreeMap::from([(secret.clone(), needs)]), told, now, &mut schedule);
        };
        comes(&mut references, "needs", true, false);
        comes(&mut references, "told", true, true);
        let mut schedule = Schedule::default();
        let mut missed = |references: &mut References, referred| {
            let mut missed = references.read(Read { reference: secret.clone(), referred }, now, &mut schedule).missed;
            missed.sort();
            missed
        };
        assert_eq!(missed(&mut references, Referred::Missing), [("needs".into(), true)]);
        assert_eq!(missed(&mut references, Referred::Missing), []);
        // It is known to be missing already when another Pod comes.
        comes(&mut references, "can-do-without", false, false);
        assert_eq!(missed(&mut references, Referred::Missing), [("can-do-without".into(), false)]);
        assert_eq!(missed(&mut references, Referred::Unreadable("why".to_owned())), []);
        assert_eq!(missed(&mut references, Referred::Missing), []);
        assert_eq!(missed(&mut references, Referred::Data(BTreeMap::new())), []);
        assert_eq!(missed(&mut references, Referred::Missing).len(), 3);
    }

    #[test]
    fn an_answer_that_comes_when_nobody_refers_to_it_any_more_is_not_kept() {
        let (now, mut schedule, mut references) = (Instant::now(), Schedule::default(), References::default());
        let reference = Reference::Secret("ns".into(), "s".into());
        references.wanted(&"p1".into(), BTreeMap::from([(reference.clone(), true)]), false, now, &mut schedule);
        references.user_gone(&"p1".into());
        references.read(Read { reference, referred: Referred::Data(BTreeMap::new()) }, now, &mut schedule);
        assert_eq!(references.len(), 0);
    }
}
