//! What to tell a base and what to tell Kubernetes, given what is wanted and what was seen.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows a client: no `async`, no
//! `tokio`, no `kube::Client`, no MQTT. Time is an argument. Facts come in through the
//! methods of [`Base`], decisions go out as a [`Plan`] of [`reconcile()`].

mod backoff;
mod decide;
mod identity;
mod known;
mod metaspace;
mod module;
mod outcome;
mod pod;
mod probe;
mod probing;
mod reason;
mod release;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod times;

pub use backoff::Backoff;
pub use decide::{Plan, reconcile};
pub use identity::{BaseId, BaseInfo};
pub use known::{
    Answer, Base, BaseView, Claim, CommandView, Conversation, FailureView, Ledger, Lesson, Link, Liveness, Needs,
    Reachability, Reply, Took, WebContexts, path_in_use,
};
pub use metaspace::{Lack, Metaspace, MetaspaceRules, lack_of};
pub use module::{Command, ListedModule, ModuleId, ModuleSpec, ModuleState, Origin, Strategy};
pub use outcome::{ContainerOutcome, Phase, PodOutcome, Rejection};
pub use pod::{Container, ContainerHistory, Content, Pod, PodUid, Role, Workload};
pub use probe::{Health, Probe, ProbeAction, ProbeKind, Probes, Tally};
pub use probing::{ProbeFact, ProbeOrder, ProbeSays, ProbeTarget};
pub use reason::Reason;
pub use release::Release;
pub use settings::Settings;
pub use text::{printable, printable_bytes, without_credentials};
pub use times::{FAR, Later};
