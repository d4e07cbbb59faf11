//! The status of a base's Node: what it should say, whether it does, and what Nodes say of their bases.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeSystemInfo},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};

use super::{
    super::{METASPACE_ENOUGH, METASPACE_LOW, names},
    NodeWriter,
    kubelet::kubelet_port,
};
use crate::domain::Reachability;

/// Reason of the Ready condition where a base said that it goes away.
const STOPPED: &str = "BaseStopped";
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

/// The Ready condition of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// True, False or Unknown.
    pub status: &'static str,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub message: &'static str,
}

impl Ready {
    /// What reachability means for the Node; none while it is not known.
    pub fn from(reachability: Reachability) -> Option<Self> {
        Some(match reachability {
            Reachability::Unknown => return None,
            Reachability::Online => Self { status: "True", reason: "BaseReady", message: "the base answers" },
            Reachability::Stopped => {
                Self { status: "False", reason: STOPPED, message: "the base said that it goes away" }
            }
            Reachability::Unreachable | Reachability::Dead => {
                Self { status: "Unknown", reason: "BaseUnreachable", message: "the base does not answer" }
            }
        })
    }
}

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

fn condition<'n>(node: &'n Node, type_: &str) -> Option<&'n NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// Whether the Node says that its base went away by its own word.
pub fn node_says_stopped(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.reason.as_deref() == Some(STOPPED))
}

/// Whether the Node's Ready condition is True.
pub fn node_says_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status == "True")
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
    pub fn status(&self, node: Option<&Node>, ready: Ready) -> Value {
        let capacity = BTreeMap::from([
            ("cpu", quantity(PLENTY_OF_CORES)),
            ("ephemeral-storage", quantity(PLENTY_OF_BYTES)),
            ("memory", quantity(self.max_metaspace.unwrap_or(PLENTY_OF_BYTES))),
            ("pods", quantity(self.max_pods.into())),
        ]);
        json!({
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": self.addresses(node),
            "daemonEndpoints": self.kubelet.map(|kubelet| json!({ "kubeletEndpoint": { "Port": kubelet.port } })),
            "nodeInfo": self.node_info(),
            "conditions": self.conditions(node, ready),
        })
    }

    fn addresses(&self, node: Option<&Node>) -> Vec<Value> {
        let kubelet = self.kubelet.map(|kubelet| kubelet.address.to_string());
        let (ip, host) = match kubelet.as_deref() {
            // Alone: an API server takes the first of those it prefers, and only this one leads to a kubelet.
            Some(kubelet) => (Some(kubelet), None),
            // Not the base's host name: whoever takes it for a Node's would mean another machine.
            None => (self.info.ip.as_deref(), Some(self.name)),
        };
        let there = node.and_then(|node| node.status.as_ref()?.addresses.as_deref()).unwrap_or_default();
        let ours = [("InternalIP", ip), ("Hostname", host)].into_iter();
        ours.filter_map(|(kind, address)| match address {
            Some(address) => Some(json!({ "type": kind, "address": address })),
            // Ours and not wanted any more; what others put there stays.
            None => there.iter().any(|a| a.type_ == kind).then(|| json!({ "type": kind, "$patch": "delete" })),
        })
        .collect()
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

    fn conditions(&self, node: Option<&Node>, ready: Ready) -> Vec<Value> {
        let old = |type_: &str| condition(node?, type_);
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
        conditions.push(condition("Ready", ready.status, ready.reason, ready.message));
        conditions
    }

    /// A patch that has the status say all that it should, times aside; none where it does.
    pub(super) fn status_patch(&self, node: &Node, ready: Ready) -> Option<Value> {
        let wanted = self.status(Some(node), ready);
        (!is_current(node, &wanted)).then(|| json!({ "metadata": { "uid": node.metadata.uid }, "status": wanted }))
    }
}

/// As the API server writes it back (`1k`, not `1000`), so that what was written compares equal to what is read.
fn quantity(mut number: u64) -> String {
    let mut suffixes = ["", "k", "M", "G", "T", "P", "E"].into_iter();
    let mut suffix = suffixes.next();
    while number != 0 && number.is_multiple_of(1000) {
        number /= 1000;
        suffix = suffixes.next();
    }
    format!("{number}{}", suffix.unwrap_or_default())
}

/// Times in the API have whole seconds.
fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether the Node's status says all that `wanted` does, times aside.
fn is_current(node: &Node, wanted: &Value) -> bool {
    let Some(there) = &node.status else { return false };
    let wanted_of = |list: &str| wanted[list].as_array().into_iter().flatten();
    let resources = |of: &str, there: Option<&BTreeMap<String, Quantity>>| {
        let has = |name: &str| Some(there?.get(name)?.0.as_str());
        wanted[of].as_object().is_none_or(|all| all.iter().all(|(name, much)| has(name) == much.as_str()))
    };
    let info = |named: &NodeSystemInfo| {
        let wanted = &wanted["nodeInfo"];
        wanted["osImage"] == named.os_image
            && wanted["operatingSystem"] == named.operating_system
            && wanted["kubeletVersion"] == named.kubelet_version
            && wanted["containerRuntimeVersion"] == named.container_runtime_version
    };
    let has_address = |wanted: &Value| {
        let there = there.addresses.as_deref().unwrap_or_default();
        there.iter().any(|there| wanted["type"] == there.type_ && wanted["address"] == there.address)
    };
    let has_condition = |wanted: &Value| {
        let says = |said: Option<&str>, field: &str| said == wanted[field].as_str();
        there.conditions.iter().flatten().any(|there| {
            wanted["type"] == there.type_
                && wanted["status"] == there.status
                && says(there.reason.as_deref(), "reason")
                && says(there.message.as_deref(), "message")
        })
    };
    resources("capacity", there.capacity.as_ref())
        && resources("allocatable", there.allocatable.as_ref())
        && wanted.pointer("/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_i64)
            == kubelet_port(node).map(i64::from)
        && wanted_of("addresses").all(has_address)
        && there.node_info.as_ref().is_some_and(info)
        && wanted_of("conditions").all(has_condition)
}
