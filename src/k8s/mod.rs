//! Domain ↔ Kubernetes objects.
//!
//! **Invariant:** pure functions over objects: no client, no clock, no `async`.

mod admission;
mod daemons;
mod environment;
pub mod limits;
#[cfg(test)]
pub(crate) mod merge;
pub mod names;
mod node;
mod pod;
mod pressure;
mod probe;
mod record;
pub mod rollout;
mod status;
mod urls;
mod workload;
mod zones;

pub use admission::{admits, is_tolerated, selects};
pub use daemons::{Intruder, intruder, is_module, typical_base};
pub use environment::{Reference, Referred, Sources, references};
pub use node::{
    KubeletEndpoint, NodePatches, NodeWriter, Ready, base_address, is_by_modulet, kubelet_version, node_says_ready,
    node_says_stopped,
};
pub use pod::{component, keep_wanted_annotations, pod_from};
pub use pressure::{
    MEMORY_PRESSURE_TAINT, METASPACE_ENOUGH, METASPACE_LOW, MemoryPressure, memory_pressure, node_says_of_metaspace,
};
pub use probe::ProbeRules;
pub use record::{
    Ordered, Saved, foreign_format, ledger_entry, ledgers_in, ledgers_name, ledgers_number, ordered_entry, ordered_in,
    ordered_name, record_object, writer_entry, writer_of,
};
pub use status::{StatusWriter, status_patch};
pub use urls::{ModuleUrls, UrlPrefix};
pub use workload::{Owner, Revisions, made_by};
pub use zones::spreads_over_zones;
