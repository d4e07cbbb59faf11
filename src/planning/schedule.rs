//! When to look at what again.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use crate::domain::BaseId;

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
    use std::time::Duration;

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
}
