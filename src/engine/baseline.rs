//! What belongs on a base that asks, beyond the Pods bound to it: the modules of `DaemonSet`s and peer
//! Deployments that admit it, so that it need not wait for controllers and scheduler.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Toleration};

use super::state::State;
use crate::{
    controllers::rollout::Kind,
    domain::{BaseId, ModuleSpec},
    k8s::{MEMORY_PRESSURE_TAINT, admits, pod_from},
};

/// Taints that say that a base is away, or has no metaspace left: the one that asks is not, and is a new JVM.
const OUTDATED: [&str; 3] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready", MEMORY_PRESSURE_TAINT];

impl State {
    /// A base that asked before it had a Node is answered once it has one: nothing but its Node says which modules are
    /// for it, and no module with its Secrets goes to whoever only says a name.
    pub(super) fn expect_modules(&mut self, id: &BaseId, now: Instant) {
        if self.bases.get(id).is_some_and(|state| state.asked_before_its_node && state.node.object.exists()) {
            let expected = self.expected_modules(id);
            if let Some(state) = self.bases.get_mut(id) {
                state.asked_before_its_node = false;
                state.base.expects(expected, now);
            }
        }
    }

    /// The modules of Pods that will come to the base, as far as its Node and their templates tell.
    pub(super) fn expected_modules(&self, id: &BaseId) -> Vec<ModuleSpec> {
        let Some(state) = self.bases.get(id) else { return Vec::new() };
        let Some(mut node) = state.node.shown() else { return Vec::new() };
        if let Some(taints) = node.spec.as_mut().and_then(|s| s.taints.as_mut()) {
            taints.retain(|t| !OUTDATED.contains(&t.key.as_str()));
        }
        let daemons = self.daemon_sets.all().filter_map(|set| {
            let mut template = set.spec.as_ref()?.template.clone();
            // Its controller adds this toleration: daemons run on cordoned Nodes too (Kubernetes convention).
            let cordon = Toleration {
                key: Some("node.kubernetes.io/unschedulable".to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoSchedule".to_owned()),
                ..Toleration::default()
            };
            template.spec.as_mut()?.tolerations.get_or_insert_default().push(cordon);
            Some((Kind::DaemonSet, template, set.metadata.clone()))
        });
        let peers = self.peers.templates(&self.config.env).map(|(template, meta)| (Kind::Deployment, template, meta));
        daemons
            .chain(peers)
            .filter(|(_, template, _)| template.spec.as_ref().is_some_and(|spec| admits(spec, &node)))
            .filter(|(kind, template, meta)| self.comes_without_a_batch(*kind, template, meta))
            .flat_map(|(_, template, meta)| {
                let pod = pod_from(&as_pod(template, meta.namespace), &self.revisions, &self.sources(id));
                pod.modules().filter(|m| m.unresolved.is_none()).cloned().collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The Pod that a template makes.
fn as_pod(template: PodTemplateSpec, namespace: Option<String>) -> Pod {
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.namespace = namespace;
    Pod { metadata, spec: template.spec, status: None }
}
