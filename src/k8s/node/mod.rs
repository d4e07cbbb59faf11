//! A base as a Node.

mod kubelet;
mod status;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Map, Value, json};

use super::{MemoryPressure, names};
use crate::domain::BaseInfo;
pub use kubelet::{KubeletEndpoint, base_address};
pub use status::{Ready, is_by_modulet, kubelet_version, node_says_ready, node_says_stopped};

/// What the Go controller calls its tunnels.
const MQTT_TUNNEL: &str = "mqtt_tunnel_provider";
const HTTP_TUNNEL: &str = "http_tunnel_provider";

/// All that makes a base's Node.
#[derive(Clone, Debug)]
pub struct NodeWriter<'a> {
    /// The Node's name.
    pub name: &'a str,
    /// The environment.
    pub env: &'a str,
    /// What the base told.
    pub info: &'a BaseInfo,
    /// Bytes, where the JVM has a limit.
    pub max_metaspace: Option<u64>,
    /// What there is to say of it.
    pub pressure: Option<&'a MemoryPressure>,
    /// Java's version, where known.
    pub java_version: Option<&'a str>,
    /// The version that it has as a kubelet.
    pub kubelet_version: &'a str,
    /// Where the API of its kubelet is; none: nowhere.
    pub kubelet: Option<&'a KubeletEndpoint>,
    /// How many Pods fit.
    pub max_pods: u32,
    /// Set [`names::ZONE`] to the Node's name.
    pub zone_per_base: bool,
    /// Set [`names::TAINT_ENV`] too.
    pub env_taint: bool,
    /// The time to write.
    pub now: Timestamp,
}

/// Patches that bring a Node up to date; none where nothing is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePatches {
    /// Labels, annotations and taints.
    pub metadata: Option<Value>,
    /// The status.
    pub status: Option<Value>,
}

impl NodeWriter<'_> {
    /// Labels that are ours.
    pub fn labels(&self) -> BTreeMap<&'static str, String> {
        let info = self.info;
        let tunnel = if info.tunnel_port.is_some() { HTTP_TUNNEL } else { MQTT_TUNNEL };
        let mut labels = BTreeMap::from([
            (names::BASE_NAME, info.name.clone()),
            (names::BASE_VERSION, info.version.clone()),
            (names::COMPONENT, "vnode".to_owned()),
            (names::ENV, self.env.to_owned()),
            (names::TYPE, "virtual-kubelet".to_owned()),
            (names::HOSTNAME, self.name.to_owned()),
            (names::OS, names::OS_OF_BASES.to_owned()),
            (names::ROLE_BASE, String::new()),
            (names::NO_LOAD_BALANCER, String::new()),
            // What older manifests of this field select by.
            (names::BASE_STACK, "java".to_owned()),
            (names::BASE_TUNNEL, tunnel.to_owned()),
            (names::BASE_NAME_OLD, info.name.clone()),
            (names::BASE_VERSION_OLD, info.version.clone()),
            (names::BASE_TUNNEL_OLD, tunnel.to_owned()),
            (names::COMPONENT_OLD, "vnode".to_owned()),
            (names::ENV_OLD, self.env.to_owned()),
        ]);
        let optional = [(names::BASE_CLUSTER, &info.cluster), (names::BASE_HOST, &info.host_name)];
        for (key, value) in optional {
            if let Some(value) = value.as_ref().filter(|v| names::is_label_value(v)) {
                labels.insert(key, value.clone());
            }
        }
        if let Some(port) = info.tunnel_port {
            labels.insert(names::BASE_TUNNEL_PORT, port.to_string());
        }
        if self.zone_per_base {
            labels.insert(names::ZONE, self.name.to_owned());
        }
        labels
    }

    /// Annotations that are ours. Where the Node's address is that of its kubelet, the base's own is one of them.
    fn annotations(&self) -> BTreeMap<&'static str, &str> {
        let address = self.kubelet.and(self.info.ip.as_deref());
        address.into_iter().map(|address| (names::BASE_ADDRESS, address)).collect()
    }

    /// What brings them up to date; what is ours and not wanted any more goes.
    fn annotations_patch(&self, node: &Node) -> Map<String, Value> {
        let (wanted, there) = (self.annotations(), node.metadata.annotations.as_ref());
        let has = |key: &str| there.and_then(|there| there.get(key)).map(String::as_str);
        let ours = [names::BASE_ADDRESS, names::LEDGER].into_iter();
        let differ = ours.filter(|key| has(key) != wanted.get(key).copied());
        differ.map(|key| (key.to_owned(), json!(wanted.get(key)))).collect()
    }

    /// Taints that are ours.
    pub fn taints(&self) -> Vec<Value> {
        let mut taints = vec![json!({ "key": names::TAINT_VIRTUAL_NODE, "value": "True", "effect": "NoExecute" })];
        if self.env_taint {
            taints.push(json!({ "key": names::TAINT_ENV, "value": self.env, "effect": "NoExecute" }));
        }
        taints
    }

    /// The Node to create, status and all: one request, never a half-made Node.
    pub fn create(&self, ready: Ready) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": self.labels(),
                "annotations": self.annotations(),
            },
            "spec": { "taints": self.taints() },
            "status": self.status(None, ready),
        })
    }

    /// What brings an existing Node up to date. Its status waits until the base has told what fits on it.
    pub fn patches(&self, node: &Node, ready: Option<Ready>, capacity_known: bool) -> NodePatches {
        let status = ready.filter(|_| capacity_known).and_then(|ready| self.status_patch(node, ready));
        NodePatches { metadata: self.metadata_patch(node), status }
    }

    /// A patch of labels, annotation and taints, if any of ours is missing or different.
    /// Taints are one list to the API, so the resource version guards the others in it.
    fn metadata_patch(&self, node: &Node) -> Option<Value> {
        let mut metadata = Map::new();
        let empty = BTreeMap::new();
        let has = node.metadata.labels.as_ref().unwrap_or(&empty);
        let wanted = self.labels();
        // Ours and not wanted any more, whoever had put them there. A zone of another name is somebody else's.
        let optional = [names::BASE_CLUSTER, names::BASE_HOST, names::BASE_TUNNEL_PORT, names::ZONE];
        let left = optional.into_iter().filter(|key| {
            let value = has.get(*key).filter(|value| *key != names::ZONE || *value == self.name);
            value.is_some() && !wanted.contains_key(key)
        });
        // A zone that somebody else gave it stays.
        let differs = |key: &str, value: &String| match has.get(key) {
            Some(there) => key != names::ZONE && there != value,
            None => true,
        };
        let labels: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(key, value)| differs(key, value))
            .map(|(key, value)| (*key, json!(value)))
            .chain(left.map(|key| (key, Value::Null)))
            .collect();
        if !labels.is_empty() {
            metadata.insert("labels".into(), json!(labels));
        }
        let annotations = self.annotations_patch(node);
        if !annotations.is_empty() {
            metadata.insert("annotations".into(), Value::Object(annotations));
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let wanted = self.taints();
        let is_ours = |t: &&Taint| t.key == names::TAINT_VIRTUAL_NODE || t.key == names::TAINT_ENV;
        let (ours, foreign): (Vec<_>, Vec<_>) = taints.iter().partition(is_ours);
        let has = |w: &Value| ours.iter().any(|t| is_taint(t, w));
        let mut patch = Map::new();
        if ours.len() != wanted.len() || !wanted.iter().all(has) {
            let all: Vec<Value> = foreign.into_iter().map(|t| json!(t)).chain(wanted).collect();
            patch.insert("spec".into(), json!({ "taints": all }));
            metadata.insert("resourceVersion".into(), json!(node.metadata.resource_version));
        }
        if metadata.is_empty() {
            return None;
        }
        metadata.insert("uid".into(), json!(node.metadata.uid));
        patch.insert("metadata".into(), Value::Object(metadata));
        Some(Value::Object(patch))
    }
}

fn is_taint(taint: &Taint, wanted: &Value) -> bool {
    wanted["key"] == taint.key.as_str()
        && wanted["effect"] == taint.effect.as_str()
        && wanted["value"] == taint.value.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
