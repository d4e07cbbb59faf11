//! One `ModuleRollout`, and who may come by what it says.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    facts::WorkloadName,
    requests::Request,
    turn::{ALL, Memory},
};
use crate::{
    domain::{BaseId, Release},
    k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase},
    planning::Tracked,
};

/// One `ModuleRollout`.
pub(super) struct Rollout {
    pub(super) object: Tracked<ModuleRollout, Write>,
    pub(super) workload: WorkloadName,
    /// The revision that its workload has now.
    pub(super) current: Option<Arc<str>>,
    /// Bases of ours have had Pods of its workload.
    pub(super) is_ours: bool,
    pub(super) memory: Memory,
    /// What somebody asked for and was taken off the object, until it is in the status.
    pub(super) request: Option<Request>,
    /// The template that the workload gets back is asked for, or on its way.
    pub(super) back: Tracked<()>,
}

/// A write that is on its way.
#[derive(Debug)]
pub(super) enum Write {
    /// The status that it makes, and the one before: a watch may show the new one before the write is answered.
    Status { before: Box<ModuleRolloutStatus>, after: Box<ModuleRolloutStatus> },
    /// A request is taken off, which is carried out when it is.
    Consumed(Request),
    /// The finalizer comes or goes.
    Finalizer,
}

impl Rollout {
    /// What its bases do changes what happens next, and soon.
    pub(super) fn is_under_way(&self) -> bool {
        let status = self.object.object().and_then(|object| object.status.as_ref());
        matches!(status.and_then(|status| status.phase), Some(Phase::Progressing | Phase::RollingBack))
    }

    pub(super) fn release(&self, is_there: bool) -> Option<Release> {
        let object = self.object.object()?;
        let empty = ModuleRolloutStatus::default();
        let status = object.status.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let returns = self.current.is_some() && self.current.as_deref() == status.stable_revision.as_deref();
        let under_way = is_there && (!returns || !status.released.is_empty());
        let current = self.current.clone().filter(|_| under_way);
        let released = status.released.iter().map(|(revision, bases)| {
            let is_current = status.revision.as_ref() == Some(revision) && !returns;
            let named = bases.iter().map(|base| BaseId::new(base.as_str()));
            let open: BTreeSet<_> = if bases.iter().any(|base| base == ALL) {
                self.memory.opened.clone()
            } else {
                named.filter(|base| !is_current || self.memory.opened.contains(base)).collect()
            };
            (Arc::from(revision.as_str()), open)
        });
        let waits_for = format!("waits for its batch: ModuleRollout {name} releases it base by base");
        let stable = status.stable_revision.as_deref().map(Arc::from);
        Some(Release { stable, released: released.collect(), current, waits_for: waits_for.into() })
    }
}
