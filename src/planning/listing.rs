//! What a watch lists: what is known and not in a list that is complete is gone.

use std::{collections::HashSet, hash::Hash};

use crate::api::Seen;

/// The objects of a list, while it comes.
#[derive(Debug)]
pub struct Listing<K>(Option<HashSet<K>>);

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Eq + Hash> Listing<K> {
    /// Takes note of a fact from the watch. Returns which objects are gone by it. `key_of` is what an object is known by;
    /// `known` are those that are.
    pub fn gone<O, I: IntoIterator<Item = K>>(
        &mut self,
        seen: &Seen<O>,
        key_of: impl FnOnce(&O) -> Option<K>,
        known: impl FnOnce() -> I,
    ) -> Vec<K> {
        match seen {
            Seen::Applied(object) => key_of(object).into_iter().for_each(|key| self.has(key)),
            Seen::Gone(object) => return key_of(object).into_iter().collect(),
            Seen::ListBegins => self.begins(),
            Seen::ListEnds => return self.ends(known()),
        }
        Vec::new()
    }

    /// A list begins.
    fn begins(&mut self) {
        self.0 = Some(HashSet::new());
    }

    /// The object is there: it is in the list, if one is coming.
    fn has(&mut self, object: K) {
        if let Some(listed) = &mut self.0 {
            listed.insert(object);
        }
    }

    /// The list is complete. Returns which of the known objects are not in it.
    fn ends(&mut self, known: impl IntoIterator<Item = K>) -> Vec<K> {
        let Some(listed) = self.0.take() else { return Vec::new() };
        known.into_iter().filter(|object| !listed.contains(object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_and_not_in_a_complete_list_is_gone() {
        let mut listing = Listing::default();
        assert!(listing.ends(["a"]).is_empty(), "no list began, so none says that it is gone");
        listing.has("a");
        listing.begins();
        ["b", "c"].into_iter().for_each(|object| listing.has(object));
        assert_eq!(listing.ends(["a", "b"]), ["a"]);
        listing.begins();
        listing.has("b");
        listing.begins();
        assert_eq!(listing.ends(["b"]), ["b"], "a list that begins anew has nothing of the one before");
    }
}
