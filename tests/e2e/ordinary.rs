//! Ordinary Nodes beside those of bases, and on them a kubelet that runs everything at once.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use modulet_testkit::control_plane::{ControlPlane, ControlPlaneOptions};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::stage::is_ready;

/// How often the kubelet looks at its Pods.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A control plane of the test's own: ordinary Nodes are seen by all controllers of a cluster.
pub(crate) async fn own_cluster(controller_manager_args: &[&str]) -> Result<&'static ControlPlane> {
    let controller_manager_args = controller_manager_args.iter().map(|arg| (*arg).to_owned());
    let options = ControlPlaneOptions {
        // Nobody renews their Leases.
        controller_manager_args: ["--node-monitor-grace-period=1h".to_owned()]
            .into_iter()
            .chain(controller_manager_args)
            .collect(),
        ..ControlPlaneOptions::default()
    };
    ControlPlane::start_own(options).await
}

/// Some ordinary Nodes.
pub(crate) struct OrdinaryNodes {
    kubelet: JoinHandle<()>,
}

impl Drop for OrdinaryNodes {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

impl OrdinaryNodes {
    /// Makes Nodes of these names, each in the zone that stands beside it, and runs what is bound to them.
    pub(crate) async fn with(client: &Client, nodes: &[(&str, Option<&str>)]) -> Result<Self> {
        let api: Api<Node> = Api::all(client.clone());
        let mut pods = Vec::new();
        for (number, (name, zone)) in nodes.iter().enumerate() {
            let mut labels = json!({ "kubernetes.io/os": "linux", "kubernetes.io/hostname": name });
            if let Some(zone) = zone {
                labels["topology.kubernetes.io/zone"] = json!(zone);
            }
            let resources = json!({ "cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi" });
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "labels": labels },
                "status": {
                    "capacity": resources, "allocatable": resources,
                    "addresses": [{ "type": "InternalIP", "address": format!("198.51.100.{}", number + 1) }],
                    "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                },
            });
            api.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
            pods.push((*name).to_owned());
        }
        Ok(Self { kubelet: tokio::spawn(kubelet(client.clone(), pods)) })
    }
}

/// What fails is tried again at the next look.
async fn kubelet(client: Client, nodes: Vec<String>) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut address = 0_u32;
    loop {
        for node in &nodes {
            let ours = ListParams::default().fields(&format!("spec.nodeName={node}"));
            for pod in all.list(&ours).await.map(|list| list.items).unwrap_or_default() {
                let _ = run(&client, &pod, &mut address).await;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn run(client: &Client, pod: &Pod, address: &mut u32) -> Result<()> {
    let meta = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.as_deref().unwrap_or_default();
    if meta.deletion_timestamp.is_some() {
        api.delete(name, &DeleteParams::default().grace_period(0)).await?;
    } else if !is_ready(pod) {
        *address += 1;
        let ip = format!("203.0.113.{}", *address % 250 + 1);
        let conditions = ["Ready", "ContainersReady", "Initialized"];
        let status = json!({ "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": conditions.map(|type_| json!({ "type": type_, "status": "True" })),
        } });
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    }
    Ok(())
}
