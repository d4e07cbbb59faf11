//! How far a replacement of one version by another is.

use std::time::Instant;

use crate::domain::{ModuleSpec, Pod, PodUid};

/// One version is to take the place of the others on a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Replacement {
    /// For whom.
    pub(in crate::domain) pod: PodUid,
    pub(in crate::domain) spec: ModuleSpec,
    pub(in crate::domain) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Stage {
    /// The others' Pods are to be shown not Ready.
    Leaving,
    /// They are, and requests have until then to end.
    Draining(Instant),
    /// The others are being uninstalled.
    Emptying,
    /// Nothing is in the way any more.
    Installing,
    /// It did not start. It is tried again when nothing else is wanted.
    Failed,
}

impl Replacement {
    /// The others have to go.
    pub(in crate::domain) fn empties(&self) -> bool {
        self.stage == Stage::Emptying
    }

    /// Whether what a Pod wants may be installed: only the new version while room is made for it, and all others
    /// after it has failed.
    pub(in crate::domain) fn may_install(&self, pod: &Pod) -> bool {
        match self.stage {
            Stage::Leaving | Stage::Draining(_) => true,
            Stage::Emptying | Stage::Installing => self.is_for(pod),
            Stage::Failed => !self.is_for(pod),
        }
    }

    /// Its place was made empty for it.
    pub(in crate::domain) fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Emptying | Stage::Installing)
    }

    /// It goes on.
    pub(in crate::domain) fn lasts(&self) -> bool {
        self.stage != Stage::Failed
    }

    pub(in crate::domain) fn is_for(&self, pod: &Pod) -> bool {
        self.pod == pod.uid
    }
}
