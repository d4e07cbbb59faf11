//! How much metaspace a base has left: a fact from its health, and what is told when that is too little.

use std::time::Instant;

use super::{super::state::State, BaseState};
use crate::{
    api::{Note, Subject},
    domain::{BaseId, Metaspace},
    k8s::{METASPACE_ENOUGH, METASPACE_LOW, memory_pressure},
    planning::Effect,
};

/// What is said of a base's metaspace.
#[derive(Debug, Default)]
pub(in crate::engine) struct LowMetaspace {
    /// What the Node says while it is low.
    pub(super) says: Option<String>,
    /// That it is low was told in Events.
    told: bool,
}

impl LowMetaspace {
    /// The Node of an earlier process says so already, and Events told it.
    pub(super) fn found(&mut self, says: Option<&str>) {
        (self.says, self.told) = (says.map(str::to_owned), says.is_some());
    }
}

impl BaseState {
    /// Its health names its JVM: how much metaspace is used, and the limit where there is one.
    pub(in crate::engine) fn measured(&mut self, used: Option<u64>, max: Option<u64>, now: Instant) {
        let metaspace = used.zip(max).map(|(used, max)| Metaspace { used, max });
        if self.base.measured(metaspace, now) {
            self.low_metaspace.says = memory_pressure(metaspace, self.low_metaspace.says.as_deref());
        }
    }
}

impl State {
    /// Tells once that metaspace is low, of the Node and of each Pod on it, and once that it is over.
    pub(super) fn tell_metaspace(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id).filter(|state| state.base.info.is_some()) else { return };
        let low = state.low_metaspace.says.is_some();
        if std::mem::replace(&mut state.low_metaspace.told, low) == low {
            return;
        }
        let says = state.low_metaspace.says.clone();
        let (reason, message) = match &says {
            Some(says) => (METASPACE_LOW, says.clone()),
            None => (METASPACE_ENOUGH, "the base has enough metaspace again".to_owned()),
        };
        let subject = Subject::Node(state.node.name.clone());
        out.push(Effect::Note(Note { subject, warning: low, reason, message }));
        if let Some(says) = says {
            let pods = self.pods_of(id).filter(|pod| pod.pod.is_live());
            out.extend(pods.filter_map(|pod| pod.note(true, METASPACE_LOW, format!("the base: {says}"))));
        }
    }
}
