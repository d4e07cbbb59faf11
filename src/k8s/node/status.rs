//! The status of a base's Node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use serde_json::{Value, json};

use super::{
    super::{METASPACE_ENOUGH, METASPACE_LOW, names},
    NodeWriter, Ready,
    compare::{quantity, rfc3339},
};

/// Conditions that a kubelet writes.
const OUR_CONDITIONS: [&str; 5] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", NETWORK];
/// Controllers of routes and of Pod networks write it too: where one does, it is left to them.
const NETWORK: &str = "NetworkUnavailable";
/// The reason of that condition where it is ours.
const BASE_NETWORK: &str = "BaseNetwork";

/// What a base does not meter is there in plenty: no request of a Pod stands in the way, whether its author made it
/// or a `LimitRange`. The sum over 20,000 bases still fits into 64 bits, in bytes and in thousandths of a core.
const PLENTY_OF_CORES: u64 = 100_000;
/// The same for memory and storage, in bytes.
const PLENTY_OF_BYTES: u64 = 100_000_000_000_000;

/// The kubelet's version as tools read it: a semantic version with the API server's numbers, for they compare these.
pub fn kubelet_version(api_server: Option<&str>) -> String {
    let numbers = api_server.and_then(|version| version.strip_prefix('v')).map(|version| {
        let end = version.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(version.len());
        version.get(..end).unwrap_or_default()
    });
    let is_number = |part: &str| part.parse::<u32>().is_ok_and(|number| number.to_string() == part);
    let numbers = numbers.filter(|numbers| numbers.split('.').count() == 3 && numbers.split('.').all(is_number));
    format!("v{}-modulet-v{}", numbers.unwrap_or("0.0.0"), env!("CARGO_PKG_VERSION"))
}

/// Whether a modulet has written the Node, of whatever version; the Go controller names no kubelet.
pub fn is_by_modulet(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| info.kubelet_version.contains("modulet-v"))
}

/// A Node's condition that we write.
fn is_ours(condition: &NodeCondition) -> bool {
    OUR_CONDITIONS.contains(&condition.type_.as_str()) && !is_of_others(condition)
}

fn is_of_others(condition: &NodeCondition) -> bool {
    condition.type_ == NETWORK && condition.reason.as_deref() != Some(BASE_NETWORK)
}

impl NodeWriter<'_> {
    /// A patch of the status that says that all is as it was.
    pub fn heartbeat(&self, node: &Node) -> Value {
        let there = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ours = there.filter(|c| is_ours(c));
        let beat = ours.map(|c| json!({ "type": c.type_, "lastHeartbeatTime": rfc3339(self.now) }));
        json!({ "metadata": { "uid": node.metadata.uid }, "status": { "conditions": beat.collect::<Vec<_>>() } })
    }

    /// The part of the status that is ours. Conditions merge by type; those of others stay.
    pub fn status(&self, node: Option<&Node>, ready: Option<Ready>) -> Value {
        let capacity = BTreeMap::from([
            ("cpu", quantity(PLENTY_OF_CORES)),
            ("ephemeral-storage", quantity(PLENTY_OF_BYTES)),
            ("memory", quantity(self.max_metaspace.unwrap_or(PLENTY_OF_BYTES))),
            ("pods", quantity(self.max_pods.into())),
        ]);
        let mut status = json!({
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": self.addresses(),
            "nodeInfo": self.node_info(),
            "conditions": self.conditions(node, ready),
        });
        if let Some((kubelet, fields)) = self.kubelet.zip(status.as_object_mut()) {
            fields.insert("daemonEndpoints".to_owned(), kubelet.daemon_endpoints());
        }
        status
    }

    fn addresses(&self) -> Vec<Value> {
        if let Some(kubelet) = self.kubelet {
            // Alone: an API server takes the first of those it prefers, and only this one leads to a kubelet.
            return vec![json!({ "type": "InternalIP", "address": kubelet.address })];
        }
        let mut addresses = Vec::new();
        if let Some(ip) = &self.info.ip {
            addresses.push(json!({ "type": "InternalIP", "address": ip }));
        }
        // Not the base's host name: whoever takes it for a Node's would mean another machine.
        addresses.push(json!({ "type": "Hostname", "address": self.name }));
        addresses
    }

    fn node_info(&self) -> Value {
        let runtime = self.java_version.map_or_else(|| "java://unknown".to_owned(), |v| format!("java://{v}"));
        json!({
            "architecture": "jvm",
            "bootID": "",
            "containerRuntimeVersion": runtime,
            "kernelVersion": "koupleless",
            "kubeProxyVersion": "",
            "kubeletVersion": self.kubelet_version,
            "machineID": "",
            "operatingSystem": names::OS_OF_BASES,
            "osImage": format!("{} {}", self.info.name, self.info.version),
            "systemUUID": "",
        })
    }

    fn conditions(&self, node: Option<&Node>, ready: Option<Ready>) -> Vec<Value> {
        let old = |type_: &str| -> Option<&NodeCondition> {
            node?.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
        };
        let condition = |type_: &str, status: &str, reason: &str, message: &str| {
            let since = old(type_).filter(|c| c.status == status).and_then(|c| c.last_transition_time.as_ref());
            let since = since.map_or(self.now, |t| t.0);
            json!({
                "type": type_,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": rfc3339(since),
                "lastHeartbeatTime": rfc3339(self.now),
            })
        };
        let memory = match self.pressure {
            Some(said) if said.low => condition("MemoryPressure", "True", METASPACE_LOW, &said.message),
            Some(said) => condition("MemoryPressure", "False", METASPACE_ENOUGH, &said.message),
            None => condition("MemoryPressure", "False", METASPACE_ENOUGH, "metaspace is limited by the JVM"),
        };
        let mut conditions = vec![
            memory,
            condition("DiskPressure", "False", "NoDisk", "modules do not use the Node's disk"),
            condition("PIDPressure", "False", "NoProcesses", "modules run inside the base's process"),
        ];
        if !old(NETWORK).is_some_and(is_of_others) {
            conditions.push(condition(NETWORK, "False", BASE_NETWORK, "modules use the base's network"));
        }
        if let Some(ready) = ready {
            conditions.push(condition("Ready", ready.status, ready.reason, ready.message));
        }
        conditions
    }
}
