//! What became of commands: they were sent, could not be, ended; and what the base's list says of that.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{base::Base, failures::recognised, memory::ContainerMemory, operation::Ended};
use crate::domain::{Command, ListedModule, ModuleId, ModuleSpec, Pod, Reason, times::Later};

/// A command that is this late does not arrive any more.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// What two answers say of the start of one JVM is no further apart: the answers take their time.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

impl Base {
    /// A command of the plan is on its way.
    pub(in crate::domain) fn sent(&mut self, command: &Command, pods: &[&Pod], now: Instant) {
        if *command == Command::QueryHealth {
            self.liveness.asked(now);
            self.jvm.asked(now);
        }
        // What takes over has started before.
        if !command.is_switch() {
            command.installs().iter().for_each(|spec| self.starts(spec, pods, now));
        }
        self.conversation.sent(command, &self.link, now);
    }

    /// A command can't be sent, and never will be as it is: it has failed.
    pub fn undeliverable(&mut self, command: &Command, why: &str, now: Instant) {
        let message = why.to_owned();
        match command {
            Command::Install(spec, _) | Command::Switch(spec) => {
                self.conversation.forget_operation(&spec.id);
                let spec = spec.clone();
                self.ended(Ended::InstallFailed { spec, reason: Reason::InstallFailed, message }, now);
            }
            // Its modules are installed one by one, and only the one that is too large fails.
            Command::Baseline(specs) => specs.iter().for_each(|spec| self.conversation.forget_operation(&spec.id)),
            Command::Uninstall(id) => {
                self.conversation.forget_operation(id);
                self.ended(Ended::UninstallFailed { id: id.clone(), message }, now);
            }
            Command::QueryModules | Command::QueryHealth => {}
        }
    }

    /// A command got no answer, and may never have arrived: the next list tells, and is asked for at once.
    pub fn command_uncertain(&mut self) {
        self.conversation.commands_uncertain();
        self.conversation.ask_now();
    }

    /// Its JVM may be another one: its list is asked for at once.
    pub fn may_be_new(&mut self) {
        self.conversation.ask_now();
    }

    /// How long its JVM runs. One that runs since later than the one before is another one.
    pub fn runs_for(&mut self, run_time: Duration, now: Instant) {
        let since = now.checked_sub(run_time).unwrap_or(now);
        let before = self.runs_since.replace(since);
        if before.is_some_and(|before| since > before.later(CLOCKS_DIFFER)) {
            self.jvm.is_new();
            self.command_uncertain();
        }
    }

    /// It answered the question for its modules, or sent its list unasked.
    pub fn listed(&mut self, modules: Vec<ListedModule>, now: Instant) {
        let before: Vec<_> = self.conversation.list().into_iter().flat_map(|list| list.keys().cloned()).collect();
        let all_ended = self.conversation.listed(modules, now);
        let went = |id: &ModuleId| all_ended.iter().any(|s| matches!(s, Ended::Uninstalled(gone) if gone == id));
        let stayed = before.into_iter().filter(|id| !went(id)).collect();
        if self.lost_all(stayed) {
            // A JVM that restarted without a word: what was sent to the one before is void.
            self.jvm.is_new();
            self.conversation.commands_uncertain();
            // It began before its list came: what it says of that later tells of no other restart, which would have what
            // was ordered since ordered again.
            self.runs_since = Some(now);
        }
        for ended in all_ended {
            self.ended(ended, now);
        }
        self.forget_absent(now);
    }

    /// Of these, which it listed before and was not told to uninstall, it has none any more: of ours, if there are any
    /// of ours among them. A JVM may bring modules of its own.
    fn lost_all(&self, before: Vec<ModuleId>) -> bool {
        let (ours, others): (Vec<_>, Vec<_>) = before.into_iter().partition(|id| self.ledger.installed(id));
        let looked_for = if ours.is_empty() { others } else { ours };
        let Some(list) = self.conversation.list().filter(|_| !looked_for.is_empty()) else { return false };
        looked_for.iter().all(|id| !list.contains_key(id))
    }

    /// A module that was told to be installed and is not listed may still come: commands can be
    /// late. Its record goes when it has not come for a long time.
    fn forget_absent(&mut self, now: Instant) {
        let Some(list) = self.conversation.list() else { return };
        self.absent.retain(|id, _| self.ledger.installed(id) && !list.contains_key(id));
        for id in self.ledger.all_installed().filter(|id| !list.contains_key(id)) {
            self.absent.entry(id).or_insert(now);
        }
        for (id, since) in &self.absent {
            if self.conversation.operation(&id.name).is_none() && now >= since.later(FORGET_AFTER) {
                self.ledger.forget_install(id);
            }
        }
        self.ledger.tidy();
    }

    fn ended(&mut self, ended: Ended, now: Instant) {
        if matches!(ended, Ended::Installed(_) | Ended::InstallFailed { .. } | Ended::Unanswered(_)) {
            self.jvm.install_ended(now);
        }
        match ended {
            Ended::Installed(id) => {
                self.installing_since.remove(&id);
                self.failures.installed(&id);
            }
            Ended::Uninstalled(id) => {
                self.ledger.forget_install(&id);
                self.failures.uninstalled(&id, now);
                self.jvm.uninstalled(&id, now);
            }
            Ended::InstallFailed { spec, reason, message } => self.install_failed(spec, reason, message, now),
            Ended::UninstallFailed { id, message } => {
                self.failures.uninstall_failed(id, message, &self.settings.backoff, now);
            }
            Ended::Lost => {}
            Ended::Unanswered(spec) => {
                // Bases up to 2.1.6 say nothing when a module throws at its start.
                if !self.failures.unanswered(&spec.id) {
                    let message = "the base answers no install of it, and does not list it".to_owned();
                    let (id, origin) = (spec.id.clone(), spec.origin);
                    self.ended(Ended::InstallFailed { spec, reason: Reason::InstallFailed, message }, now);
                    // It may still arrive.
                    self.ledger.install_from(&id, origin);
                }
            }
        }
    }

    fn install_failed(&mut self, spec: ModuleSpec, reason: Reason, message: String, now: Instant) {
        self.installing_since.remove(&spec.id);
        self.ledger.settle_origin(&spec.id, spec.origin);
        let list = self.conversation.last_list().into_iter().flat_map(|list| list.values());
        let cause = recognised(&spec.id, list, reason, message);
        let (mut tried_for, mut failed_before) = (BTreeSet::new(), 0);
        for (uid, memory) in &mut self.pods {
            let same = |c: &&mut ContainerMemory| c.module.as_ref() == Some(&spec.id);
            let Some(container) = memory.containers.get_mut(&spec.id.name).filter(same) else { continue };
            container.failed = true;
            tried_for.insert(uid.clone());
            // Of a container that has run, most restarts are no failed starts.
            failed_before = failed_before.max(if container.has_run { 0 } else { container.restarts });
        }
        self.failures.install_failed(spec, cause, tried_for, failed_before, (&self.settings.backoff, now));
    }
}
