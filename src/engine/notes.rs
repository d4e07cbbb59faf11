//! How often something may have Events told about it: a base that flaps, or a Pod whose author changes it all the time,
//! must neither fill the cluster with Events nor crowd out those of others.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    api::Subject,
    metrics::Metrics,
    planning::{Effect, Pace},
};

/// So many Events in a row are the story of a Pod, a Node or a Deployment,
const BURST: u32 = 25;
/// and then one in this time.
const EVERY: Duration = Duration::from_secs(60);
/// So many are looked at one by one, which is more than are noisy.
const SUBJECTS: usize = 16 * 1024;
/// All are looked through at most this often, for those that have been quiet.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// All others together: so many at once,
const OTHERS: u32 = 1_000;
/// and then one in this time.
const OTHERS_EVERY: Duration = Duration::from_millis(100);

/// Who has said how much.
#[derive(Debug)]
pub(super) struct Notes {
    subjects: HashMap<Subject, Pace>,
    others: Pace,
    /// How often those are forgotten that have been quiet.
    forgets: Pace,
}

impl Default for Notes {
    fn default() -> Self {
        let (others, forgets) = (Pace::new(OTHERS, OTHERS_EVERY), Pace::new(1, FORGET_EVERY));
        Self { subjects: HashMap::new(), others, forgets }
    }
}

impl Notes {
    /// Takes away those Events of which there are too many.
    pub(super) fn pace(&mut self, effects: &mut Vec<Effect>, metrics: &Metrics, now: Instant) {
        effects.retain(|effect| {
            let Effect::Note(note) = effect else { return true };
            let admitted = self.admits(&note.subject, now);
            if !admitted {
                metrics.overflow("events_of_one");
            }
            admitted
        });
    }

    fn admits(&mut self, subject: &Subject, now: Instant) -> bool {
        let full = self.subjects.len() >= SUBJECTS && !self.subjects.contains_key(subject);
        if full && self.forgets.try_take(now) {
            self.subjects.retain(|_, pace| !pace.is_full(now));
        }
        let room = self.subjects.len() < SUBJECTS;
        let pace = match self.subjects.get_mut(subject) {
            Some(pace) => pace,
            None if room => self.subjects.entry(subject.clone()).or_insert(Pace::new(BURST, EVERY)),
            None => &mut self.others,
        };
        pace.try_take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Note, domain::BaseId, planning::Lane};

    fn node(number: usize) -> Subject {
        Subject::Node(format!("vnode.base-{number}.dev"))
    }

    /// How many of these Events, one in each `every`, are told.
    fn told(notes: &mut Notes, subjects: impl Iterator<Item = usize>, every: Duration, from: Instant) -> usize {
        let times = (0..).map(|n| from + every * n);
        subjects.zip(times).filter(|(number, now)| notes.admits(&node(*number), *now)).count()
    }

    #[test]
    fn one_that_flaps_is_told_of_once_a_minute_and_the_others_as_ever() {
        let (now, mut notes) = (Instant::now(), Notes::default());
        assert_eq!(told(&mut notes, std::iter::repeat_n(1, 36_000), Duration::from_millis(100), now), 25 + 59);
        assert_eq!(told(&mut notes, std::iter::repeat_n(2, 25), Duration::ZERO, now), 25);
        let later = now + Duration::from_secs(3 * 3600);
        assert_eq!(told(&mut notes, std::iter::repeat_n(1, 30), Duration::ZERO, later), 25, "it was quiet");
    }

    #[test]
    fn a_release_to_a_fleet_is_told_in_full() {
        let (now, mut notes) = (Instant::now(), Notes::default());
        let story = (0..5).flat_map(|_| 0..3_000);
        assert_eq!(told(&mut notes, story, Duration::from_millis(1), now), 15_000);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (now, mut notes) = (Instant::now(), Notes::default());
        assert_eq!(told(&mut notes, 0..100_000, Duration::ZERO, now), SUBJECTS + OTHERS as usize);
        assert_eq!(notes.subjects.len(), SUBJECTS);
        assert!(notes.admits(&node(1), now), "it has an account of its own");
        let later = now + Duration::from_secs(600);
        assert!(notes.admits(&node(200_000), later));
        assert_eq!(notes.subjects.len(), 1);
    }

    #[test]
    fn nothing_but_events_is_held_back() {
        let (now, metrics, mut notes) = (Instant::now(), Metrics::new(), Notes::default());
        let note = Note::of(node(1), false, "BaseReady", "m".into());
        let mut effects = vec![Effect::Note(note); 40];
        let request = crate::api::Request::merge_patch("/".into(), &serde_json::Value::Null);
        effects.push(Effect::Write(Lane::Status, crate::api::Key::Node(BaseId::new("base-1")), request));
        notes.pace(&mut effects, &metrics, now);
        assert_eq!(effects.len(), 26);
        assert!(matches!(effects.last(), Some(Effect::Write(..))));
        assert!(metrics.render().contains("modulet_queue_overflows_total{name=\"events_of_one\"} 15"));
    }
}
