//! What went wrong when.

use super::super::event::{At, Part};

/// So long after something is well again it may be felt.
pub(crate) const FELT: At = At::from_secs(20);
/// The same of a connection that is dead and of which nobody was told: watches are believed for 40 s.
const FELT_IF_NOT_TOLD: At = At::from_secs(60);
/// So long after the API server is well again the observer may see what happened meanwhile.
const SEEN_AFTER: At = At::from_secs(5);
/// What is over for so long is forgotten.
const FORGOTTEN: At = At::from_mins(5);

fn felt(part: Part) -> At {
    if part == Part::DeadWay { FELT_IF_NOT_TOLD } else { FELT }
}

#[derive(Debug, Default)]
pub(crate) struct Disturbances(Vec<(Part, At, Option<At>)>);

impl Disturbances {
    pub(crate) fn begin(&mut self, part: Part, at: At) {
        self.0.retain(|(_, _, end)| end.is_none_or(|end| end + FORGOTTEN > at));
        self.0.push((part, at, None));
    }

    pub(crate) fn end(&mut self, part: Part, at: At) {
        if let Some(open) = self.0.iter_mut().find(|(known, _, end)| *known == part && end.is_none()) {
            open.2 = Some(at);
        }
    }

    fn near(&self, at: At, after: impl Fn(Part) -> At, concerns: impl Fn(Part) -> bool) -> Option<At> {
        let on = |part: Part, begin: At, end: Option<At>| begin <= at && end.is_none_or(|end| end + after(part) > at);
        let all = self.0.iter().filter(|(part, begin, end)| concerns(*part) && on(*part, *begin, *end));
        all.map(|(_, begin, _)| *begin).min()
    }

    /// Whether something is wrong just now that concerns all.
    pub(crate) fn on(&self) -> bool {
        self.0.iter().any(|(part, _, end)| !matches!(part, Part::Base(_)) && end.is_none())
    }

    /// Since when it has not been sure that orders for a base are about what is so now: a disturbance that is on, or was
    /// a moment ago.
    pub(crate) fn of_base(&self, base: usize, at: At) -> Option<At> {
        self.near(at, felt, |part| !matches!(part, Part::Base(other) if other != base))
    }

    /// Whether something was wrong with the base itself in that time.
    pub(crate) fn of_base_itself(&self, base: usize, from: At, to: At) -> bool {
        let within = |begin: At, end: Option<At>| begin <= to && end.is_none_or(|end| end + FELT > from);
        self.0.iter().any(|(part, begin, end)| *part == Part::Base(base) && within(*begin, *end))
    }

    /// The same for what has to do with no base.
    pub(crate) fn of_replicas(&self, at: At) -> Option<At> {
        self.near(at, felt, |part| !matches!(part, Part::Base(_)))
    }

    /// Since when the observer has not seen Pods as they are.
    pub(crate) fn of_sight(&self, at: At) -> Option<At> {
        self.near(at, |_| SEEN_AFTER, |part| part == Part::ApiServer)
    }
}
