//! What an API server refuses: `ValidatePodStatusUpdate`, `ValidateNodeUpdate`, `ValidateConfigMap` and
//! `ValidateObjectMetaUpdate` of Kubernetes, as far as the engine's writes can fail by them.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use super::objects::{Kind, refused};
use crate::{api::WriteError, k8s::names};

/// All annotations of an object, keys and values.
const ANNOTATIONS: usize = 256 * 1024;
/// All values of a `ConfigMap`.
const DATA: usize = 1024 * 1024;

pub(super) fn check(kind: Kind, object: &Value, old: Option<&Value>) -> Result<(), WriteError> {
    let mut wrong = metadata(object, old);
    match kind {
        Kind::Pod => wrong.extend(pod(object, old)),
        Kind::Node => wrong.extend(node(object)),
        Kind::Record => wrong.extend(config_map(object)),
        Kind::Lease => {
            if object["spec"]["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
                wrong.push("spec.leaseDurationSeconds must be greater than 0".to_owned());
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(refused(422, format!("{} is invalid: {}", kind.as_str(), wrong.join(", "))))
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    value.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

fn metadata(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let new = &object["metadata"];
    if let Some(old) = old.map(|old| &old["metadata"]) {
        for field in ["uid", "name", "namespace"] {
            if new[field] != old[field] {
                wrong.push(format!("metadata.{field} is immutable"));
            }
        }
    }
    if texts(&new["annotations"]).map(|(key, value)| key.len() + value.len()).sum::<usize>() > ANNOTATIONS {
        wrong.push(format!("metadata.annotations must have at most {ANNOTATIONS} bytes"));
    }
    wrong.extend(
        texts(&new["labels"])
            .filter(|(_, value)| !names::is_label_value(value))
            .map(|(key, value)| format!("metadata.labels: {key}: {value:?}")),
    );
    wrong
}

fn pod(object: &Value, old: Option<&Value>) -> Vec<String> {
    let (status, mut wrong) = (&object["status"], Vec::new());
    for field in ["podIPs", "hostIPs"] {
        let known: Vec<_> = old.into_iter().flat_map(|old| list(&old["status"][field])).collect();
        for ip in list(&status[field]).filter(|ip| !known.contains(ip)) {
            if ip["ip"].as_str().is_none_or(|ip| ip.parse::<IpAddr>().is_err()) {
                wrong.push(format!("status.{field}: {ip} is no valid IP address"));
            }
        }
        let families: Vec<_> =
            list(&status[field]).map(|ip| ip["ip"].as_str().is_some_and(|ip| ip.contains(':'))).collect();
        if families.len() > 2 || families.len() == 2 && families[0] == families[1] {
            wrong.push(format!("status.{field} may specify no more than one IP for each IP family"));
        }
    }
    if list(&status["hostIPs"]).next().is_some_and(|first| first["ip"] != status["hostIP"]) {
        wrong.push("status.hostIPs[0].ip must be equal to hostIP".to_owned());
    }
    let Some(old) = old else { return wrong };
    if status["qosClass"] != old["status"]["qosClass"] {
        wrong.push("status.qosClass is immutable".to_owned());
    }
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    for before in list(&old["status"]["containerStatuses"]) {
        let ended = &before["state"]["terminated"];
        let stays = policy == "Never" || policy == "OnFailure" && ended["exitCode"] == 0;
        let mut now = list(&status["containerStatuses"]).filter(|now| now["name"] == before["name"]);
        if !ended.is_null() && stays && now.any(|now| now["state"]["terminated"].is_null()) {
            wrong.push("status.containerStatuses may not be transitioned to non-terminated state".to_owned());
        }
    }
    wrong
}

fn node(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut taints, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for taint in list(&object["spec"]["taints"]) {
        if !taints.insert((taint["key"].to_string(), taint["effect"].to_string())) {
            wrong.push("spec.taints must be unique by key and effect pair".to_owned());
        }
        if taint["value"].as_str().is_some_and(|value| !names::is_label_value(value)) {
            wrong.push(format!("spec.taints: value {}", taint["value"]));
        }
        if !matches!(taint["effect"].as_str(), Some("NoSchedule" | "PreferNoSchedule" | "NoExecute")) {
            wrong.push(format!("spec.taints: effect {}", taint["effect"]));
        }
    }
    for address in list(&object["status"]["addresses"]) {
        if !addresses.insert(address.to_string()) {
            wrong.push(format!("status.addresses: duplicate {address}"));
        }
    }
    for field in ["capacity", "allocatable"] {
        for (key, quantity) in texts(&object["status"][field]) {
            let number = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            if number.parse::<f64>().is_err() || quantity.starts_with('-') {
                wrong.push(format!("status.{field}: {key}: {quantity:?} is no quantity"));
            }
        }
    }
    wrong
}

fn config_map(object: &Value) -> Vec<String> {
    let is_key = |key: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        !key.is_empty() && key.len() <= 253 && key.bytes().all(fits) && key != "." && !key.starts_with("..")
    };
    let mut wrong: Vec<_> = texts(&object["data"])
        .filter(|(key, _)| !is_key(key))
        .map(|(key, _)| format!("data: {key:?} is no valid key"))
        .collect();
    if texts(&object["data"]).map(|(_, value)| value.len()).sum::<usize>() > DATA {
        wrong.push(format!("must have at most {DATA} bytes"));
    }
    wrong
}
