//! What to tell a base and what to tell Kubernetes, given what is wanted and what was seen.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows a client: no `async`, no
//! `tokio`, no `kube::Client`, no MQTT. Time is an argument. Facts come in through the
//! methods of [`Base`], decisions go out as a [`Plan`] of [`reconcile()`].

mod backoff;
mod base;
mod conversation;
mod health;
mod ledger;
mod link;
mod liveness;
mod memory;
mod module;
mod modules;
mod plan;
mod pod;
mod reconcile;
mod replace;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod times;
mod view;

pub use backoff::Backoff;
pub use base::{Base, BaseId, BaseInfo};
pub use conversation::{Answer, Conversation, Reply};
pub use health::Metaspace;
pub use ledger::{Claim, Ledger};
pub use link::Link;
pub use liveness::{Liveness, Reachability};
pub use module::{Command, ListedModule, ModuleId, ModuleSpec, ModuleState, Origin, Strategy};
pub use plan::{ContainerOutcome, Phase, Plan, PodOutcome, Reason, Rejection};
pub use pod::{Container, ContainerHistory, Content, Pod, PodUid, Role, Workload};
pub use reconcile::reconcile;
pub use settings::Settings;
pub use text::{printable, printable_bytes, without_credentials};
pub use times::{FAR, Later};
pub use view::{BaseView, CommandView, FailureView};
