//! How much metaspace modules need: learned over all bases, from what installs took.
//!
//! Protocol fact: an install's reply says by how much the used metaspace of the whole JVM grew while it ran. Of an
//! install that ran alone on its base that is what the module took, to the byte, and without what the base loaded before
//! and after it; the first install on a JVM also loads what later ones share.

use std::collections::BTreeMap;

use crate::domain::ModuleId;

/// More modules than this are not remembered; what was learned longest ago is forgotten first.
const MOST: usize = 4096;

/// What an install took that ran alone on its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Took {
    /// The module.
    pub module: ModuleId,
    /// Bytes of metaspace.
    pub bytes: u64,
}

/// What modules need.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// With the order in which they were learned.
    known: BTreeMap<ModuleId, (u64, u64)>,
    learned: u64,
}

impl Needs {
    /// An install took this much. What took more before is believed less with each one.
    pub fn learn(&mut self, took: Took) {
        if self.known.len() >= MOST && !self.known.contains_key(&took.module) {
            let oldest = self.known.iter().min_by_key(|(_, (learned, _))| *learned).map(|(id, _)| id.clone());
            oldest.map(|id| self.known.remove(&id));
        }
        self.learned = self.learned.saturating_add(1);
        let before = self.known.get(&took.module).map_or(0, |(_, bytes)| *bytes);
        let need = took.bytes.max(before.midpoint(took.bytes));
        self.known.insert(took.module, (self.learned, need));
    }

    /// Bytes that a module needs, as far as is known: of a version that was never installed what the one needed that was
    /// learned last.
    pub fn of(&self, id: &ModuleId) -> Option<u64> {
        let exactly = self.known.get(id).map(|(_, bytes)| *bytes);
        let versions =
            || self.known.range(ModuleId::new(&id.name, "")..).take_while(|(other, _)| other.name == id.name);
        exactly.or_else(|| versions().map(|(_, known)| known).max().map(|(_, bytes)| *bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(needs: &mut Needs, module: &str, bytes: u64) {
        let (name, version) = module.split_once(':').unwrap();
        needs.learn(Took { module: ModuleId::new(name, version), bytes });
    }

    fn of(needs: &Needs, name: &str, version: &str) -> Option<u64> {
        needs.of(&ModuleId::new(name, version))
    }

    #[test]
    fn more_counts_at_once_and_less_by_and_by_and_a_new_version_is_like_the_last_one() {
        let mut needs = Needs::default();
        assert_eq!(of(&needs, "biz1", "1"), None);
        for (took, expected) in [(400, 400), (8, 204), (8, 106), (1000, 1000), (0, 500), (u64::MAX, u64::MAX)] {
            learned(&mut needs, "biz1:1", took);
            assert_eq!(of(&needs, "biz1", "1"), Some(expected), "{took}");
        }
        learned(&mut needs, "biz1:9", 30);
        learned(&mut needs, "biz1:10", 20);
        learned(&mut needs, "biz10:1", 7);
        let all = ["9", "10", "11"].map(|version| of(&needs, "biz1", version));
        assert_eq!(all, [Some(30), Some(20), Some(20)]);
        assert_eq!((of(&needs, "biz", "1"), of(&needs, "biz10", "2")), (None, Some(7)));
    }

    #[test]
    fn what_was_learned_longest_ago_is_forgotten_first() {
        let mut needs = Needs::default();
        for n in 0..MOST {
            learned(&mut needs, &format!("biz{n}:1"), 1);
        }
        learned(&mut needs, "biz0:1", 1);
        for n in MOST..MOST + 10 {
            learned(&mut needs, &format!("biz{n}:1"), 1);
        }
        assert_eq!(needs.known.len(), MOST);
        let known = ["biz0", "biz1", "biz10", "biz11", &format!("biz{}", MOST + 9)].map(|name| of(&needs, name, "1"));
        assert_eq!(known, [Some(1), None, None, Some(1), Some(1)]);
    }
}
