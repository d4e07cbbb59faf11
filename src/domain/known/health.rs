//! What is known of a base's JVM, and when to ask for it again.
//!
//! Protocol fact: a base that has only just started answers the health question without its JVM's
//! figures, and some never name them. So the question is repeated, with growing pauses.
//!
//! Modules are classes, and classes fill the JVM's metaspace: after installs and uninstalls it is asked again how much is
//! left, and while a Pod waits for room.

use std::time::{Duration, Instant};

use crate::domain::{Backoff, Lack, Metaspace, MetaspaceRules, ModuleId, Took, times::Later};

/// Between health questions about the JVM that stay open or are answered in part: 10 s, 20 s … 5 min.
const QUESTIONS: Backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

/// A JVM that is new again and again (a base that asks for its baseline in a loop) is asked this often at most.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// Installs and uninstalls that ended are followed by one question in this time,
const AFTER_CHANGES_EVERY: Duration = Duration::from_secs(10);
/// metaspace that is nearly used up, or a question that stays open, by one in this,
const WATCH_EVERY: Duration = Duration::from_secs(300);
/// and a Pod that waits for room by one in this.
const WAITING_EVERY: Duration = Duration::from_secs(20);
/// It is remembered of so many modules of one JVM what they took.
const LOADED: usize = 256;
/// Above this share of its limit, in percent, a JVM has collected what it can.
const COLLECTED_ABOVE: u64 = 98;
/// No Pod is told to wait by a figure that is older,
const FRESH: Duration = Duration::from_secs(60);
/// and none waits longer for a newer one.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is known of a base's JVM.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::domain) struct JvmKnowledge {
    complete: bool,
    /// There was another JVM before: an answer to a question from its time is about that one.
    renewed: bool,
    /// Questions since the JVM was new.
    asked: u32,
    last_asked: Option<Instant>,
    /// What it said last of its metaspace, and when; none where there is no limit.
    metaspace: Option<(Metaspace, Instant)>,
    /// When the last install or uninstall ended that no answer knows of,
    changed: Option<Instant>,
    /// and what such installs took, as they say.
    unmeasured: u64,
    /// Since when a Pod waits for room.
    wanted: Option<Instant>,
    /// It was asked for that in vain.
    says_nothing: bool,
    /// What the module took that was uninstalled last, and how much metaspace was used before that.
    uninstalled: Option<(u64, u64)>,
    /// What the last module left behind that went, in bytes.
    left_behind: Option<u64>,
    /// What modules took that are loaded, of installs that ran alone: of others nobody knows.
    loaded: Vec<(ModuleId, u64)>,
    /// What those of them took that went since it was last seen to collect,
    garbage: u64,
    /// and whether it gave most of that back then.
    collects: bool,
}

/// Whether there is room for a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Room {
    /// There is, as far as is known.
    Enough,
    /// There is once the JVM has collected what modules left behind.
    AfterCollecting,
    /// Not by what was said last, which may be so no more.
    Unclear,
    /// There is not.
    Lacking(Lack),
}

impl JvmKnowledge {
    /// What was known was about another JVM.
    pub(in crate::domain) fn is_new(&mut self) {
        *self = Self { renewed: true, last_asked: self.last_asked, ..Self::default() };
    }

    /// A health question went out, whatever for.
    pub(in crate::domain) fn asked(&mut self, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        self.last_asked = Some(now);
    }

    /// Health came; `complete`: it names the JVM. What was known of this JVM stays known.
    pub(in crate::domain) fn answered(&mut self, complete: bool) {
        self.complete |= complete && (self.asked > 0 || !self.renewed);
        if self.last_asked >= self.changed {
            self.changed = None;
        }
    }

    /// It said how much metaspace it uses, or that it has no limit.
    pub(in crate::domain) fn measured(&mut self, metaspace: Option<Metaspace>, now: Instant) {
        metaspace.into_iter().for_each(|metaspace| self.sees_collection(metaspace));
        self.metaspace = metaspace.map(|m| (m, now));
        self.says_nothing = false;
        if self.changed.is_some() {
            return;
        }
        self.unmeasured = 0;
        if let Some((metaspace, (took, before))) = metaspace.zip(self.uninstalled) {
            let gave_back = before.saturating_sub(metaspace.used);
            self.left_behind = Some(took.saturating_sub(gave_back));
        }
    }

    /// Something is loaded for which it has to collect: what there was to collect is not there a second time, and what
    /// the install says that it took will hide that it went.
    pub(in crate::domain) fn must_collect(&mut self) {
        self.garbage = 0;
    }

    /// A JVM collects what modules left behind when it has to, often at its limit and not before: until then it counts as
    /// used. One that was seen to give most of it back has room for more.
    fn sees_collection(&mut self, metaspace: Metaspace) {
        let before = self.metaspace.map_or(0, |(before, _)| before.used);
        let dropped = before.saturating_sub(metaspace.used);
        // What was loaded meanwhile may hide that it collected.
        if self.garbage > 0 && before.saturating_add(self.unmeasured) > metaspace.used {
            self.collects = if dropped > 0 { dropped >= self.garbage / 2 } else { self.collects };
            self.garbage = 0;
        } else if metaspace.percent() > COLLECTED_ABOVE {
            self.collects = false;
        }
    }

    /// An install says that it took this much. If it did not run alone, others are in that.
    pub(in crate::domain) fn took(&mut self, took: &Took, alone: bool) {
        self.unmeasured = self.unmeasured.saturating_add(took.bytes);
        self.loaded.retain(|(id, _)| *id != took.module);
        if alone && self.loaded.len() < LOADED {
            self.loaded.reserve_exact(1);
            self.loaded.push((took.module.clone(), took.bytes));
        }
    }

    /// An install has ended, well or not: both load classes.
    pub(in crate::domain) fn install_ended(&mut self, now: Instant) {
        self.changed = Some(now);
        self.uninstalled = None;
    }

    /// A module is gone. What it leaves behind can be told where all that was loaded before was measured, and it is known
    /// what its install took here: what others are believed to need is another JVM's.
    pub(in crate::domain) fn uninstalled(&mut self, id: &ModuleId, now: Instant) {
        let current = self.metaspace.filter(|_| self.changed.is_none());
        let took =
            self.loaded.extract_if(.., |(loaded, _)| loaded == id).map(|(_, took)| took).reduce(u64::saturating_add);
        self.uninstalled = took.zip(current.map(|(metaspace, _)| metaspace.used));
        self.changed = Some(now);
        self.garbage = self.garbage.saturating_add(took.unwrap_or(0));
    }

    /// Whether a Pod waits for room. Says whether it waits no longer, because nothing is said of that.
    pub(in crate::domain) fn is_wanted(&mut self, wanted: bool, now: Instant) -> bool {
        self.wanted = wanted.then(|| self.wanted.unwrap_or(now));
        let measured = self.metaspace.map(|(_, measured)| measured);
        let overdue =
            self.wanted.is_some_and(|since| now >= measured.map_or(since, |at| at.max(since)).later(PATIENCE));
        self.says_nothing |= overdue;
        overdue
    }

    /// Whether there is room for a module that needs this much, beside what is being loaded. `waited`: by another process,
    /// or another JVM, there was not.
    pub(in crate::domain) fn room(
        &self,
        need: u64,
        under_way: u64,
        waited: bool,
        rules: &MetaspaceRules,
        now: Instant,
    ) -> Room {
        let Some((metaspace, measured)) = self.metaspace.filter(|_| !self.says_nothing) else {
            let is_told_soon = waited && !self.complete && !self.says_nothing;
            return if is_told_soon { Room::Unclear } else { Room::Enough };
        };
        let collected = if self.collects { self.garbage } else { 0 };
        let (free, wanted) = (metaspace.left(rules), need.saturating_add(under_way).saturating_add(self.unmeasured));
        let left = free.saturating_add(collected);
        if wanted <= left {
            return if wanted <= free { Room::Enough } else { Room::AfterCollecting };
        }
        let is_known = self.changed.is_none() && now < measured.later(FRESH);
        if is_known && need > left { Room::Lacking(Lack::new(need, left, metaspace.max)) } else { Room::Unclear }
    }

    pub(in crate::domain) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What it said last of its metaspace, and what the last module left behind that went.
    pub(in crate::domain) fn metaspace(&self) -> (Option<Metaspace>, Option<u64>) {
        (self.metaspace.map(|(metaspace, _)| metaspace), self.left_behind)
    }

    /// When to ask, where anything is left to know.
    pub(in crate::domain) fn ask_at(&self, rules: &MetaspaceRules, now: Instant) -> Option<Instant> {
        if !self.complete {
            let pause = if self.asked == 0 { AT_MOST_EVERY } else { QUESTIONS.delay(self.asked) };
            return Some(self.last_asked.map_or(now, |asked| asked.later(pause)));
        }
        let (metaspace, measured) = self.metaspace?;
        let after_change = self.changed.map(|changed| match self.last_asked {
            Some(asked) if asked >= changed => asked.later(WATCH_EVERY),
            Some(asked) => changed.max(asked.later(AFTER_CHANGES_EVERY)),
            None => changed,
        });
        let last = self.last_asked.map_or(measured, |asked| asked.max(measured));
        let watch = metaspace.is_watched(rules).then(|| last.later(WATCH_EVERY));
        let waiting = self.wanted.map(|since| last.later(WAITING_EVERY).max(since));
        after_change.into_iter().chain(watch).chain(waiting).min()
    }
}
