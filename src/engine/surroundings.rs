//! What the cluster around the bases is like, as far as their Nodes depend on it.

use tracing::info;

use super::state::State;
use crate::{
    api::Seen,
    config::ZonePerBase,
    domain::BaseId,
    k8s::{kubelet_version, names},
    planning::Effect,
};

/// Facts about the cluster.
#[derive(Debug)]
pub(super) struct Surroundings {
    zone_per_base: ZonePerBase,
    /// An ordinary Node has a zone. It stays so for as long as this process lives, also when that Node goes: zones that
    /// come and go with an autoscaler's Nodes would move other people's Pods.
    zoned: bool,
    kubelet_version: Option<String>,
}

impl Surroundings {
    pub(super) fn new(zone_per_base: ZonePerBase) -> Self {
        Self { zone_per_base, zoned: false, kubelet_version: None }
    }

    /// Whether all is known that Nodes depend on, and that no watch tells.
    pub(super) fn are_known(&self) -> bool {
        self.kubelet_version.is_some()
    }

    /// Whether a base is a zone of its own. Where ordinary Nodes have zones that would stop hard spreads of other
    /// people's Pods, for no Pod of theirs may go to the bases' zones.
    pub(super) fn has_zone_per_base(&self) -> bool {
        match self.zone_per_base {
            ZonePerBase::Auto => !self.zoned,
            ZonePerBase::True => true,
            ZonePerBase::False => false,
        }
    }

    /// The version that Nodes say.
    pub(super) fn kubelet_version(&self) -> &str {
        self.kubelet_version.as_deref().unwrap_or_default()
    }
}

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
            state.node.look_again();
            self.dirty.insert(id.clone());
        }
    }

    /// Tells Pods that were to be spread over zones that this has no effect.
    pub(super) fn report_without_zones(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        if self.surroundings.has_zone_per_base() {
            return;
        }
        let uids: Vec<_> =
            self.pods_of(id).filter(|pod| pod.spreads_over_zones).map(|pod| pod.pod.uid.clone()).collect();
        for uid in uids {
            let Some(pod) = self.pods.get_mut(&uid) else { continue };
            pod.spreads_over_zones = false;
            let message = format!(
                "it is to be spread over {}, and bases have no zone of their own here (MODULET_ZONE_PER_BASE): that \
                 does not keep it apart from others on one base; use the topologyKey {}",
                names::ZONE,
                names::HOSTNAME
            );
            out.extend(pod.note(true, "ZonesNotUsed", message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_given_up_once_and_only_where_that_is_left_to_us() {
        for (option, before, after) in
            [(ZonePerBase::Auto, true, false), (ZonePerBase::True, true, true), (ZonePerBase::False, false, false)]
        {
            let mut around = Surroundings::new(option);
            assert_eq!(around.has_zone_per_base(), before, "{option:?}");
            around.zoned = true;
            assert_eq!(around.has_zone_per_base(), after, "{option:?}");
        }
    }
}
