//! What others of the cluster do to a base's Node or ask of its Pods, and what is told about it.

use std::collections::{BTreeMap, HashMap};

use tracing::warn;

use crate::{
    config::SharedModuleNames,
    domain::{BaseId, ContainerOutcome, Phase, Pod, PodOutcome, PodUid, Reason},
    engine::{known::PodState, state::State},
    k8s::names,
    planning::Effect,
};

impl State {
    /// Tells Pods that were to be spread over zones that this has no effect.
    pub(super) fn report_without_zones(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        if self.surroundings.has_zone_per_base() {
            return;
        }
        for uid in self.index.of_base(id) {
            let Some(pod) = self.pods.get_mut(uid) else { continue };
            if !std::mem::take(&mut pod.spreads_over_zones) {
                continue;
            }
            let message = format!(
                "it is to be spread over {}, and bases have no zone of their own here (MODULET_ZONE_PER_BASE): that \
                 does not keep it apart from others on one base; use the topologyKey {}",
                names::ZONE,
                names::HOSTNAME
            );
            out.extend(pod.note(true, "ZonesNotUsed", message));
        }
    }

    /// Tells of what was done to the Node: once.
    pub(super) fn report_pod_cidr(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id) else { return };
        let Some(cidr) = state.node.pod_cidr.as_deref().filter(|_| !state.node.told_pod_cidr) else { return };
        let message = format!(
            "the Node was given the Pod CIDR {cidr}, which a base never uses: one for each base empties the cluster's \
             pool; switch the allocation of CIDRs off, or make it large enough for all bases"
        );
        if !std::mem::replace(&mut self.surroundings.told_pod_cidrs, true) {
            warn!(base = %id, cidr, "Nodes of bases are given Pod CIDRs, which they never use; see the metric modulet_nodes_with_pod_cidr");
        }
        out.push(state.note(true, "PodCIDRAssigned", message));
        state.node.told_pod_cidr = true;
    }
}

/// Finds Pods that use a module name which a Pod of another namespace uses on the base. Tells both, and returns which
/// were told now; takes those out of `pods` that are refused for it, and returns what their statuses say.
pub(super) fn share_names(
    pods: &mut Vec<&Pod>,
    states: &HashMap<PodUid, Box<PodState>>,
    option: SharedModuleNames,
    out: &mut Vec<Effect>,
) -> (Vec<PodUid>, Vec<PodOutcome>) {
    let (mut told, mut refused) = (Vec::new(), BTreeMap::new());
    let has_begun = |pod: &Pod| {
        let has_run = pod.containers().iter().any(|container| container.history.has_run);
        has_run || states.get(&pod.uid).is_some_and(|state| state.commanded)
    };
    for (later, earlier, name) in shared(pods, has_begun) {
        let (Some(later), Some(earlier)) = (states.get(&later.uid), states.get(&earlier.uid)) else { continue };
        if option == SharedModuleNames::Refuse && !has_begun(&later.pod) {
            let message = format!(
                "Pod {} has the module name {name} on this base, and names are not shared between namespaces \
                 (MODULET_SHARED_MODULE_NAMES)",
                earlier.pod.name
            );
            let waiting = ContainerOutcome::Waiting { reason: Reason::Held, message, restarts: 0 };
            refused.insert(later.pod.uid.clone(), vec![waiting; later.pod.containers().len()]);
        }
        if !later.told_shared {
            told.push(later.pod.uid.clone());
            for (pod, other) in [(later, earlier), (earlier, later)] {
                let message = format!(
                    "Pod {} of another namespace has the module name {name} on this base too: a base has one module of \
                     a name, so one takes the place of the other",
                    other.pod.name
                );
                out.extend(pod.note(true, "ModuleNameShared", message));
            }
        }
    }
    pods.retain(|pod| !refused.contains_key(&pod.uid));
    let outcome = |(uid, containers)| PodOutcome::new(uid, Phase::Pending, containers);
    (told, refused.into_iter().map(outcome).collect())
}

fn namespace(pod: &Pod) -> &str {
    pod.name.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// For each Pod that shares a name, the first one of another namespace that has it, and the name. What has begun comes
/// before what has not, and then what is older.
fn shared<'p>(pods: &[&'p Pod], has_begun: impl Fn(&Pod) -> bool) -> Vec<(&'p Pod, &'p Pod, &'p str)> {
    let mut live: Vec<_> = pods.iter().copied().filter(|pod| pod.is_live()).collect();
    let Some(first) = live.first().map(|pod| namespace(pod)) else { return Vec::new() };
    if live.iter().all(|pod| namespace(pod) == first) {
        return Vec::new();
    }
    live.sort_by_cached_key(|pod| (!has_begun(pod), pod.created, pod.uid.clone()));
    let (mut holders, mut found) = (BTreeMap::<&str, &Pod>::new(), Vec::new());
    for pod in live {
        let names = || pod.modules().map(|module| module.id.name.as_str());
        let of_another = |holder: &&&Pod| namespace(holder) != namespace(pod);
        let shares = names().find_map(|name| Some((name, holders.get(name).filter(of_another)?)));
        found.extend(shares.map(|(name, holder)| (pod, *holder, name)));
        for name in names() {
            holders.entry(name).or_insert(pod);
        }
    }
    found
}
