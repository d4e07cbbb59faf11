//! When to look at what again.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::domain::{BaseId, Later};

/// What is far off is done together with others, up to so much later: a thousand bases of which each is renewed and asked
/// at a moment of its own wake the process, the broker and the API server a few hundred times a second, and with this
/// ten times.
const TOGETHER: Duration = Duration::from_millis(100);
/// From here on it is far off.
const FAR_OFF: Duration = Duration::from_secs(1);

/// What has a time to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Deciding on a base.
    Base(BaseId),
    /// Counting bases for peer Deployments.
    Peers,
    /// Conditions of bases' own Pods.
    BasePods,
    /// Releases in batches.
    Rollouts,
    /// Writing the record.
    Record,
    /// Reading what environments refer to.
    References,
}

/// One wake-up for each task.
#[derive(Debug, Default)]
pub struct Schedule {
    order: BTreeSet<(Instant, Task)>,
    by_task: HashMap<Task, Instant>,
    /// Moments at which things are done together are counted from here.
    origin: Option<Instant>,
}

impl Schedule {
    /// Looks at it again at `at`, or earlier where that was asked already.
    pub fn wake(&mut self, task: &Task, at: Instant) {
        if self.by_task.get(task).is_none_or(|known| at < *known) {
            self.clear(task);
            self.by_task.insert(task.clone(), at);
            self.order.insert((at, task.clone()));
        }
    }

    /// Decides on the base again at `at`, or earlier; or up to 100 ms later, where that is a second off or more. Returns that
    /// time.
    pub fn wake_base_about(&mut self, base: &BaseId, at: Instant, now: Instant) -> Instant {
        let origin = *self.origin.get_or_insert(now);
        let since = at.saturating_duration_since(origin).as_nanos();
        let over = since.checked_rem(TOGETHER.as_nanos()).unwrap_or_default();
        let rest = u64::try_from(TOGETHER.as_nanos().saturating_sub(over)).unwrap_or_default();
        let is_far_off = at >= now.later(FAR_OFF) && over > 0;
        let at = if is_far_off { at.later(Duration::from_nanos(rest)) } else { at };
        self.wake_base(base, at);
        at
    }

    /// Decides on the base again at `at`, or earlier.
    pub fn wake_base(&mut self, base: &BaseId, at: Instant) {
        self.wake(&Task::Base(base.clone()), at);
    }

    /// Forgets its wake-up: it is being looked at, or is gone.
    pub fn clear(&mut self, task: &Task) {
        if let Some(at) = self.by_task.remove(task) {
            self.order.remove(&(at, task.clone()));
        }
    }

    /// Whether it has a wake-up.
    pub fn has(&self, task: &Task) -> bool {
        self.by_task.contains_key(task)
    }

    /// The earliest wake-up.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a task whose time has come.
    pub fn due(&mut self, now: Instant) -> Option<Task> {
        if self.next()? > now {
            return None;
        }
        let (_, task) = self.order.pop_first()?;
        self.by_task.remove(&task);
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_earliest_wish_for_a_task_counts_and_comes_once() {
        let (now, mut schedule) = (Instant::now(), Schedule::default());
        let base = Task::Base(BaseId::new("base-1"));
        for seconds in [5, 2, 9] {
            schedule.wake(&base, now + Duration::from_secs(seconds));
        }
        schedule.wake(&Task::Peers, now + Duration::from_secs(1));
        assert_eq!(schedule.due(now), None);
        assert_eq!(schedule.next(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(10);
        assert_eq!(schedule.due(later), Some(Task::Peers));
        assert_eq!(schedule.due(later), Some(base));
        assert_eq!(schedule.due(later), None);
    }

    #[test]
    fn what_is_far_off_is_done_at_few_moments() {
        let (now, mut schedule) = (Instant::now(), Schedule::default());
        for number in 0..1_000 {
            let base = BaseId::new(format!("base-{number}"));
            schedule.wake_base_about(&base, now + Duration::from_millis(2_000 + 7 * number), now);
        }
        let moments: HashSet<_> = std::iter::from_fn(|| schedule.order.pop_first().map(|(at, _)| at)).collect();
        assert!(moments.len() <= 71, "{} in 7 s", moments.len());
    }

    proptest! {
        #[test]
        fn nothing_is_done_early_nor_much_later(wishes in prop::collection::vec((0..10_000_u64, 0..20_000_u64), 1..20)) {
            let (mut now, mut schedule) = (Instant::now(), Schedule::default());
            for (passed, ahead) in wishes {
                now += Duration::from_micros(passed * 137);
                let (base, at) = (BaseId::new(format!("{passed}-{ahead}")), now + Duration::from_millis(ahead));
                schedule.wake_base_about(&base, at, now);
                let planned = schedule.by_task[&Task::Base(base)];
                let late = planned.checked_duration_since(at);
                prop_assert!(late.is_some_and(|late| late < TOGETHER), "{:?}", late);
                prop_assert!(at >= now + FAR_OFF || planned == at, "what is near is exact");
            }
        }
    }
}
