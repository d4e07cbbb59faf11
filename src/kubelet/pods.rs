//! The Pods of all bases, as a kubelet lists those of its Node.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::answer::Refused;
use crate::{k8s::names, tunnel::Topics};

/// So many are listed at most.
const MOST: u32 = 500;
const TIMEOUT: Duration = Duration::from_secs(10);
const WHAT: &str = "list the Pods of modules";

/// All Pods of modules on our bases; or those alone that run.
pub(super) async fn list(client: &Client, topics: &Topics, running: bool) -> Result<Value, Refused> {
    let failed = |why: String| Refused::Cluster { what: WHAT, why };
    let mut pods = BTreeMap::new();
    for label in [names::COMPONENT, names::COMPONENT_OLD] {
        let of_modules = ListParams::default().labels(&format!("{label}=module")).limit(MOST);
        let api = Api::<Pod>::all(client.clone());
        let list = timeout(TIMEOUT, api.list(&of_modules)).await;
        let list = list.map_err(|_| failed(format!("no answer in {TIMEOUT:?}")))?;
        let list = list.map_err(|error| failed(error.to_string()))?;
        if list.metadata.continue_.is_some_and(|more| !more.is_empty()) {
            return Err(Refused::NotPossible(format!(
                "there are more than {MOST} Pods of modules, and one endpoint serves all their Nodes: ask the API server, as in \
                 kubectl get pods --all-namespaces --field-selector spec.nodeName=…"
            )));
        }
        for pod in list.items {
            let ours =
                pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| topics.base_of(n).is_some());
            let runs = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
            if ours && (runs || !running) {
                pods.insert(pod.metadata.uid.clone(), pod);
            }
        }
    }
    let pods: Vec<_> = pods.into_values().collect();
    Ok(json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }))
}
