//! `ModuleRollout`: how a workload's new revision comes to its bases, in batches.
//!
//! The types are the truth: the CRD in the chart is made from them (see [`definition`]).

mod batches;
mod definition;
mod schema;
mod spec;
mod status;

pub use definition::definition;
pub use spec::{
    Batches, FailureAction, FailurePolicy, JoinedBases, ModuleRollout, ModuleRolloutSpec, Pause, Step, WorkloadRef,
};
pub use status::{BaseCounts, MAX_FAILURES, ModuleRolloutStatus, Phase, RolloutFailure};
