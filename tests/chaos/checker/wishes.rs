//! Which Pod wants which module on which base, from when to when: as far as the observer can know.

use super::super::event::{At, Module};

/// What is seen at one time may have been so this much earlier, and be known to others this much later.
pub(crate) const SLACK: At = At::from_secs(2);
/// What is over for so long is forgotten.
const FORGOTTEN: At = At::from_mins(5);

#[derive(Debug)]
struct Wish {
    uid: String,
    base: usize,
    module: Module,
    since: At,
    /// The earliest that it may have been over, and when that was seen.
    over: Option<(At, At)>,
}

#[derive(Debug, Default)]
pub(crate) struct Wishes(Vec<Wish>);

impl Wishes {
    /// A Pod wants these modules from now on.
    pub(crate) fn begin(&mut self, uid: &str, base: usize, modules: &[Module], at: At) {
        if self.0.iter().any(|wish| wish.uid == uid && wish.over.is_none()) {
            return;
        }
        self.0.retain(|wish| wish.over.is_none_or(|(_, seen)| seen + FORGOTTEN > at));
        self.0.extend(modules.iter().map(|module| Wish {
            uid: uid.to_owned(),
            base,
            module: module.clone(),
            since: at,
            over: None,
        }));
    }

    /// A Pod wants nothing any more; perhaps since `earliest`.
    pub(crate) fn end(&mut self, uid: &str, earliest: At, at: At) {
        self.0.iter_mut().filter(|wish| wish.uid == uid && wish.over.is_none()).for_each(|wish| {
            wish.over = Some((earliest, at));
        });
    }

    /// Versions of a module that were wanted on a base at that time beyond doubt, and known to be so long enough.
    pub(crate) fn sure(&self, base: usize, name: &str, known: At, at: At) -> Vec<&Module> {
        let sure = |wish: &&Wish| {
            wish.base == base
                && wish.module.name == name
                && wish.since + SLACK <= known
                && wish.over.is_none_or(|(earliest, _)| earliest > at)
        };
        self.0.iter().filter(sure).map(|wish| &wish.module).collect()
    }

    /// Versions of a module that may have been wanted, by whoever knew only what was so since `known`; on one base, or any.
    pub(crate) fn possible(&self, base: Option<usize>, name: &str, known: At, at: At) -> Vec<&Module> {
        let possible = |wish: &&Wish| {
            base.is_none_or(|base| wish.base == base)
                && wish.module.name == name
                && wish.since <= at + SLACK
                && wish.over.is_none_or(|(_, seen)| seen + SLACK >= known)
        };
        self.0.iter().filter(possible).map(|wish| &wish.module).collect()
    }
}
