//! What is known: of each base, of its Node, and of the Pods on it.

mod base;
mod failures;
mod index;
mod node;
mod pod;
mod registration;

pub(super) use base::BaseState;
pub(super) use failures::{Failure, Failures, OUT_OF_PODS};
pub(super) use index::PodIndex;
pub(super) use node::NodeWrite;
pub(super) use pod::{PodState, Reported};
