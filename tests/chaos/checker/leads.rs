//! Who led when.

use super::super::event::At;

#[derive(Debug, Default)]
pub(crate) struct Leads(Vec<(At, Option<String>)>);

impl Leads {
    /// From then on somebody else leads, or nobody.
    pub(crate) fn change(&mut self, who: Option<String>, since: At) {
        if self.0.last().is_none_or(|(_, last)| *last != who) {
            self.0.push((since, who));
        }
    }

    /// Who leads now.
    pub(crate) fn now(&self) -> Option<&str> {
        self.0.last().and_then(|(_, who)| who.as_deref())
    }

    /// How long ago somebody led last at that time: zero if it did then, nothing if it never had.
    pub(crate) fn ago(&self, who: &str, at: At) -> Option<At> {
        let began =
            self.0.iter().enumerate().rev().find(|(_, (since, led))| *since <= at && led.as_deref() == Some(who));
        let (number, _) = began?;
        let ended = self.0.get(number + 1).map(|(since, _)| *since);
        Some(ended.map_or(At::ZERO, |ended| at.saturating_sub(ended)))
    }
}
