//! Decisions on workloads, made from what Kubernetes objects say.
//!
//! **Invariant:** nothing here does I/O or reads a clock; what is to be done comes out as effects.

pub mod base_pods;
pub mod peers;
pub mod rollout;
