//! What the controllers of workloads see of the engine's state.

use std::time::Instant;

use super::state::State;
use crate::{
    controllers::peers::{PeerFacts, PeerNode, PeerPod},
    planning::Effect,
};

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
                PeerPod { uid: &p.pod.uid, name: &p.pod.name, base: &p.base, deletion_cost }
            })
            .collect()
        };
        let facts = PeerFacts { env: &self.config.env, nodes: &nodes, pods_of: &pods_of };
        self.peers.plan(&facts, now, &mut self.schedule, out);
    }
}
