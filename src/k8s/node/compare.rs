//! Whether a Node's status says what it should.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::kubelet::kubelet_port;

/// What is ours of a Node's status and not wanted any more is taken back; what others put there stays.
pub(super) fn take_back(node: &Node, wanted: &mut Value) {
    let Some(status) = &node.status else { return };
    if let Some(addresses) = wanted.get_mut("addresses").and_then(Value::as_array_mut) {
        for kind in ["InternalIP", "Hostname"] {
            let is_there = status.addresses.iter().flatten().any(|a| a.type_ == kind);
            if is_there && !addresses.iter().any(|a| a["type"] == kind) {
                addresses.push(json!({ "type": kind, "$patch": "delete" }));
            }
        }
    }
    if let Some(fields) = wanted.as_object_mut()
        && !fields.contains_key("daemonEndpoints")
        && kubelet_port(node).is_some()
    {
        fields.insert("daemonEndpoints".to_owned(), Value::Null);
    }
}

/// As the API server writes it back (`1k`, not `1000`), so that what was written compares equal to what is read.
pub(super) fn quantity(mut number: u64) -> String {
    let mut suffixes = ["", "k", "M", "G", "T", "P", "E"].into_iter();
    let mut suffix = suffixes.next();
    while number != 0 && number.is_multiple_of(1000) {
        number /= 1000;
        suffix = suffixes.next();
    }
    format!("{number}{}", suffix.unwrap_or_default())
}

/// Times in the API have whole seconds.
pub(super) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn field<'v>(of: &'v Value, name: &str) -> &'v Value {
    of.get(name).unwrap_or(&Value::Null)
}

/// Whether the Node's status says all that `wanted` does, times aside.
pub(super) fn node_is_current(node: &Node, wanted: &Value) -> bool {
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
    let port = kubelet_port(node).map_or(Value::Null, Value::from);
    ["capacity", "allocatable"].into_iter().all(resources)
        && wanted.get("daemonEndpoints").is_none_or(|wanted| port == *field(field(wanted, "kubeletEndpoint"), "Port"))
        && wanted["addresses"].as_array().is_none_or(|all| all.iter().all(is_there))
        && ["osImage", "operatingSystem", "kubeletVersion", "containerRuntimeVersion"]
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
