//! An object that a watch shows and that we write.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Pace;
use crate::domain::{Backoff, Later};

/// A write whose echo does not come within this time is not waited for any more: the object may have been deleted
/// and made again between the write and its answer, or a list may have come instead.
const ECHO: Duration = Duration::from_secs(30);

/// So many writes in a row are an object's story; what comes on top of them is somebody's noise.
const BURST: u32 = 20;
/// And then one in this time.
const EVERY: Duration = Duration::from_secs(5);

/// The object's resource version. One that can't be read counts as the newest.
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// What is known of one object `K`: as the watch showed it, and what the write `W` on its way does to it.
///
/// Resource versions of one kind are ordered (Kubernetes convention); an object that is shown with an older version
/// than our last write made is from before it.
#[derive(Debug)]
pub struct Tracked<K, W = ()> {
    object: Option<K>,
    writing: Option<W>,
    /// It went while the write was on its way: what the write did is gone too.
    went: bool,
    failures: u32,
    not_before: Option<Instant>,
    written: u64,
    /// The version that the watch showed last. It may show what a write did before the write is answered.
    seen: u64,
    echo_by: Option<Instant>,
    /// None: it is written as often as it has to be, since others wait for it.
    pace: Option<Pace>,
}

impl<K, W> Default for Tracked<K, W> {
    fn default() -> Self {
        Self {
            object: None,
            writing: None,
            went: false,
            failures: 0,
            not_before: None,
            written: 0,
            seen: 0,
            echo_by: None,
            pace: Some(Pace::new(BURST, EVERY)),
        }
    }
}

impl<K, W> Tracked<K, W> {
    /// An object whose writes others wait for.
    pub fn unpaced() -> Self {
        Self { pace: None, ..Self::default() }
    }

    /// An object that is there already.
    pub fn of(object: K) -> Self {
        Self { object: Some(object), ..Self::default() }
    }

    /// The object as far as is known.
    pub fn object(&self) -> Option<&K> {
        self.object.as_ref()
    }

    /// The object, to note what is assumed of it until the watch shows it.
    pub fn object_mut(&mut self) -> Option<&mut K> {
        self.object.as_mut()
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.object.is_some()
    }

    /// Whether the watch can still show what this version was before our last write.
    pub fn is_outdated(&self, version: u64) -> bool {
        version < self.written
    }

    /// The watch shows it. False if that is from before our own write, and was not taken.
    pub fn observed(&mut self, object: K, version: u64) -> bool {
        if self.is_outdated(version) {
            return false;
        }
        (self.object, self.seen, self.echo_by) = (Some(object), version, None);
        true
    }

    /// It is gone.
    pub fn gone(&mut self) {
        self.went = self.writing.is_some();
        (self.object, self.echo_by) = (None, None);
    }

    /// When a write can go out: now, or later if the last one failed, the watch has yet to show what it did, or there
    /// were many. None: the end of the write on its way will tell.
    pub fn next_write(&self, now: Instant) -> Option<Instant> {
        let paced = self.pace.map_or(now, |pace| pace.next(now));
        let at = [self.not_before, self.echo_by].into_iter().flatten().fold(paced, Instant::max);
        self.writing.is_none().then_some(at)
    }

    /// A write goes out.
    pub fn write(&mut self, what: W, now: Instant) {
        self.went = false;
        self.writing = Some(what);
        self.echo_by = None;
        if let Some(pace) = &mut self.pace {
            pace.take(now);
        }
    }

    /// What the write on its way does.
    pub fn writing(&self) -> Option<&W> {
        self.writing.as_ref()
    }

    /// The last write failed, so the next may too.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether a failure now is worth reporting: the first, and then ever more seldom.
    pub fn reports_failure(&self) -> bool {
        self.failures.is_power_of_two()
    }

    /// The write ended well, and the object has this version now; 0 if it is gone. Returns what it did.
    pub fn succeeded(&mut self, version: u64) -> Option<W> {
        (self.failures, self.not_before) = (0, None);
        self.written = self.written.max(version);
        self.writing.take()
    }

    /// Waits for the watch to show what the last write did, for some time, unless it has already.
    pub fn await_echo(&mut self, now: Instant) {
        if !std::mem::take(&mut self.went) && self.seen < self.written {
            self.echo_by = Some(now.later(ECHO));
        }
    }

    /// The write failed; the next one waits longer each time. Returns what it would have done.
    pub fn failed(&mut self, now: Instant) -> Option<W> {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now.later(Backoff::WRITE.delay(self.failures)));
        self.writing.take()
    }

    /// The next write need not wait for anything: what stood in its way is gone.
    pub fn at_once(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }
}

/// An object of which nothing but its existence matters: a write that succeeds tells all that a watch would.
impl<W> Tracked<(), W> {
    /// The write ended well: the object is there, with this version. Returns what it did.
    pub fn created_or_updated(&mut self, version: u64) -> Option<W> {
        self.observed((), version);
        self.succeeded(version)
    }

    /// The write failed; `exists` is whether the object is there, where the answer tells. Returns what it would have
    /// done.
    pub fn failed_with(&mut self, exists: Option<bool>, now: Instant) -> Option<W> {
        match exists {
            Some(true) => drop(self.observed((), u64::MAX)),
            Some(false) => self.gone(),
            None => {}
        }
        self.failed(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_at_a_time_and_the_next_when_its_echo_has_come() {
        let now = Instant::now();
        let mut tracked = Tracked::<&str, &str>::of("old");
        assert_eq!(tracked.next_write(now), Some(now));
        tracked.write("new", now);
        assert_eq!(tracked.next_write(now), None);
        assert_eq!(tracked.succeeded(7), Some("new"));
        tracked.await_echo(now);
        assert_eq!(tracked.next_write(now), Some(now + ECHO));
        assert!(!tracked.observed("older", 6), "from before the write");
        assert!(tracked.observed("new", 7));
        assert_eq!((tracked.object(), tracked.next_write(now)), (Some(&"new"), Some(now)));
    }

    #[test]
    fn an_echo_that_comes_before_the_answer_is_not_waited_for() {
        let now = Instant::now();
        for shown in [7, 8] {
            let mut tracked = Tracked::<&str>::of("old");
            tracked.write((), now);
            assert!(tracked.observed("new", shown));
            tracked.succeeded(7);
            tracked.await_echo(now);
            assert_eq!(tracked.next_write(now), Some(now), "version {shown} was shown");
        }
        let mut tracked = Tracked::<&str>::of("old");
        tracked.write((), now);
        assert!(tracked.observed("by somebody else, before ours", 6));
        tracked.succeeded(7);
        tracked.await_echo(now);
        assert_eq!(tracked.next_write(now), Some(now + ECHO), "what was shown is from before it");
    }

    #[test]
    fn an_echo_that_never_comes_is_not_waited_for_for_ever() {
        let now = Instant::now();
        let mut tracked = Tracked::<&str>::of("object");
        tracked.write((), now);
        tracked.gone();
        tracked.succeeded(7);
        tracked.await_echo(now);
        assert_eq!(tracked.next_write(now), Some(now), "it went before the answer: there is nothing to wait for");
        tracked.write((), now);
        tracked.succeeded(8);
        tracked.await_echo(now);
        assert_eq!(tracked.next_write(now + ECHO), Some(now + ECHO));
    }

    #[test]
    fn failures_are_spaced_out_and_told_ever_more_seldom() {
        let (start, mut tracked) = (Instant::now(), Tracked::<&str>::default());
        let (mut now, mut reported) = (start, 0);
        for _ in 0..100 {
            tracked.write((), now);
            tracked.failed(now);
            reported += usize::from(tracked.reports_failure());
            if let Some(at) = tracked.next_write(now) {
                now = at;
            }
        }
        assert_eq!(reported, 7);
        assert!(now - start > Duration::from_secs(15 * 90), "{:?}", now - start);
    }
}
