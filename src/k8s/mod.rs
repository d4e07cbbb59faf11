//! Domain ↔ Kubernetes objects.
//!
//! **Invariant:** pure functions over objects: no client, no clock, no `async`.

mod admission;
mod environment;
mod journal;
pub mod limits;
pub mod names;
mod node;
mod pod;
mod status;
mod workload;

pub use admission::admits;
pub use environment::{Reference, Referred, Sources, references};
pub use journal::{Installs, journal_installs, journal_segment};
pub use node::{NodeWriter, Ready, node_is_current, node_says_ready};
pub use pod::{component, keep_wanted_annotations, pod_from};
pub use status::{StatusWriter, status_patch};
pub use workload::Revisions;
