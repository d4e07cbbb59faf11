//! What all who watch share: the checker, one clock, and a file in which all is written down.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;

use super::{
    checker::{Checker, Promise},
    event::{At, Event},
};

#[derive(Debug)]
pub(crate) struct Seen {
    began: (Instant, Timestamp),
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    checker: Checker,
    file: File,
    /// What went wrong, in words, and when that was over.
    faults: Vec<(At, String)>,
    /// How often, by kind.
    kinds: BTreeMap<String, u32>,
}

impl Inner {
    /// What breaks a promise stands in the file where it was found.
    fn observe(&mut self, at: At, event: Option<Event>) {
        let before = self.checker.all_broken().len();
        match event {
            Some(event) => self.checker.observe(at, event),
            None => self.checker.tick(at),
        }
        for broken in self.checker.all_broken().get(before..).unwrap_or_default() {
            let _ = writeln!(self.file, "{:9.3} !!! {broken:?}", at.as_secs_f64());
        }
    }
}

impl Seen {
    /// Writes what is seen to that file.
    pub(crate) fn new(file: &Path) -> Result<Self> {
        let inner = Inner {
            checker: Checker::default(),
            file: File::create(file)?,
            faults: Vec::new(),
            kinds: BTreeMap::new(),
        };
        Ok(Self { began: (Instant::now(), Timestamp::now()), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now.
    pub(crate) fn now(&self) -> At {
        self.began.0.elapsed()
    }

    /// A moment of this process.
    pub(crate) fn at(&self, moment: Instant) -> At {
        moment.saturating_duration_since(self.began.0)
    }

    /// A time of the clock on the wall.
    pub(crate) fn at_time(&self, time: Timestamp) -> At {
        Duration::try_from(time.duration_since(self.began.1)).unwrap_or_default()
    }

    /// Something was observed.
    pub(crate) fn see(&self, at: At, event: Event) {
        let mut inner = self.lock();
        let _ = writeln!(inner.file, "{:9.3} {event:?}", at.as_secs_f64());
        inner.observe(at, Some(event));
    }

    /// The same, of what is too much to be written down.
    pub(crate) fn see_quietly(&self, at: At, event: Event) {
        self.lock().observe(at, Some(event));
    }

    /// Time passes.
    pub(crate) fn tick(&self) {
        self.lock().observe(self.now(), None);
    }

    /// Something goes wrong, or is over.
    pub(crate) fn fault(&self, text: String, event: Option<Event>) {
        let at = self.now();
        let mut inner = self.lock();
        let _ = writeln!(inner.file, "{:9.3} === {text}", at.as_secs_f64());
        inner.faults.push((at, text));
        drop(inner);
        if let Some(event) = event {
            self.see(at, event);
        }
    }

    /// One more of a kind.
    pub(crate) fn count(&self, kind: String) {
        *self.lock().kinds.entry(kind).or_default() += 1;
    }

    /// A note for whoever reads the file.
    pub(crate) fn note(&self, text: &str) {
        let at = self.now();
        let _ = writeln!(self.lock().file, "{:9.3} --- {text}", at.as_secs_f64());
    }

    /// Looks at the checker.
    pub(crate) fn checker<T>(&self, look: impl FnOnce(&mut Checker) -> T) -> T {
        look(&mut self.lock().checker)
    }

    /// A promise that was looked at elsewhere: kept, or why not.
    pub(crate) fn held(&self, promise: Promise, outcome: Result<(), String>) {
        let at = self.now();
        self.checker(|checker| {
            checker.kept(promise);
            if let Err(text) = outcome {
                checker.broken(promise, at, text);
            }
        });
    }

    /// Faults by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<String, u32> {
        self.lock().kinds.clone()
    }

    /// What went wrong around a time.
    pub(crate) fn faults_around(&self, at: At, before: At, after: At) -> Vec<(At, String)> {
        let inner = self.lock();
        let near = |fault: &&(At, String)| fault.0 + before >= at && fault.0 <= at + after;
        inner.faults.iter().filter(near).cloned().collect()
    }
}
