//! The Pods of all bases, as a kubelet lists those of its Node.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{answer::Refused, base::Cluster};
use crate::k8s::names;

/// So many are listed at most.
const MOST: u32 = 500;

/// All Pods of modules on our bases; or those alone that run.
pub(super) async fn list(cluster: &Cluster, running: bool) -> Result<Value, Refused> {
    let mut pods = BTreeMap::new();
    for label in [names::COMPONENT, names::COMPONENT_OLD] {
        let Some(found) = cluster.labelled(&format!("{label}=module"), MOST).await? else {
            return Err(Refused::NotPossible(format!(
                "there are more than {MOST} Pods of modules, and one endpoint serves all their Nodes: ask the API server, as in \
                 kubectl get pods --all-namespaces --field-selector spec.nodeName=…"
            )));
        };
        for pod in found {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let runs = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
            if node.is_some_and(|node| cluster.is_ours(node)) && (runs || !running) {
                pods.insert(pod.metadata.uid.clone(), pod);
            }
        }
    }
    let pods: Vec<_> = pods.into_values().collect();
    Ok(json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }))
}
