//! What must hold at each moment, whatever happens.

use super::World;
use crate::domain::*;

impl World {
    /// No module that serves for a Pod is taken away from it.
    pub(super) fn check_command(&self, command: &Command) {
        let Command::Uninstall(id) = command else { return };
        let active =
            self.base.conversation.list().and_then(|l| l.get(id)).is_some_and(|m| m.state == ModuleState::Activated);
        let fits = |m: &ModuleSpec| m.id == *id && self.base.ledger.origin(id).is_none_or(|o| o == m.origin);
        let wanted = self.pods.iter().any(|p| p.is_live() && p.modules().any(fits));
        let makes_room =
            self.base.replacements.get(&id.name).is_some_and(|r| {
                r.empties() && (r.spec.id != *id || self.base.ledger.origin(id) != Some(r.spec.origin))
            });
        let memories = self.pods.iter().filter_map(|p| self.base.pods.get(&p.uid)?.containers.get(&id.name));
        let restarts = memories.into_iter().any(|c| c.restart.is_some());
        assert!(
            makes_room || restarts || !(active && wanted),
            "uninstall of {id}, which is active and wanted by a Pod"
        );
    }

    /// Nothing is installed that the next controller would not know of.
    pub(super) fn check_record(&self, command: &Command) {
        for id in command.installs().iter().map(|spec| &spec.id) {
            assert!(self.saved.installed(id) || self.journal.contains(id), "{id} is ordered and not on record");
        }
    }

    /// Ready is what the base's own list says, if that is newer than the Pod.
    pub(super) fn check_outcome(&self, outcome: &PodOutcome) {
        let pod = self.pods.iter().find(|p| p.uid == outcome.uid).unwrap();
        for (container, said) in pod.containers().iter().zip(&outcome.containers) {
            let spec = container.module().unwrap();
            let id = &spec.id;
            let fits = self.base.ledger.origin(id).is_none_or(|origin| origin == spec.origin);
            let listed = self.base.conversation.list().and_then(|l| l.get(id)).map(|m| m.state);
            let memory = &self.base.pods[&pod.uid];
            let has_run = memory.containers.get(&container.name).is_some_and(|c| c.has_run);
            let newer = has_run || memory.first_seen.is_none_or(|at| self.base.conversation.knows(at));
            // What is started anew does not serve, listed or not.
            let stays = memory.containers.get(&container.name).is_none_or(|c| c.restart.is_none());
            assert_eq!(
                said.active(),
                stays && newer && fits && listed == Some(ModuleState::Activated),
                "{id} of {}",
                pod.name
            );
        }
    }
}
