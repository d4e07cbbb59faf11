//! Web modules, and the context paths that they are known to have: in the whole fleet, not on one base.
//!
//! Protocol fact: bases list a context path also for modules that are no web modules at all, and two versions of those
//! load beside each other well. So paths that are the same prove nothing. What proves something is a base that refused a
//! module because its path was taken: then that module has this path, and so has what was loaded there.
//!
//! Of a new version of a known web module nobody knows before it was tried. One base tries it, and the others wait.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::domain::{ModuleId, ModuleSpec, printable, times::Later};

/// More modules than this are not remembered; what was learned first is forgotten first.
const MOST: usize = 4096;
/// A longer path is none.
const LONGEST: usize = 255;
/// Others wait for a base that tries a version for so long,
const TRIAL: Duration = Duration::from_secs(30);
/// and for so many versions at a time.
const TRIALS: usize = 1024;
/// A jar that some base could fetch at most so long ago can be fetched.
const FETCHED_LATELY: Duration = Duration::from_secs(600);
/// The annotation that has the old version make room; see `k8s::names`.
const UPDATE: &str = "modulet.koupleless.io/update";

/// Something that a base shows of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Tells the module from all others, with its jar, args and environment.
    of: u64,
    says: Says,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    HasContext(WebContext),
    /// A base tries it beside a web module of the same name.
    IsTried,
    /// It has loaded there.
    LoadsBeside,
}

/// The context of a web module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct WebContext {
    /// As the web server calls it.
    pub(in crate::domain) path: Arc<str>,
    /// When a base could fetch the jar, if that is known.
    fetched: Option<Instant>,
}

impl WebContext {
    /// Whether two are one path: `/biz1` takes `biz1` over.
    pub(in crate::domain) fn is_at(&self, path: &str) -> bool {
        self.path.trim_matches('/') == path.trim_matches('/')
    }

    pub(in crate::domain) fn was_fetched_lately(&self, now: Instant) -> bool {
        self.fetched.is_some_and(|at| at.later(FETCHED_LATELY) > now)
    }
}

/// All that is known of web modules.
#[derive(Clone, Debug, Default)]
pub struct WebContexts {
    hasher: RandomState,
    /// With the order in which they were learned.
    known: HashMap<u64, (u64, WebContext)>,
    learned: u64,
    /// What is tried, until when others wait for that; none where they need not any more.
    trials: HashMap<u64, Option<Instant>>,
}

impl WebContexts {
    /// Takes note of what bases show. Returns whether that is the end of something that others wait for.
    pub fn learn(&mut self, lessons: &[Lesson], now: Instant) -> bool {
        let mut ended = false;
        for Lesson { of, says } in lessons {
            match says {
                Says::HasContext(context) => {
                    ended |= self.trials.remove(of).is_some();
                    self.has_context(*of, context.clone());
                }
                Says::IsTried => self.is_tried(*of, now),
                Says::LoadsBeside => ended |= self.trials.get_mut(of).is_some_and(|trial| trial.take().is_some()),
            }
        }
        ended
    }

    fn has_context(&mut self, of: u64, context: WebContext) {
        if self.known.len() >= MOST && !self.known.contains_key(&of) {
            let oldest = self.known.iter().min_by_key(|(_, (order, _))| *order).map(|(of, _)| *of);
            oldest.map(|of| self.known.remove(&of));
        }
        self.learned = self.learned.saturating_add(1);
        self.known.insert(of, (self.learned, context));
    }

    fn is_tried(&mut self, of: u64, now: Instant) {
        if self.trials.len() >= TRIALS {
            self.trials.retain(|_, until| until.is_some_and(|until| until > now));
        }
        if self.trials.len() < TRIALS {
            let until = self.trials.entry(of).or_insert(Some(now));
            *until = until.map(|_| now.later(TRIAL)); // what is known to load is not tried
        }
    }

    /// What is known of exactly that, or learned just now.
    pub(in crate::domain) fn of<'a>(&'a self, spec: &ModuleSpec, just_now: &'a [Lesson]) -> Option<&'a WebContext> {
        if self.known.is_empty() && just_now.is_empty() {
            return None;
        }
        let of = self.tells(spec);
        let learned = just_now.iter().rev().find_map(|lesson| match &lesson.says {
            Says::HasContext(context) if lesson.of == of => Some(context),
            _ => None,
        });
        learned.or_else(|| self.known.get(&of).map(|(_, context)| context))
    }

    /// That a module has this path, where it is news. What a Pod's status shows (not `fetched`) is older than what is
    /// known.
    pub(in crate::domain) fn lesson(&self, spec: &ModuleSpec, path: &str, fetched: Option<Instant>) -> Option<Lesson> {
        let of = self.tells(spec);
        let known = self.known.get(&of).map(|(_, context)| context);
        let is_news = known.is_none_or(|known| fetched > known.fetched);
        is_news.then(|| Lesson { of, says: Says::HasContext(WebContext { path: path.into(), fetched }) })
    }

    /// Until when a base tries it.
    pub(in crate::domain) fn tried_until(&self, spec: &ModuleSpec, now: Instant) -> Option<Instant> {
        if self.trials.is_empty() {
            return None;
        }
        self.trials.get(&self.tells(spec)).copied().flatten().filter(|until| *until > now)
    }

    /// A base tries it.
    pub(in crate::domain) fn trial(&self, spec: &ModuleSpec) -> Lesson {
        Lesson { of: self.tells(spec), says: Says::IsTried }
    }

    /// It has loaded beside another version, where others wait for that.
    pub(in crate::domain) fn loads_beside(&self, spec: &ModuleSpec, now: Instant) -> Option<Lesson> {
        self.tried_until(spec, now).map(|_| Lesson { of: self.tells(spec), says: Says::LoadsBeside })
    }

    fn tells(&self, spec: &ModuleSpec) -> u64 {
        self.hasher.hash_one((&spec.id, &spec.url, &spec.args, &spec.envs))
    }
}

/// The path that a base says is taken, in the words of its web server (Tomcat's, which has changed the quotes).
pub(super) fn taken_path(message: &str) -> Option<&str> {
    let (quoted, _) = message.split_once("Child name ")?.1.split_once(" is not unique")?;
    let path = quoted.strip_prefix(['[', '\''])?.strip_suffix([']', '\''])?;
    (path.len() <= LONGEST && printable(path, LONGEST) == path).then_some(path)
}

/// Why a module cannot be loaded, for its Pod's status: `holder` has its path, as far as that is known.
pub(in crate::domain) fn in_use(id: &ModuleId, holder: Option<&ModuleId>, path: &str) -> String {
    let said = format!("(Child name [{path}] is not unique)");
    match holder {
        Some(other) if other.name == id.name => format!(
            "{id} cannot be loaded beside {other}, which has the context path {path} on this base {said}. Ways out: a \
             Deployment with maxSurge 0, lifecycle.preStop.sleep and anti-affinity on the module's name alone, so that \
             the old version goes first, as in examples/strategies/web-module.yaml; the annotation {UPDATE}: replace in \
             the Pod template; or a context path for each version; see docs/strategies/traffic.md"
        ),
        Some(other) => format!(
            "{id} cannot be loaded beside {other}, which has the context path {path} on this base {said}. Give one of \
             them another path"
        ),
        None => format!(
            "{id} cannot be loaded: another module of the base, or the base itself, has the context path {path} {said}. \
             Give one of them another path"
        ),
    }
}

/// The path in a Pod's status that says so of this module: the memory that survives a restart.
pub fn path_in_use(id: &ModuleId, message: &str) -> Option<String> {
    message.strip_prefix(&id.to_string())?.starts_with(" cannot be loaded").then_some(())?;
    taken_path(message).map(str::to_owned)
}
