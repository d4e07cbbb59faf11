//! What the cluster around the bases is like.

use tracing::info;

use crate::{
    api::Seen,
    engine::state::State,
    k8s::{kubelet_version, names},
};

impl State {
    /// A fact from the watch of Nodes that are not ours and have a zone.
    pub(super) fn zoned_node_seen<K>(&mut self, seen: &Seen<K>) {
        if matches!(seen, Seen::Applied(_)) && !std::mem::replace(&mut self.surroundings.zoned, true) {
            info!("ordinary Nodes have zones: bases have none of their own ({})", names::ZONE);
            self.look_at_all_nodes();
        }
    }

    /// The API server tells its version, or another one than before.
    pub(super) fn api_server_seen(&mut self, version: Option<&str>) {
        self.surroundings.kubelet_version = Some(kubelet_version(version));
        self.look_at_all_nodes();
    }

    fn look_at_all_nodes(&mut self) {
        for (id, state) in &mut self.bases {
            state.node.said = None; // it may be something else now
            self.dirty.insert(id.clone());
        }
    }
}
