//! Releases in batches: which revision of a workload may come to which base.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::BaseId;

/// How far the release of a workload is. A revision is told by the hash of its template, which an undo does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The revision that every base had before. It never waits.
    pub stable: Option<Arc<str>>,
    /// By revision, the bases to which it was released.
    pub released: BTreeMap<Arc<str>, BTreeSet<BaseId>>,
    /// The revision that the workload has now, while something is under way.
    pub current: Option<Arc<str>>,
    /// What all else waits for, for people.
    pub waits_for: Arc<str>,
}

impl Release {
    /// What a Pod of that revision waits for on that base; none if it may come.
    ///
    /// Open are the stable revision and what was released to the base, and nothing else: a revision that was released to
    /// it and is superseded stays until its successor's turn, also through a restart of the base.
    pub fn waits(&self, revision: Option<&str>, base: &BaseId) -> Option<Arc<str>> {
        let is_open = revision.is_some_and(|revision| {
            self.stable.as_deref() == Some(revision)
                || self.released.get(revision).is_some_and(|bases| bases.contains(base))
        });
        (!is_open).then(|| Arc::clone(&self.waits_for))
    }

    /// Whether what Pods run stays for a successor though they are deleted: a workload that counts its Pods by statuses of
    /// different moments deletes one too early, before the base has a Pod of another revision. Also one of the current
    /// revision, which may have been another one's successor when it was deleted: an undo that is undone.
    pub const fn lingers(&self) -> bool {
        self.current.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_are_the_stable_revision_and_what_was_released_to_the_base_and_nothing_else() {
        let (a, b) = (BaseId::new("a"), BaseId::new("b"));
        let released = [("second", &a), ("third", &b)];
        let release = Release {
            stable: Some("first".into()),
            released: released.into_iter().map(|(r, base)| (r.into(), BTreeSet::from([base.clone()]))).collect(),
            current: None,
            waits_for: "its turn".into(),
        };
        for (revision, open_on_a, open_on_b) in [
            (Some("first"), true, true),
            (Some("second"), true, false),
            (Some("third"), false, true),
            (Some("fourth"), false, false),
            (None, false, false),
        ] {
            assert_eq!(release.waits(revision, &a).is_none(), open_on_a, "{revision:?}");
            assert_eq!(release.waits(revision, &b).is_none(), open_on_b, "{revision:?}");
        }
        let under_way = Release { current: Some("third".into()), ..release.clone() };
        assert_eq!((release.lingers(), under_way.lingers()), (false, true));
        let unknown = Release { stable: None, released: BTreeMap::new(), current: None, waits_for: "a look".into() };
        assert_eq!(unknown.waits(Some("first"), &a).as_deref(), Some("a look"), "before it was looked at");
    }
}
