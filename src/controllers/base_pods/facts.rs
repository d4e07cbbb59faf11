//! What a plan for bases' own Pods may look at.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::BaseId;

/// All of it.
#[derive(Clone, Copy)]
pub struct BasePodFacts<'a> {
    /// Where a base says that it is; none of one that is not known or has not said it.
    pub claim_of: &'a dyn Fn(&BaseId) -> Option<Claim>,
    /// The module Pods of a base; `whether_more_come`: also those that its baseline has and that are not there yet.
    pub modules_of: &'a dyn Fn(&BaseId, bool) -> Modules,
    /// For people.
    pub wall: Timestamp,
}

/// Where a base says that it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The name of its host: in a Pod, the Pod's.
    pub host: Arc<str>,
    /// Its address.
    pub address: Arc<str>,
    /// It answers, and has said which modules it runs.
    pub answers: bool,
}

/// The module Pods of a base, as far as they matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// How many there are.
    pub total: usize,
    /// `namespace/name` of those that are not Ready and that no other Pod of their workload stands in for.
    pub missing: Vec<Arc<str>>,
    /// Names of modules that will come, and have no Pod yet.
    pub to_come: Vec<Arc<str>>,
}

impl Modules {
    /// Together with those of another JVM in the same Pod.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.total = self.total.saturating_add(other.total);
        self.missing.extend(other.missing);
        self.to_come.extend(other.to_come);
        self
    }
}
