//! Moments in which a Pod is Ready and its module is not active.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::event::{At, Module},
    disturbances::Disturbances,
};

/// How long such a moment may be while nothing is wrong: what a message, a list and a write take on a busy machine.
pub(crate) const LONGEST: At = At::from_secs(5);

#[derive(Debug)]
struct Claim {
    name: String,
    base: usize,
    modules: Vec<Module>,
    /// Since when it is not true.
    lapse: Option<Lapse>,
}

#[derive(Debug)]
struct Lapse {
    since: At,
    undisturbed: At,
    told: bool,
}

/// What Ready Pods claim.
#[derive(Debug, Default)]
pub(crate) struct Lapses {
    claims: BTreeMap<String, Claim>,
    ticked: At,
    pub(crate) longest: At,
    pub(crate) longest_undisturbed: At,
}

impl Lapses {
    /// A Pod is Ready with these modules on that base; or not.
    pub(crate) fn pod(
        &mut self,
        uid: &str,
        name: &str,
        ready: Option<(usize, Vec<Module>)>,
        active: &BTreeMap<usize, BTreeSet<Module>>,
        at: At,
    ) {
        let Some((base, modules)) = ready else {
            if let Some(Claim { lapse: Some(lapse), .. }) = self.claims.remove(uid) {
                self.over(&lapse, at);
            }
            return;
        };
        let claim = Claim { name: name.to_owned(), base, modules, lapse: None };
        self.claims.entry(uid.to_owned()).or_insert(claim);
        self.base(base, active, at);
    }

    /// A base has other modules active.
    pub(crate) fn base(&mut self, base: usize, active: &BTreeMap<usize, BTreeSet<Module>>, at: At) {
        let active = active.get(&base);
        let mut over = Vec::new();
        for claim in self.claims.values_mut().filter(|claim| claim.base == base) {
            let holds = active.is_some_and(|active| claim.modules.iter().all(|module| active.contains(module)));
            if holds {
                over.extend(claim.lapse.take());
            } else {
                claim.lapse.get_or_insert(Lapse { since: at, undisturbed: At::ZERO, told: false });
            }
        }
        over.iter().for_each(|lapse| self.over(lapse, at));
    }

    fn over(&mut self, lapse: &Lapse, at: At) {
        self.longest = self.longest.max(at.saturating_sub(lapse.since));
    }

    /// Time passes; says which moments are too long now.
    pub(crate) fn tick(&mut self, disturbances: &Disturbances, at: At) -> Vec<String> {
        let passed = at.saturating_sub(self.ticked);
        self.ticked = self.ticked.max(at);
        let mut late = Vec::new();
        for claim in self.claims.values_mut() {
            let Some(lapse) = &mut claim.lapse else { continue };
            if disturbances.of_base(claim.base, at).is_none() {
                lapse.undisturbed += passed.min(at.saturating_sub(lapse.since));
                self.longest_undisturbed = self.longest_undisturbed.max(lapse.undisturbed);
            }
            self.longest = self.longest.max(at.saturating_sub(lapse.since));
            if lapse.undisturbed > LONGEST && !lapse.told {
                lapse.told = true;
                let (since, Claim { name, base, modules, .. }) = (lapse.since, &*claim);
                late.push(format!(
                    "Pod {name} is Ready, and base {base} has not had {modules:?} active since {since:?}"
                ));
            }
        }
        late
    }
}
