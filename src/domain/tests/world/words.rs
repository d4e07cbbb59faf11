//! What tests ask a world: what Pods say, what was ordered, what the base has.

use super::World;
use crate::domain::*;

impl World {
    /// What was ordered, as `install 1` and the like.
    pub(in crate::domain::tests) fn orders(&self) -> Vec<String> {
        let order = |command: &Command| match command {
            Command::Install(spec, Strategy::InstallOnly) => Some(format!("install {}", spec.id.version)),
            Command::Install(spec, _) => Some(format!("switch {}", spec.id.version)),
            Command::Switch(spec) => Some(format!("switch over {}", spec.id.version)),
            Command::Uninstall(id) => Some(format!("uninstall {}", id.version)),
            Command::Baseline(_) => Some("baseline".to_owned()),
            _ => None,
        };
        self.sent.iter().filter_map(order).collect()
    }

    pub(in crate::domain::tests) fn is_ready(&self, uid: &PodUid) -> bool {
        self.outcomes.get(uid).is_some_and(PodOutcome::ready)
    }

    /// The first container's word for its state.
    pub(in crate::domain::tests) fn says(&self, uid: &PodUid) -> &'static str {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Active { .. }) => "Active",
            Some(ContainerOutcome::Waiting { reason, .. }) => reason.as_str(),
            Some(ContainerOutcome::Superseded { .. }) => "Superseded",
            Some(ContainerOutcome::SideCar) => "SideCar",
            None => "nothing",
        }
    }

    /// Whether a Pod's status ever had this word.
    pub(in crate::domain::tests) fn ever_said(&self, uid: &PodUid, word: &str) -> bool {
        self.words.iter().any(|(pod, said, _)| pod == uid && *said == word)
    }

    /// The first container's message.
    pub(in crate::domain::tests) fn message(&self, uid: &PodUid) -> String {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Waiting { message, .. } | ContainerOutcome::Superseded { message }) => {
                message.clone()
            }
            _ => String::new(),
        }
    }

    pub(in crate::domain::tests) fn restarts(&self, uid: &PodUid) -> u32 {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Active { restarts, .. } | ContainerOutcome::Waiting { restarts, .. }) => *restarts,
            _ => 0,
        }
    }

    pub(in crate::domain::tests) fn exists(&self, uid: &PodUid) -> bool {
        self.pods.iter().any(|p| p.uid == *uid)
    }

    /// `name:version` → state, as the base has it.
    pub(in crate::domain::tests) fn on_base(&self) -> Vec<(String, ModuleState)> {
        self.jvm.list.iter().map(|(id, state)| (id.to_string(), *state)).collect()
    }

    pub(in crate::domain::tests) fn installs(&self) -> usize {
        self.sent.iter().filter(|c| matches!(c, Command::Install(..))).count()
    }

    pub(in crate::domain::tests) fn uninstalls(&self) -> usize {
        self.sent.iter().filter(|c| matches!(c, Command::Uninstall(_))).count()
    }
}
