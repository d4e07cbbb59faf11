//! Releases in batches: a workload's new Pods are all there, and each waits on its base until its turn has come.
//!
//! What a release has come to stands in the status of its `ModuleRollout`, and is written before the first command that
//! follows from it: whoever leads next goes on from there.

mod batch;
mod decide;
mod ends;
mod facts;
mod one;
mod order;
mod phases;
mod requests;
mod rollouts;
mod suitable;
#[cfg(test)]
mod tests;
mod turn;
mod words;
mod workloads;
mod writes;

pub use facts::{BaseFacts, Kind, PodFacts, PodIs, RolloutFacts, WorkloadFacts, WorkloadName};
pub use rollouts::Rollouts;
