//! What is known of a base, for people who look at it. Nothing is decided by it.

use std::time::Instant;

use super::{base::Base, ledger::Claim, operation::CommandView};
use crate::domain::{ListedModule, ModuleId};

/// A base at one moment, with the times of what is in it.
#[derive(Clone, Debug, Default)]
pub struct BaseView {
    /// Modules as listed last, also of a base that has been away since. None: it has not listed any yet.
    pub modules: Option<Vec<ListedModule>>,
    /// When it listed them.
    pub listed: Option<Instant>,
    /// Commands under way.
    pub commands: Vec<CommandView>,
    /// What failed and is tried again.
    pub failures: Vec<FailureView>,
    /// Module names and who claims them here; of each name the latest is the last, and the holder.
    pub claims: Vec<(String, Claim)>,
    /// What was installed by us, as far as is known.
    pub installed: Vec<ModuleId>,
}

/// What failed.
#[derive(Clone, Debug)]
pub struct FailureView {
    /// The command's name on the wire.
    pub command: &'static str,
    /// What it was about.
    pub module: ModuleId,
    /// How often in a row.
    pub count: u32,
    /// The reason as its Pod has it; none for what could not be uninstalled.
    pub reason: Option<&'static str>,
    /// The words of the base, or ours about it.
    pub message: String,
    /// Not tried before.
    pub retry_at: Instant,
}

impl Base {
    /// What is known of it now. Copies all of that, so it is for when somebody looks.
    pub fn view(&self) -> BaseView {
        let failures = self.failures.all().map(|(command, id, failure)| FailureView {
            command,
            module: id.clone(),
            count: failure.count,
            reason: failure.spec.as_ref().map(|_| failure.reason.as_str()),
            message: failure.message.clone(),
            retry_at: failure.retry_at,
        });
        let mut failures: Vec<_> = failures.collect();
        failures.sort_by(|a, b| (&a.module, a.command, a.retry_at).cmp(&(&b.module, b.command, b.retry_at)));
        let claims = self.ledger.names().flat_map(|name| {
            let claims = self.ledger.claims(name).iter();
            claims.map(|claim| (name.to_owned(), claim.clone()))
        });
        BaseView {
            modules: self.modules().map(|list| list.cloned().collect()),
            listed: self.conversation.last_listed(),
            commands: self.conversation.under_way().collect(),
            failures,
            claims: claims.collect(),
            installed: self.ledger.all_installed().collect(),
        }
    }
}
