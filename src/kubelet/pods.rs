//! The Pods of a base, or of all, as a kubelet lists those of its Node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{answer::Refused, base::Cluster};
use crate::k8s::{component, names};

/// So many are listed at most.
const MOST: u32 = 500;

/// Pods of modules, as a list.
pub(super) async fn list(cluster: &Cluster, node: Option<&str>, running: bool) -> Result<Value, Refused> {
    let pods = modules(cluster, node, running).await?;
    Ok(json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }))
}

/// What is so of a kubelet's figures: which Pods run on the Node, with which containers. Figures have fields of their own, which
/// a kubelet that does not know them leaves out as well.
pub(super) async fn summary(cluster: &Cluster, node: &str) -> Result<Value, Refused> {
    let pods = modules(cluster, Some(node), true).await?;
    let pods = pods.iter().map(|Pod { metadata, spec, .. }| {
        let containers = spec.iter().flat_map(|spec| &spec.containers);
        json!({
            "podRef": { "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid },
            "containers": containers.map(|container| json!({ "name": container.name })).collect::<Vec<_>>(),
        })
    });
    Ok(json!({ "node": { "nodeName": node }, "pods": pods.collect::<Vec<_>>() }))
}

/// All Pods of modules on one of our Nodes, or on all of them; or those alone that run.
async fn modules(cluster: &Cluster, node: Option<&str>, running: bool) -> Result<Vec<Pod>, Refused> {
    let like = match node {
        Some(node) => vec![ListParams::default().fields(&format!("spec.nodeName={node}"))],
        None => [names::COMPONENT, names::COMPONENT_OLD]
            .map(|label| ListParams::default().labels(&format!("{label}=module")))
            .into(),
    };
    let mut pods = BTreeMap::new();
    for like in like {
        let Some(found) = cluster.pods(like, MOST).await? else {
            return Err(Refused::NotPossible(format!(
                "there are more than {MOST} Pods of modules: ask for one Node, by the API server's proxy to it, or ask the API \
                 server itself, as in kubectl get pods --all-namespaces --field-selector spec.nodeName=…"
            )));
        };
        for pod in found {
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let runs = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
            let is_module = component(&pod) == Some("module");
            if is_module && on.is_some_and(|on| cluster.is_ours(on)) && (runs || !running) {
                pods.insert(pod.metadata.uid.clone(), pod);
            }
        }
    }
    Ok(pods.into_values().collect())
}
