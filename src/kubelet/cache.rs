//! Answers that are good for a time, bounded in number.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::domain::Later;

/// So many are kept; the one that would go first makes room.
pub(super) const MOST: usize = 1024;

/// Answers by what was asked.
#[derive(Debug, Default)]
pub(super) struct Cache<V>(Mutex<HashMap<String, (V, Instant)>>);

impl<V: Clone> Cache<V> {
    /// What was answered, while it is good.
    pub(super) fn get(&self, asked: &str, now: Instant) -> Option<V> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(asked).filter(|(_, until)| now < *until).map(|(answer, _)| answer.clone())
    }

    /// Keeps an answer for so long.
    pub(super) fn put(&self, asked: String, answer: V, now: Instant, good_for: Duration) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST && !answers.contains_key(&asked) {
            answers.retain(|_, (_, until)| now < *until);
            let first = answers.iter().min_by_key(|(_, (_, until))| *until).map(|(asked, _)| asked.clone());
            if let Some(first) = first.filter(|_| answers.len() >= MOST) {
                answers.remove(&first);
            }
        }
        answers.insert(asked, (answer, now.later(good_for)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_good_for_their_time_and_the_oldest_make_room() {
        let (cache, now, second) = (Cache::default(), Instant::now(), Duration::from_secs(1));
        cache.put("a".to_owned(), 1, now, 10 * second);
        assert_eq!(cache.get("a", now + 9 * second), Some(1));
        assert_eq!((cache.get("a", now + 10 * second), cache.get("b", now)), (None, None));
        cache.put("a".to_owned(), 2, now, 20 * second);
        assert_eq!(cache.get("a", now + 10 * second), Some(2));
        for number in 0..3 * MOST {
            cache.put(number.to_string(), 3, now + second, 30 * second);
            assert!(cache.0.lock().unwrap().len() <= MOST);
        }
        assert_eq!(cache.get("a", now + second), None, "it made room");
        assert_eq!(cache.get(&(3 * MOST - 1).to_string(), now + second), Some(3));
        // Those whose time is over go first, all of them.
        cache.put("z".to_owned(), 4, now + 40 * second, second);
        assert_eq!(cache.0.lock().unwrap().len(), 1);
    }
}
