//! What a watch lists: what is known and not in a list that is complete is gone.

use std::{collections::HashSet, hash::Hash};

/// The objects of a list, while it comes.
#[derive(Debug)]
pub struct Listing<K>(Option<HashSet<K>>);

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Eq + Hash> Listing<K> {
    /// A list begins.
    pub fn begins(&mut self) {
        self.0 = Some(HashSet::new());
    }

    /// The object is there: it is in the list, if one is coming.
    pub fn has(&mut self, object: K) {
        if let Some(listed) = &mut self.0 {
            listed.insert(object);
        }
    }

    /// The list is complete. Returns which of the known objects are not in it.
    pub fn ends(&mut self, known: impl IntoIterator<Item = K>) -> Vec<K> {
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
