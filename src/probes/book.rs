//! What is asked when, and what answers come to. Nothing here does I/O or reads a clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use super::attempt::{Attempt, Outcome};
use crate::domain::{BaseId, Later, PodUid, Probe, ProbeFact, ProbeKind, ProbeOrder, ProbeSays, ProbeTarget, Tally};

/// Questions to one base at a time: one whose answers hang must not take all connections.
const OPEN_TO_ONE: usize = 8;
/// What is due beyond that is looked at again after this time.
const LATER: Duration = Duration::from_millis(250);
/// The same is not said again within this time.
const SAID_FOR: Duration = Duration::from_secs(60);

/// All that is asked.
#[derive(Debug, Default)]
pub(super) struct Book {
    bases: HashMap<BaseId, OfBase>,
    asked: HashMap<u64, Asked>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    last: u64,
    random: RandomState,
}

#[derive(Debug)]
struct OfBase {
    address: Arc<str>,
    busy: bool,
    open: usize,
    containers: BTreeMap<(PodUid, String), OfContainer>,
}

#[derive(Debug)]
struct OfContainer {
    run: u32,
    /// What is asked of it now.
    asked: Vec<u64>,
}

/// One probe that is asked again and again.
#[derive(Debug)]
struct Asked {
    base: BaseId,
    target: ProbeTarget,
    kind: ProbeKind,
    tally: Tally,
    /// What its answers came to; none: nothing yet.
    says: Option<bool>,
    /// What was last said of a single answer, and when.
    told: Option<(Instant, String)>,
    /// When it is asked next; none: it is being asked, or is not asked any more.
    at: Option<Instant>,
}

impl Asked {
    fn probe(&self) -> Option<&Probe> {
        self.target.probes.of(self.kind)
    }

    fn fact(&self, says: ProbeSays) -> ProbeFact {
        let ProbeTarget { pod, container, run, .. } = &self.target;
        let (pod, container) = (pod.clone(), container.clone());
        ProbeFact { base: self.base.clone(), pod, container, run: *run, kind: self.kind, says }
    }

    /// Whether this is worth an Event: not the same, and not each time.
    fn is_news(&mut self, what: &str, now: Instant) -> bool {
        let news = self
            .told
            .as_ref()
            .is_none_or(|(at, said)| (said != what || self.tally.has_turned()) && at.later(SAID_FOR) <= now);
        if news {
            self.told = Some((now, what.to_owned()));
        }
        news
    }
}

impl Book {
    /// From now on this is asked of the base, and nothing else.
    pub(super) fn set(&mut self, order: ProbeOrder, now: Instant) {
        let ProbeOrder { base, address, busy, targets } = order;
        if self.bases.get(&base).is_some_and(|known| known.address != address) {
            self.forget(&base);
        }
        if targets.is_empty() {
            return self.forget(&base);
        }
        let known = self.bases.entry(base.clone()).or_insert_with(|| OfBase {
            address,
            busy,
            open: 0,
            containers: BTreeMap::new(),
        });
        known.busy = busy;
        let mut before = std::mem::take(&mut known.containers);
        let mut containers = BTreeMap::new();
        let mut new = Vec::new();
        for target in targets {
            let key = (target.pod.clone(), target.container.clone());
            match before.remove(&key) {
                Some(of) if of.run == target.run => drop(containers.insert(key, of)),
                other => {
                    before.extend(other.map(|of| (key, of)));
                    new.push(target);
                }
            }
        }
        known.containers = containers;
        for id in before.into_values().flat_map(|of| of.asked) {
            self.asked.remove(&id);
        }
        for target in new {
            let started = target.started || target.probes.startup.is_none();
            let kinds: &[_] =
                if started { &[ProbeKind::Readiness, ProbeKind::Liveness] } else { &[ProbeKind::Startup] };
            self.begin(&base, target, kinds, now);
        }
        self.tidy();
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Something that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Attempt> {
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, id))) = self.due.pop() else { break };
            // It may be another time by now, or never.
            let Some(asked) = self.asked.get_mut(&id).filter(|asked| asked.at == Some(at)) else { continue };
            let Some(base) = self.bases.get_mut(&asked.base) else { continue };
            if base.open >= OPEN_TO_ONE {
                let later = now.later(LATER);
                asked.at = Some(later);
                self.due.push(Reverse((later, id)));
                continue;
            }
            base.open = base.open.saturating_add(1);
            asked.at = None;
            return Some(Attempt {
                id,
                base: asked.base.clone(),
                address: Arc::clone(&base.address),
                probes: Arc::clone(&asked.target.probes),
                kind: asked.kind,
                began: now,
                busy: base.busy,
            });
        }
        None
    }

    /// An attempt ended. Returns what is news.
    pub(super) fn ended(&mut self, attempt: &Attempt, outcome: Outcome, now: Instant) -> Vec<ProbeFact> {
        let base = self.bases.get_mut(&attempt.base);
        let busy = attempt.busy || base.as_ref().is_some_and(|base| base.busy);
        base.into_iter().for_each(|base| base.open = base.open.saturating_sub(1));
        let Some(asked) = self.asked.get_mut(&attempt.id) else { return Vec::new() };
        let Some(probe) = asked.probe().cloned() else { return Vec::new() };
        let mut news = Vec::new();
        let comes_to = match &outcome {
            Outcome::Success | Outcome::Warning(_) => asked.tally.count(true, &probe),
            // A base that works for us may be slow to answer others.
            Outcome::Failure(_) if busy => None,
            Outcome::Failure(_) => asked.tally.count(false, &probe),
            Outcome::Unknown => None,
        };
        match outcome {
            Outcome::Failure(why) => {
                if !busy && asked.is_news(&why, now) {
                    news.push(asked.fact(ProbeSays::Failed(why.clone())));
                }
                if comes_to == Some(false) && asked.says != Some(false) {
                    news.push(asked.fact(ProbeSays::Fails(why)));
                }
            }
            Outcome::Warning(what) if asked.is_news(&what, now) => news.push(asked.fact(ProbeSays::Warns(what))),
            Outcome::Success | Outcome::Warning(_) | Outcome::Unknown => {}
        }
        if comes_to == Some(true) && asked.says != Some(true) {
            news.push(asked.fact(ProbeSays::Succeeds));
        }
        asked.says = comes_to.or(asked.says);
        let is_over = match asked.kind {
            ProbeKind::Readiness => false,
            // It is started anew.
            ProbeKind::Liveness => asked.says == Some(false),
            ProbeKind::Startup => asked.says.is_some(),
        };
        if is_over {
            if asked.kind == ProbeKind::Startup && asked.says == Some(true) {
                let (base, target) = (asked.base.clone(), asked.target.clone());
                self.asked.remove(&attempt.id);
                self.begin(&base, target, &[ProbeKind::Readiness, ProbeKind::Liveness], now);
            }
            return news;
        }
        let at = attempt.began.later(probe.period).max(now);
        asked.at = Some(at);
        self.due.push(Reverse((at, attempt.id)));
        news
    }

    fn begin(&mut self, base: &BaseId, target: ProbeTarget, kinds: &[ProbeKind], now: Instant) {
        let mut ids = Vec::new();
        for kind in kinds {
            let Some(probe) = target.probes.of(*kind) else { continue };
            self.last = self.last.wrapping_add(1);
            let (id, at) = (self.last, now.later(self.first(probe, target.active_for)));
            let says = match kind {
                ProbeKind::Startup => None,
                ProbeKind::Readiness => Some(target.ready),
                ProbeKind::Liveness => Some(true),
            };
            let (base, target, kind) = (base.clone(), target.clone(), *kind);
            let asked = Asked { base, target, kind, tally: Tally::default(), says, told: None, at: Some(at) };
            self.asked.insert(id, asked);
            self.due.push(Reverse((at, id)));
            ids.push(id);
        }
        let (key, run) = ((target.pod, target.container), target.run);
        if let Some(base) = self.bases.get_mut(base) {
            base.containers.insert(key, OfContainer { run, asked: ids });
        }
    }

    /// How long it is until the first question. What runs for some time already is asked at any moment of the period:
    /// after a start all bases are known at once.
    fn first(&self, probe: &Probe, active_for: Option<Duration>) -> Duration {
        match active_for {
            Some(active_for) if active_for < probe.initial_delay => probe.initial_delay.saturating_sub(active_for),
            Some(active_for) if active_for < probe.period => Duration::ZERO,
            _ => {
                let part = u32::try_from(self.random.hash_one(self.last) % 1000).unwrap_or(0);
                probe.period.min(Duration::from_secs(3600)).saturating_mul(part).checked_div(1000).unwrap_or_default()
            }
        }
    }

    fn forget(&mut self, base: &BaseId) {
        let containers = self.bases.remove(base).map(|known| known.containers).unwrap_or_default();
        for id in containers.into_values().flat_map(|of| of.asked) {
            self.asked.remove(&id);
        }
        self.tidy();
    }

    /// What is not asked any more leaves the line, before there is more of it than of what is.
    fn tidy(&mut self) {
        if self.due.len() > self.asked.len().saturating_mul(2).saturating_add(64) {
            let asked = &self.asked;
            self.due.retain(|Reverse((at, id))| asked.get(id).is_some_and(|asked| asked.at == Some(*at)));
        }
    }
}
