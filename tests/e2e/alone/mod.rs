//! What needs most of the machine for itself: hundreds of bases, or faults that must heal within a time.
//! `make test` runs these after all others, two at a time.

#[path = "../../chaos/mod.rs"]
mod chaos;
mod module_rollout;
mod replicas;
