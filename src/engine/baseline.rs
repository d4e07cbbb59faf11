//! What belongs on a base that asks, beyond the Pods bound to it: the modules of `DaemonSet`s and peer
//! Deployments that admit it, so that it need not wait for controllers and scheduler.

use k8s_openapi::api::core::v1::{Node, Toleration};
use serde_json::json;

use super::{daemon_sets::as_pod, state::State};
use crate::{
    domain::{BaseId, BaseInfo, ModuleSpec},
    k8s::{MEMORY_PRESSURE_TAINT, NodeWriter, Sources, admits, pod_from},
};

/// Taints that say that a base is away, or has no metaspace left: the one that asks is not, and is a new JVM.
const OUTDATED: [&str; 3] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready", MEMORY_PRESSURE_TAINT];

impl State {
    /// The modules of Pods that will come to the base, as far as their templates tell.
    pub(super) fn expected_modules(&self, id: &BaseId, info: Option<&BaseInfo>) -> Vec<ModuleSpec> {
        let Some(mut node) = self.node_of(id, info) else { return Vec::new() };
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
            Some((template, set.metadata.namespace.clone()))
        });
        let peers = self.peers.templates(&self.config.env);
        let sources = Sources { referred: &self.references.known, ip: info.and_then(|i| i.ip.as_deref()) };
        daemons
            .chain(peers)
            .filter(|(template, _)| template.spec.as_ref().is_some_and(|spec| admits(spec, &node)))
            .flat_map(|(template, namespace)| {
                let pod = pod_from(&as_pod(&template, namespace), &self.revisions, &sources);
                pod.modules().filter(|m| m.unresolved.is_none()).cloned().collect::<Vec<_>>()
            })
            .collect()
    }

    /// The base's Node as it is, or as it will be made.
    fn node_of(&self, id: &BaseId, info: Option<&BaseInfo>) -> Option<Node> {
        let state = self.bases.get(id)?;
        if let Some(node) = state.node.object.object() {
            return Some(node.clone());
        }
        let info = state.base.info.as_ref().or(info)?;
        let writes = NodeWriter {
            name: &state.node.name,
            env: &self.config.env,
            info,
            max_metaspace: None,
            low_metaspace: None,
            java_version: None,
            max_pods: self.config.max_pods,
            zone_per_base: self.config.zone_per_base,
            env_taint: self.config.env_taint,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let node = json!({
            "metadata": { "name": &state.node.name, "labels": writes.labels() },
            "spec": { "taints": writes.taints() },
        });
        serde_json::from_value(node).ok()
    }
}
