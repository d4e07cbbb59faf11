//! Releases in batches: what they see of the engine's state, and which Pods wait for their batch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    known::{PodState, Waits, is_required},
    state::State,
};
use crate::{
    controllers::rollout::{BaseFacts, Kind, PodFacts, PodIs, RolloutFacts, WorkloadFacts, WorkloadName},
    domain::{BaseId, Reachability, Reason},
    planning::Effect,
};

impl State {
    /// Whether a base may have the modules of a workload's template before its Pod is there.
    pub(super) fn comes_without_a_batch(&self, kind: Kind, template: &PodTemplateSpec, of: &ObjectMeta) -> bool {
        let text = |field: &Option<String>| Arc::from(field.as_deref().unwrap_or_default());
        let workload = WorkloadName { namespace: text(&of.namespace), kind, name: text(&of.name) };
        let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
        self.rollouts.rests(&workload, annotations.is_some_and(is_required))
    }

    /// Decides on releases where that is `due`, and has Pods come or wait as was decided.
    pub(super) fn plan_rollouts(&mut self, due: bool, now: Instant, out: &mut Vec<Effect>) {
        if !self.dirty.is_empty() {
            self.rollouts.bases_touched(now, &mut self.schedule);
        }
        if due {
            let (mut rollouts, mut schedule) = (std::mem::take(&mut self.rollouts), std::mem::take(&mut self.schedule));
            let state = &*self;
            let labels_of = |base: &BaseId| state.labels_of(base);
            let facts_of =
                |name: &WorkloadName, workload: Option<WorkloadFacts>| state.rollout_facts(name, workload, &labels_of);
            let makes_room = rollouts.plan(&facts_of, now, &mut schedule, out);
            (self.rollouts, self.schedule) = (rollouts, schedule);
            makes_room.iter().for_each(|uid| self.plan_deletion(uid, now, out));
        }
        if self.rollouts.take_changed() {
            self.see_gates();
        }
    }

    /// Pods may come, or have to wait.
    fn see_gates(&mut self) {
        for state in self.pods.values_mut() {
            let (held_back, lingers) = state.template.gates(&self.rollouts, &state.base);
            if held_back != state.pod.held_back || lingers != state.pod.lingers {
                (state.pod.held_back, state.pod.lingers) = (held_back, lingers);
                self.dirty.insert(state.base.clone());
            }
        }
    }

    fn labels_of(&self, base: &BaseId) -> BTreeMap<String, String> {
        let node = self.bases.get(base).and_then(|state| state.node.shown());
        node.and_then(|node| node.metadata.labels).unwrap_or_default()
    }

    fn rollout_facts<'a>(
        &'a self,
        name: &WorkloadName,
        workload: Option<WorkloadFacts>,
        labels_of: &'a dyn Fn(&BaseId) -> BTreeMap<String, String>,
    ) -> RolloutFacts<'a> {
        let uid = workload.as_ref().map(|facts| Arc::clone(&facts.uid)).unwrap_or_default();
        let revisions = self.revisions.of_workload(&uid, &name.name);
        let mut pods = HashMap::<&BaseId, (Vec<PodFacts>, Vec<Arc<str>>)>::new();
        let of_it = self.index.of_workload(&uid).filter_map(|uid| self.pods.get(uid));
        for pod in of_it.filter(|pod| !pod.pod.terminal) {
            let Some(revision) = pod.template.revision.clone() else { continue };
            let (live, going) = pods.entry(&pod.base).or_default();
            if pod.pod.is_live() {
                let state = self.bases.get(&pod.base);
                let lacks = || state.is_some_and(|state| pod.pod.modules().any(|m| state.base.lacks(&m.id)));
                live.push(PodFacts { uid: pod.pod.uid.clone(), revision, is: pod.is(lacks) });
            } else {
                going.push(revision);
            }
        }
        let without = self.bases.keys().filter(|base| name.kind == Kind::DaemonSet && !pods.contains_key(base));
        let others = without.filter_map(|base| self.base_facts(base, Vec::new(), Vec::new())).collect();
        let bases = pods.into_iter().filter_map(|(base, (pods, going))| self.base_facts(base, pods, going)).collect();
        RolloutFacts { workload, revisions, bases, others, labels_of, wall: Timestamp::now() }
    }

    fn base_facts<'a>(&'a self, base: &'a BaseId, pods: Vec<PodFacts>, going: Vec<Arc<str>>) -> Option<BaseFacts<'a>> {
        let state = self.bases.get(base)?;
        let reachable = matches!(state.reachability, None | Some(Reachability::Online | Reachability::Unknown));
        let cluster = state.base.info.as_ref().and_then(|info| info.cluster.as_deref());
        Some(BaseFacts { base, node: &state.node.name, cluster, reachable, pods, going })
    }
}

impl PodState {
    /// How far it is, as the API shows it. What it shows as Ready may have given way since, which its base told us before
    /// the API has it: who counted it would end the way back too early.
    fn is(&self, base_lacks_it: impl FnOnce() -> bool) -> PodIs {
        if self.is_observed_ready() {
            return if base_lacks_it() { PodIs::AtWork } else { PodIs::Ready };
        }
        match self.waits_for {
            Waits::For(Reason::AwaitingBatch) => PodIs::Awaiting,
            Waits::Pending if !self.commanded => PodIs::Awaiting,
            Waits::For(reason) if reason.is_failure() => {
                let shown = self.shown().and_then(|pod| pod.status?.container_statuses).unwrap_or_default();
                let why = shown.iter().find_map(|c| {
                    let waiting = c.state.as_ref()?.waiting.as_ref()?;
                    (waiting.reason.as_deref() == Some(reason.as_str()))
                        .then_some((waiting.message.as_deref(), c.restart_count))
                });
                let (message, tries) = why.unwrap_or_default();
                PodIs::Failed(reason.as_str().to_owned(), message.unwrap_or_default().to_owned(), tries)
            }
            Waits::Pending | Waits::For(_) | Waits::BaseUnreachable | Waits::NotReady => PodIs::AtWork,
        }
    }
}
