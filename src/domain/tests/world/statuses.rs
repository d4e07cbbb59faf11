//! Statuses that reach the API server, and what their Pods show then.

use super::World;
use crate::domain::*;

impl World {
    /// The API server gets the oldest status that it has not.
    pub(in crate::domain::tests) fn write_status(&mut self) {
        let Some(outcome) = self.unwritten.pop_front() else { return };
        let Some(pod) = self.pods.iter_mut().find(|p| p.uid == outcome.uid) else { return };
        if pod.terminal {
            return;
        }
        if let Content::Modules(containers) = &mut pod.content {
            for (container, said) in containers.iter_mut().zip(&outcome.containers) {
                (container.history.started, container.history.ready) = (said.started(), said.ready());
                match said {
                    ContainerOutcome::Active { restarts, .. } => {
                        (container.history.kept_out, container.history.lacks) = (None, None);
                        container.history.has_run = true;
                        container.history.restarts = *restarts;
                    }
                    ContainerOutcome::Waiting { reason, message, restarts } => {
                        let id = container.module().map(|m| m.id.clone());
                        let says = |what: Reason| id.as_ref().filter(|_| *reason == what);
                        container.history.kept_out =
                            says(Reason::WebContextInUse).and_then(|id| path_in_use(id, message));
                        container.history.lacks =
                            says(Reason::InsufficientMetaspace).and_then(|id| lack_of(id, message));
                        container.history.restarts = *restarts;
                        container.history.failed |= *reason == Reason::InstallFailed;
                    }
                    ContainerOutcome::Superseded { .. } | ContainerOutcome::SideCar => {}
                }
            }
        }
        pod.shown_ready = outcome.ready();
        if outcome.phase == Phase::Failed {
            (pod.terminal, pod.superseded) = (true, true);
            self.superseded += 1;
            if self.replaces && pod.deleting.is_none() {
                let (workload, modules) =
                    (pod.workload.clone(), pod.modules().map(|m| m.id.clone()).collect::<Vec<_>>());
                let modules: Vec<_> = modules.iter().map(|m| (m.name.as_str(), m.version.as_str())).collect();
                self.pod(&workload.uid, workload.revision, &modules);
            }
        }
        for container in &outcome.containers {
            if let ContainerOutcome::Waiting { reason, message, .. } = container {
                self.words.insert((outcome.uid.clone(), reason.as_str(), message.clone()));
            }
        }
        self.outcomes.insert(outcome.uid.clone(), outcome);
    }
}
