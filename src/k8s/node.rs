//! A base as a Node.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use serde_json::{Map, Value, json};

use super::{METASPACE_ENOUGH, METASPACE_LOW, names};
use crate::domain::{BaseInfo, Reachability};

/// Conditions that a kubelet writes.
const OUR_CONDITIONS: [&str; 5] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

/// Reason of the Ready condition where a base said that it goes away.
const STOPPED: &str = "BaseStopped";

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
    /// What there is to say while metaspace is low.
    pub low_metaspace: Option<&'a str>,
    /// Java's version, where known.
    pub java_version: Option<&'a str>,
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
        let mut labels = BTreeMap::from([
            (names::BASE_NAME, info.name.clone()),
            (names::BASE_VERSION, info.version.clone()),
            (names::COMPONENT, "vnode".to_owned()),
            (names::ENV, self.env.to_owned()),
            (names::TYPE, "virtual-kubelet".to_owned()),
            (names::HOSTNAME, self.name.to_owned()),
            (names::OS, "linux".to_owned()),
            (names::ROLE_BASE, String::new()),
        ]);
        let optional = [(names::BASE_CLUSTER, &info.cluster), (names::BASE_HOST, &info.host_name)];
        for (key, value) in optional {
            if let Some(value) = value.as_ref().filter(|v| names::is_label_value(v)) {
                labels.insert(key, value.clone());
            }
        }
        if self.zone_per_base {
            labels.insert(names::ZONE, self.name.to_owned());
        }
        labels
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
            },
            "spec": { "taints": self.taints() },
            "status": self.status(None, Some(ready)),
        })
    }

    /// What brings an existing Node up to date.
    pub fn patches(&self, node: &Node, ready: Option<Ready>, capacity_known: bool) -> NodePatches {
        let mut wanted = self.status(Some(node), ready);
        if !capacity_known && let Some(fields) = wanted.as_object_mut() {
            fields.retain(|key, _| key == "conditions" || key == "addresses");
        }
        take_back(node, &mut wanted);
        let differs = ready.is_some() && capacity_known && !node_is_current(node, &wanted);
        let status = differs.then(|| json!({ "metadata": { "uid": node.metadata.uid }, "status": wanted }));
        NodePatches { metadata: self.metadata_patch(node), status }
    }

    /// A patch of the status that says that all is as it was.
    pub fn heartbeat(&self, node: &Node) -> Value {
        let there = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ours = there.filter(|c| OUR_CONDITIONS.contains(&c.type_.as_str()));
        let beat = ours.map(|c| json!({ "type": c.type_, "lastHeartbeatTime": rfc3339(self.now) }));
        json!({ "metadata": { "uid": node.metadata.uid }, "status": { "conditions": beat.collect::<Vec<_>>() } })
    }

    /// A patch of labels, annotation and taints, if any of ours is missing or different.
    /// Taints are one list to the API, so the resource version guards the others in it.
    pub fn metadata_patch(&self, node: &Node) -> Option<Value> {
        let mut metadata = Map::new();
        let empty = BTreeMap::new();
        let has = node.metadata.labels.as_ref().unwrap_or(&empty);
        let wanted = self.labels();
        // Ours and not wanted any more, whoever had put them there. A zone of another name is somebody else's.
        let left = [names::BASE_CLUSTER, names::BASE_HOST, names::ZONE].into_iter().filter(|key| {
            let value = has.get(*key).filter(|value| *key != names::ZONE || *value == self.name);
            value.is_some() && !wanted.contains_key(key)
        });
        let left = left.map(|key| (key, Value::Null)).collect::<Vec<_>>();
        let labels: BTreeMap<_, _> = wanted
            .into_iter()
            .filter(|(key, value)| has.get(*key) != Some(value))
            .map(|(key, value)| (key, Value::String(value)))
            .chain(left)
            .collect();
        if !labels.is_empty() {
            metadata.insert("labels".into(), json!(labels));
        }
        if node.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(names::LEDGER)) {
            metadata.insert("annotations".into(), json!({ names::LEDGER: null }));
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let wanted = self.taints();
        let missing = wanted.iter().any(|w| !taints.iter().any(|t| is_taint(t, w)));
        let is_ours = |t: &Taint| t.key == names::TAINT_VIRTUAL_NODE || t.key == names::TAINT_ENV;
        let left = taints.iter().any(|t| is_ours(t) && !wanted.iter().any(|w| is_taint(t, w)));
        let mut patch = Map::new();
        if missing || left {
            let foreign = taints.iter().filter(|t| !is_ours(t));
            let all: Vec<Value> = foreign.map(|t| json!(t)).chain(wanted.iter().cloned()).collect();
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

    /// The part of the status that is ours. Conditions merge by type; those of others stay.
    pub fn status(&self, node: Option<&Node>, ready: Option<Ready>) -> Value {
        let mut capacity = BTreeMap::from([("pods", quantity(self.max_pods.into()))]);
        if let Some(bytes) = self.max_metaspace {
            capacity.insert("memory", quantity(bytes));
        }
        let mut addresses = Vec::new();
        if let Some(ip) = &self.info.ip {
            addresses.push(json!({ "type": "InternalIP", "address": ip }));
        }
        addresses.push(json!({
            "type": "Hostname",
            "address": self.info.host_name.as_deref().unwrap_or(self.name),
        }));
        json!({
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": addresses,
            "nodeInfo": self.node_info(),
            "conditions": self.conditions(node, ready),
        })
    }

    fn node_info(&self) -> Value {
        let runtime = self.java_version.map_or_else(|| "java://unknown".to_owned(), |v| format!("java://{v}"));
        json!({
            "architecture": "jvm",
            "bootID": "",
            "containerRuntimeVersion": runtime,
            "kernelVersion": "koupleless",
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("modulet-v", env!("CARGO_PKG_VERSION")),
            "machineID": "",
            "operatingSystem": "linux",
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
        let memory = match self.low_metaspace {
            Some(low) => condition("MemoryPressure", "True", METASPACE_LOW, low),
            None => condition("MemoryPressure", "False", METASPACE_ENOUGH, "metaspace is limited by the JVM"),
        };
        let mut conditions = vec![
            memory,
            condition("DiskPressure", "False", "NoDisk", "modules do not use the Node's disk"),
            condition("PIDPressure", "False", "NoProcesses", "modules run inside the base's process"),
            condition("NetworkUnavailable", "False", "BaseNetwork", "modules use the base's network"),
        ];
        if let Some(ready) = ready {
            conditions.push(condition("Ready", ready.status, ready.reason, ready.message));
        }
        conditions
    }
}

/// What is ours of a Node's status and not wanted any more is taken back; what others put there stays.
fn take_back(node: &Node, wanted: &mut Value) {
    let Some(status) = &node.status else { return };
    for (field, has) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        let memory = has.as_ref().is_some_and(|all| all.contains_key("memory"));
        if memory && let Some(resources) = wanted.get_mut(field).and_then(Value::as_object_mut) {
            resources.entry("memory").or_insert(Value::Null);
        }
    }
    let has_address = status.addresses.iter().flatten().any(|a| a.type_ == "InternalIP");
    if let Some(addresses) = wanted.get_mut("addresses").and_then(Value::as_array_mut)
        && has_address
        && !addresses.iter().any(|a| a["type"] == "InternalIP")
    {
        addresses.push(json!({ "type": "InternalIP", "$patch": "delete" }));
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

fn is_taint(taint: &Taint, wanted: &Value) -> bool {
    wanted["key"] == taint.key.as_str()
        && wanted["effect"] == taint.effect.as_str()
        && wanted["value"] == taint.value.as_deref().unwrap_or_default()
}

fn field<'v>(of: &'v Value, name: &str) -> &'v Value {
    of.get(name).unwrap_or(&Value::Null)
}

/// Whether the Node's status says all that `wanted` does, times aside.
fn node_is_current(node: &Node, wanted: &Value) -> bool {
    let Ok(status) = serde_json::to_value(node.status.clone().unwrap_or_default()) else { return false };
    let has = |in_: &str, key: &str, value: &Value| field(field(&status, in_), key) == value;
    let resources = |in_: &str| {
        field(wanted, in_).as_object().is_none_or(|all| all.iter().all(|(key, value)| has(in_, key, value)))
    };
    let addresses = field(&status, "addresses").as_array();
    let is_there = |wanted: &Value| {
        let goes = wanted.get("$patch").is_some();
        addresses.is_some_and(|all| {
            if goes { !all.iter().any(|a| a["type"] == wanted["type"]) } else { all.contains(wanted) }
        })
    };
    ["capacity", "allocatable"].into_iter().all(resources)
        && wanted["addresses"].as_array().is_none_or(|all| all.iter().all(is_there))
        && ["osImage", "kubeletVersion", "containerRuntimeVersion"]
            .iter()
            .all(|name| field(field(&status, "nodeInfo"), name) == field(field(wanted, "nodeInfo"), name))
        && wanted["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().all(|c| {
                field(&status, "conditions").as_array().is_some_and(|all| {
                    all.iter()
                        .any(|s| ["type", "status", "reason", "message"].iter().all(|f| field(s, f) == field(c, f)))
                })
            })
        })
}

/// Whether the Node says that its base went away by its own word.
pub fn node_says_stopped(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.reason.as_deref() == Some(STOPPED))
}

/// Whether the Node's Ready condition is True.
pub fn node_says_ready(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{MEMORY_PRESSURE_TAINT, memory_pressure, merge::strategic_merge, node_says_metaspace_low},
        *,
    };
    use crate::domain::Metaspace;

    fn writer(info: &BaseInfo, zone: bool, taint: bool, metaspace: Option<u64>) -> NodeWriter<'_> {
        NodeWriter {
            name: "vnode.base-1.dev",
            env: "dev",
            info,
            max_metaspace: metaspace,
            low_metaspace: None,
            java_version: Some("17"),
            max_pods: 1000,
            zone_per_base: zone,
            env_taint: taint,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// Patches until there is nothing to patch. Returns how many there were.
    fn settle(writes: &NodeWriter<'_>, object: &mut Value) -> usize {
        for round in 0..5 {
            let node: Node = serde_json::from_value(object.clone()).unwrap();
            let ready = Ready::from(Reachability::Online);
            let NodePatches { metadata, status } = writes.patches(&node, ready, true);
            let Some(patch) = metadata.or(status) else { return round };
            strategic_merge(object, &patch);
            object["metadata"]["resourceVersion"] = json!("1");
        }
        panic!("it is written again and again: {object}");
    }

    fn left_by_another_controller() -> Value {
        json!({
            "metadata": {
                "name": "vnode.base-1.dev", "uid": "u",
                "labels": { "team": "blue", names::BASE_NAME: "old", names::BASE_CLUSTER: "c", names::ZONE: "vnode.base-1.dev" },
                "annotations": { names::LEDGER: "{}", "note": "keep" },
            },
            "spec": { "taints": [
                { "key": names::TAINT_VIRTUAL_NODE, "value": "True", "effect": "NoExecute" },
                { "key": names::TAINT_ENV, "value": "dev", "effect": "NoExecute" },
                { "key": "maintenance", "effect": "NoSchedule" },
            ] },
            "status": {
                "capacity": { "pods": "500", "memory": "0", "example.com/gpu": "2" },
                "allocatable": { "memory": "0", "example.com/gpu": "2" },
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.9" }, { "type": "ExternalDNS", "address": "x" }],
                "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Fancy", "status": "True" }],
            },
        })
    }

    #[test]
    fn what_another_controller_left_is_put_right_in_two_writes_and_then_never_again() {
        for metaspace in [None, Some(256 << 20)] {
            let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
            let mut object = left_by_another_controller();
            assert_eq!(settle(&writer(&info, false, false, metaspace), &mut object), 2);
            let taints: Vec<_> =
                object["spec"]["taints"].as_array().unwrap().iter().map(|t| t["key"].clone()).collect();
            assert_eq!(taints, ["maintenance", names::TAINT_VIRTUAL_NODE]);
            let labels = &object["metadata"]["labels"];
            assert_eq!((&labels["team"], &labels[names::BASE_NAME]), (&json!("blue"), &json!("app")));
            assert!(labels[names::ZONE].is_null() && labels[names::BASE_CLUSTER].is_null(), "{labels}");
            assert_eq!(object["metadata"]["annotations"], json!({ "note": "keep" }));
            let capacity = &object["status"]["capacity"];
            assert_eq!((&capacity["example.com/gpu"], &capacity["pods"]), (&json!("2"), &json!("1k")));
            assert_eq!(capacity["memory"].is_null(), metaspace.is_none(), "{capacity}");
            let addresses = object["status"]["addresses"].to_string();
            assert!(addresses.contains("ExternalDNS") && !addresses.contains("192.0.2.9"), "{addresses}");
            assert!(object["status"]["conditions"].to_string().contains("Fancy"));
        }
    }

    #[test]
    fn a_metaspace_limit_that_goes_and_comes_back_is_followed() {
        let info =
            BaseInfo { name: "app".into(), version: "1".into(), ip: Some("192.0.2.1".into()), ..BaseInfo::default() };
        let mut object = left_by_another_controller();
        settle(&writer(&info, true, true, Some(1 << 20)), &mut object);
        assert_eq!(settle(&writer(&info, true, true, None), &mut object), 1);
        assert_eq!(settle(&writer(&info, true, true, Some(2 << 20)), &mut object), 1);
        assert_eq!(object["status"]["capacity"]["memory"], json!("2097152"));
    }

    #[test]
    fn low_metaspace_is_memory_pressure_that_is_written_once_and_its_taint_is_left_alone() {
        let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
        let mut object = left_by_another_controller();
        let has_memory = writer(&info, false, false, Some(256 << 20));
        settle(&has_memory, &mut object);
        let (mut said, mut writes) = (None, Vec::new());
        for used in [200, 250, 251, 255, 230, 218, 210, 230, 243] {
            let metaspace = Metaspace { used: used << 20, max: 256 << 20 };
            said = memory_pressure(Some(metaspace), said.as_deref());
            writes.push(settle(&NodeWriter { low_metaspace: said.as_deref(), ..has_memory.clone() }, &mut object));
            let node: Node = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(node_says_metaspace_low(&node), said.as_deref());
            // As the controller of Kubernetes does it.
            let taints = object["spec"]["taints"].as_array_mut().unwrap();
            taints.retain(|t| t["key"] != MEMORY_PRESSURE_TAINT);
            if said.is_some() {
                taints.push(json!({ "key": MEMORY_PRESSURE_TAINT, "effect": "NoSchedule" }));
            }
        }
        assert_eq!(writes, [0, 1, 0, 0, 0, 0, 1, 0, 0]);
        // Also where our own taints are put right.
        object["spec"]["taints"] = json!([{ "key": MEMORY_PRESSURE_TAINT, "effect": "NoSchedule" }]);
        settle(&has_memory, &mut object);
        assert!(object["spec"]["taints"].to_string().contains(MEMORY_PRESSURE_TAINT), "{object}");
    }
}
