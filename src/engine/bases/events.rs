//! What Events tell of a base and of its Pods: each change once.

use std::{collections::HashSet, time::Instant};

use tracing::info;

use crate::{
    api::{Note, Report, Subject},
    domain::{
        BaseId, Command, ContainerOutcome, ModuleId, ModuleSpec, PodOutcome, PodUid, Reachability, Reason, Workload,
    },
    engine::{
        known::{BaseState, Failure, PodState, Reported},
        state::State,
    },
    k8s::{METASPACE_ENOUGH, METASPACE_LOW, names},
    planning::Effect,
};

/// A module was active before its Pod came, and was not started anew.
const ALREADY_RUNNING: &str = "AlreadyRunning";
const VERSION_IN_USE: &str = Reason::VersionInUse.as_str();
/// So many Deployments are remembered as told, beyond those that have Pods.
const DEPLOYMENTS: usize = 1_000;

/// What a template asks for is not done on some base.
pub(super) struct NotDone {
    warning: bool,
    reason: &'static str,
    message: String,
}

impl BaseState {
    /// An Event about its Node.
    pub(super) fn note(&self, warning: bool, reason: &'static str, message: String) -> Effect {
        Effect::Note(Note::of(Subject::Node(self.node.name.clone()), warning, reason, message))
    }
}

impl PodState {
    /// An Event about it.
    pub(in crate::engine) fn note(&self, warning: bool, reason: &'static str, message: String) -> Option<Effect> {
        let (namespace, name) = self.pod.name.split_once('/')?;
        let subject = Subject::Pod(namespace.to_owned(), name.to_owned(), self.pod.uid.to_string());
        Some(Effect::Note(Note { trace: self.pod.trace.clone(), ..Note::of(subject, warning, reason, message) }))
    }

    /// What a container is called: by its module, where it is one.
    fn called(&self, container: usize) -> String {
        let named = self.pod.containers().get(container);
        named.map_or_else(String::new, |c| c.module().map_or_else(|| c.name.clone(), |module| module.id.to_string()))
    }

    /// Tells what has changed since the last time. Returns what its Deployment is to be told too: that what its template
    /// asks for is not done. `shares`: another Pod on the base has a module of it; what came with a baseline and waited for
    /// its Pod is nobody else's.
    pub(super) fn report(&mut self, outcome: &PodOutcome, shares: bool, out: &mut Vec<Effect>) -> Option<NotDone> {
        let mut not_done = None;
        if outcome.containers.is_empty() {
            return None;
        }
        let containers = outcome.containers.iter().map(Reported::of).collect();
        let reported = Reported { containers, not_done: self.pod.not_done.clone() };
        if reported == self.reported {
            return None;
        }
        if reported.not_done != self.reported.not_done && !reported.not_done.is_empty() {
            let message = format!("a base has no such thing, so this is not done: {}", reported.not_done.join(", "));
            out.extend(self.note(true, "FieldsIgnored", message));
        }
        for (index, container) in outcome.containers.iter().enumerate() {
            if self.reported.containers.get(index) == reported.containers.get(index) {
                continue;
            }
            let module = self.called(index);
            // It was active before anything was ordered for this Pod.
            let found = !self.commanded && self.pod.containers().get(index).is_some_and(|c| !c.history.has_run);
            let (warning, reason, message) = match container {
                ContainerOutcome::Active { .. } if shares && found => {
                    let message = format!(
                        "{module} is active on the base, where it was running before: it was not started anew, also not for \
                         other args or env. To have it restarted, let the old Pod go first (maxSurge 0)"
                    );
                    (false, ALREADY_RUNNING, message)
                }
                ContainerOutcome::Active { .. } => (false, "Installed", format!("{module} is active on the base")),
                ContainerOutcome::Superseded { message } => (false, names::BIZ_DEACTIVATE, message.clone()),
                ContainerOutcome::SideCar => {
                    let message = format!("container {module} is no module (its image is no URL) and is not run");
                    (true, "SideCarIgnored", message)
                }
                // Reported when the command goes out, or by the probe.
                ContainerOutcome::Waiting {
                    reason: Reason::Installing | Reason::Switching | Reason::Unhealthy,
                    ..
                } => {
                    continue;
                }
                ContainerOutcome::Waiting { reason, message, .. } => {
                    let expected =
                        matches!(reason, Reason::Held | Reason::AwaitingBatch | Reason::Replacing | Reason::BaseBusy);
                    (!expected, reason.as_str(), message.clone())
                }
            };
            if matches!(reason, ALREADY_RUNNING | VERSION_IN_USE) {
                not_done.get_or_insert_with(|| NotDone { warning, reason, message: message.clone() });
            }
            out.extend(self.note(warning, reason, message));
        }
        self.reported = reported;
        not_done
    }

    /// Has those failures reported to hooks that were not yet.
    pub(super) fn report_failures(&mut self, node: &str, outcome: &PodOutcome, out: &mut Vec<Effect>) {
        for Failure { container, reason, message } in self.failures.new_of(outcome) {
            let module = container.map_or_else(String::new, |index| self.called(index));
            let (node, trace, pod) = (node.to_owned(), self.pod.trace.clone(), self.pod.name.clone());
            out.push(Effect::Report(Report { node, pod, module, reason, message, trace }));
        }
    }
}

impl State {
    /// Whether nothing was ordered for a Pod, and another Pod on the base has a module of it.
    pub(super) fn shares_a_module(&self, id: &BaseId, pod: &PodUid) -> bool {
        let fresh = |own: &&PodState| !own.commanded && own.pod.containers().iter().any(|c| !c.history.has_run);
        let Some(own) = self.pods.get(pod).map(Box::as_ref).filter(fresh) else { return false };
        let mut others = self.pods_of(id).filter(|other| other.pod.uid != *pod).flat_map(|other| other.pod.modules());
        others.any(|other| own.pod.modules().any(|module| module.id == other.id))
    }

    /// Tells a Pod's Deployment, once for each revision of its template.
    pub(super) fn report_deployment(&mut self, pod: &PodUid, not_done: NotDone, out: &mut Vec<Effect>) {
        let Some(state) = self.pods.get(pod) else { return };
        let Some(name) = self.revisions.deployment(&state.owner) else { return };
        let Workload { uid, revision } = state.pod.workload.clone();
        let Some((namespace, _)) = state.pod.name.split_once('/') else { return };
        let subject = Subject::Deployment(namespace.to_owned(), name.to_string(), uid.to_string());
        if self.reported_deployments.len() >= DEPLOYMENTS {
            let used: HashSet<_> = self.pods.values().map(|p| p.pod.workload.uid.clone()).collect();
            self.reported_deployments.retain(|uid, _| used.contains(uid));
        }
        if self.reported_deployments.insert(uid, revision) != Some(revision) {
            let NotDone { warning, reason, message } = not_done;
            out.push(Effect::Note(Note::of(subject, warning, reason, message)));
        }
    }

    /// What the Pod of a module calls the work that it belongs to.
    pub(in crate::engine) fn trace_of(&self, id: &BaseId, module: &ModuleId) -> Option<&str> {
        let mut pods = self.pods_of(id).filter(|pod| pod.pod.modules().any(|spec| spec.id == *module));
        pods.find_map(|pod| pod.pod.trace.as_deref())
    }

    /// Tells that a command goes out.
    pub(super) fn report_command(&mut self, id: &BaseId, command: &Command, now: Instant, out: &mut Vec<Effect>) {
        match command {
            Command::Install(spec, _) => {
                let trace = self.trace_of(id, &spec.id);
                info!(base = %id, module = %spec.id, trace, switch = command.is_switch(), "installing");
                self.report_installing(id, std::slice::from_ref(spec), command.is_switch(), now, out);
            }
            Command::Switch(spec) => {
                info!(base = %id, module = %spec.id, trace = self.trace_of(id, &spec.id), "switching");
                self.report_installing(id, std::slice::from_ref(spec), true, now, out);
            }
            Command::Baseline(specs) => {
                info!(base = %id, modules = specs.len(), "answering with the baseline");
                self.report_installing(id, specs, false, now, out);
            }
            Command::Uninstall(module) => {
                info!(base = %id, %module, trace = self.trace_of(id, module), "uninstalling");
                for pod in self.pods_of(id) {
                    if pod.pod.deleting.is_some() && pod.pod.modules().any(|s| s.id == *module) {
                        out.extend(pod.note(false, Reason::Uninstalling.as_str(), format!("uninstalling {module}")));
                    }
                }
            }
            Command::QueryModules | Command::QueryHealth => {}
        }
    }

    fn report_installing(
        &mut self,
        id: &BaseId,
        specs: &[ModuleSpec],
        switch: bool,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        for uid in self.index.of_base(id) {
            let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.pod.is_live()) else { continue };
            let Some(spec) = pod.pod.modules().find(|m| specs.contains(m)) else { continue };
            let (reason, message) = if switch {
                (Reason::Switching, format!("{} has started; switching to it", spec.id))
            } else {
                (Reason::Installing, format!("installing {} from {}", spec.id, spec.shown_url()))
            };
            out.extend(pod.note(false, reason.as_str(), message));
            if !std::mem::replace(&mut pod.commanded, true) {
                self.metrics.observe_bound_to_command(now.saturating_duration_since(pod.first_seen));
            }
        }
    }

    /// Tells that a base can be reached, or cannot.
    pub(super) fn report_reachability(&mut self, id: &BaseId, to: Reachability, out: &mut Vec<Effect>) {
        // Before it says who it is it has no Node, and may never have one.
        let Some(state) = self.bases.get_mut(id).filter(|state| state.base.info.is_some()) else { return };
        if state.reported_reachability.replace(to) == Some(to) {
            return;
        }
        let (warning, reason, message) = match to {
            Reachability::Online => (false, "BaseReady", "the base answers"),
            Reachability::Unreachable => (true, "BaseUnreachable", "the base was asked and does not answer"),
            Reachability::Stopped => (true, "BaseStopped", "the base said that it goes away"),
            Reachability::Dead => (true, "BaseDead", "the base has been away for too long, the Node is deleted"),
            Reachability::Unknown => return,
        };
        out.push(state.note(warning, reason, message.to_owned()));
    }

    /// Tells on the Node, once it is there, that the base says an address that is none.
    pub(super) fn report_refused_address(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id).filter(|state| state.node.object.exists()) else { return };
        let Some(why) = state.registration.unreported.take() else { return };
        let message = match state.base.info.as_ref().and_then(|info| info.ip.as_deref()) {
            Some(known) => format!("{why}; its address stays {known}"),
            None => format!("{why}; it has no address"),
        };
        out.push(state.note(true, "AddressRefused", message));
    }

    /// Tells once that metaspace is low, of the Node and of each Pod on it, and once that it is over.
    pub(super) fn report_metaspace(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id).filter(|state| state.base.info.is_some()) else { return };
        let low = state.node.has_low_metaspace();
        if std::mem::replace(&mut state.node.reported_metaspace, low) == low {
            return;
        }
        let says = state.node.pressure.as_ref().filter(|said| said.low).map(|said| said.message.clone());
        let (reason, message) = match &says {
            Some(says) => (METASPACE_LOW, says.clone()),
            None => (METASPACE_ENOUGH, "the base has enough metaspace again".to_owned()),
        };
        out.push(state.note(low, reason, message));
        if let Some(says) = says {
            let pods = self.pods_of(id).filter(|pod| pod.pod.is_live());
            out.extend(pods.filter_map(|pod| pod.note(true, METASPACE_LOW, format!("the base: {says}"))));
        }
    }
}
