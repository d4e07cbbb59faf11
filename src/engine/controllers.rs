//! What the plans for peer Deployments and for bases' own Pods see of the engine's state.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::state::State;
use crate::{
    controllers::{
        base_pods::{BasePodFacts, Claim, Modules},
        peers::{PeerFacts, PeerNode, PeerPod},
    },
    domain::{BaseId, Content, Later, Pod, Reachability},
    planning::Effect,
};

/// Pods of the baseline are waited for so long: a base that no controller gives them is not kept out for ever.
const BASELINE: Duration = Duration::from_secs(60);

impl State {
    /// Counts the bases for peer Deployments.
    pub(super) fn plan_peers(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let nodes: Vec<_> = self
            .bases
            .iter()
            .filter_map(|(base, state)| {
                let node = state.node.object.object()?;
                Some(PeerNode { base, node, not_ready_since: state.node.not_ready_since })
            })
            .collect();
        let (pods, index) = (&self.pods, &self.index);
        let pods_of = |workload: &str| {
            let of = index.of_workload(workload).filter_map(|uid| pods.get(uid)).filter(|p| p.pod.is_live());
            of.map(|p| {
                let deletion_cost = p.deletion_cost.as_deref();
                PeerPod {
                    uid: &p.pod.uid,
                    name: &p.pod.name,
                    base: &p.base,
                    is_ready: p.pod.shown_ready,
                    deletion_cost,
                }
            })
            .collect()
        };
        let facts = PeerFacts { env: &self.config.env, nodes: &nodes, pods_of: &pods_of };
        self.peers.plan(&facts, now, &mut self.schedule, out);
    }

    /// Has bases' own Pods told whether all modules are there.
    pub(super) fn plan_base_pods(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut base_pods = std::mem::take(&mut self.base_pods);
        let mut schedule = std::mem::take(&mut self.schedule);
        if base_pods.asks_for_all() {
            base_pods.touched(self.bases.keys(), now, &mut schedule);
        }
        let (state, more) = (&*self, |base: &BaseId, more: bool| self.modules_of(base, more, now));
        let facts = BasePodFacts { claim_of: &|base| state.claim_of(base), modules_of: &more, wall: Timestamp::now() };
        base_pods.plan(&facts, now, &mut schedule, out);
        (self.base_pods, self.schedule) = (base_pods, schedule);
    }

    fn claim_of(&self, base: &BaseId) -> Option<Claim> {
        let state = self.bases.get(base)?;
        let info = state.base.info.as_ref()?;
        let (host, address) = (info.host_name.as_deref()?.into(), info.ip.as_deref()?.into());
        let answers = state.reachability == Some(Reachability::Online)
            && state.node.object.exists()
            && state.base.modules().is_some();
        Some(Claim { host, address, answers })
    }

    /// While a workload's new version is on its way and its old one is Ready, nothing is missing: a release takes no base
    /// out of its Services.
    fn modules_of(&self, base: &BaseId, whether_more_come: bool, now: Instant) -> Modules {
        let is_module = |pod: &&Pod| pod.is_live() && matches!(pod.content, Content::Modules(_));
        let pods: Vec<_> = self.pods_of(base).map(|pod| &pod.pod).filter(is_module).collect();
        let ready: HashSet<_> = pods.iter().filter(|pod| pod.shown_ready).map(|pod| &pod.workload.uid).collect();
        let missing = pods.iter().filter(|pod| !pod.shown_ready && !ready.contains(&pod.workload.uid));
        let missing = missing.map(|pod| Arc::from(pod.name.as_str())).collect();
        let new = self.bases.get(base).is_some_and(|state| state.created.later(BASELINE) > now);
        let mut to_come = Vec::new();
        if whether_more_come && new {
            let there: HashSet<_> = pods.iter().flat_map(|pod| pod.modules()).map(|m| &m.id.name).collect();
            let expected = self.expected_modules(base);
            let lacks = expected.iter().filter(|module| !there.contains(&module.id.name));
            to_come.extend(lacks.map(|module| Arc::from(module.id.name.as_str())));
        }
        Modules { total: pods.len(), missing, to_come }
    }
}
