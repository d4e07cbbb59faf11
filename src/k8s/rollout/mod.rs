//! `ModuleRollout`: how a workload's new revision comes to its bases, in batches.
//!
//! The types are the truth: the CRD in the chart is made from them (see [`definition`]).

mod batches;
mod schema;
mod spec;
mod status;

use kube::CustomResourceExt;
use serde_json::Value;

pub use spec::{FailureAction, JoinedBases, ModuleRollout, ModuleRolloutSpec, Step};
pub use status::{BaseCounts, MAX_FAILURES, ModuleRolloutStatus, Phase, RolloutFailure};

/// The CRD of `ModuleRollout`, as it is applied.
pub fn definition() -> Value {
    serde_json::to_value(ModuleRollout::crd()).unwrap_or_default()
}
