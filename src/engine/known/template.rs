//! What a Pod was made from.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    controllers::rollout::{Kind, Rollouts, WorkloadName},
    domain::BaseId,
    k8s::{made_by, names},
};

/// Which workload's template a Pod was made from, as its own metadata says: that is known before any watch shows the
/// workload, so that no Pod is taken for one that need not wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Template {
    workload: Option<WorkloadName>,
    pub(in crate::engine) revision: Option<Arc<str>>,
    /// It is not to come where nobody releases it.
    required: bool,
}

impl Template {
    pub(in crate::engine) fn of(pod: &ObjectMeta) -> Self {
        let required = pod.annotations.as_ref().is_some_and(is_required);
        let Some((kind, name, revision)) = made_by(pod) else { return Self { required, ..Self::default() } };
        let kind = if kind == "DaemonSet" { Kind::DaemonSet } else { Kind::Deployment };
        let namespace = pod.namespace.as_deref().unwrap_or_default().into();
        let workload = WorkloadName { namespace, kind, name: name.into() };
        Self { workload: Some(workload), revision: Some(revision.into()), required }
    }

    /// What a Pod made from it waits for on the base; and whether what it runs stays, though it is deleted, for its
    /// successor.
    pub(in crate::engine) fn gates(&self, rollouts: &Rollouts, base: &BaseId) -> (Option<Arc<str>>, bool) {
        let workload = self.workload.as_ref();
        (rollouts.waits(workload, self.revision.as_deref(), base, self.required), rollouts.lingers(workload))
    }
}

/// Whether what is made from it is not to come where nobody releases it.
pub(in crate::engine) fn is_required(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(names::ROLLOUT).is_some_and(|says| says == "required")
}
