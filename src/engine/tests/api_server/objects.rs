//! Objects as an API server stores them: without what is empty or unknown, in the words that it writes itself.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, Pod},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{api::WriteError, engine::tests::scene::ENV};

/// The kinds that the engine writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::tests) enum Kind {
    Pod,
    Node,
    /// A `ConfigMap`.
    Record,
    Lease,
}

impl Kind {
    /// The kind of a collection in a path.
    pub(super) fn of(collection: &str) -> Option<Self> {
        Some(match collection {
            "pods" => Self::Pod,
            "nodes" => Self::Node,
            "configmaps" => Self::Record,
            "leases" => Self::Lease,
            _ => return None,
        })
    }

    pub(super) fn of_object(object: &Value) -> Self {
        match object["kind"].as_str() {
            Some("Node") => Self::Node,
            Some("ConfigMap") => Self::Record,
            Some("Lease") => Self::Lease,
            _ => Self::Pod,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::Record => "ConfigMap",
            Self::Lease => "Lease",
        }
    }

    /// What tests call the object of that name.
    pub(super) fn key_of(self, name: &str) -> String {
        let base = || name.strip_prefix("vnode.")?.strip_suffix(ENV)?.strip_suffix('.');
        if self == Self::Node { base().unwrap_or(name).to_owned() } else { name.to_owned() }
    }
}

pub(super) fn refused(code: u16, message: impl Into<String>) -> WriteError {
    WriteError::Refused { code, message: message.into() }
}

/// The object as it is stored and shown: what its type does not know is dropped, and so is what is empty.
pub(super) fn canonical(kind: Kind, mut object: Value) -> Result<Value, WriteError> {
    clean(&mut object, "");
    let mut object = match kind {
        Kind::Pod => typed::<Pod>(object),
        Kind::Node => typed::<Node>(object),
        Kind::Record => typed::<ConfigMap>(object),
        Kind::Lease => typed::<Lease>(object),
    }?;
    match kind {
        Kind::Pod => pod(&mut object["status"]),
        Kind::Node => node(&mut object["status"]),
        Kind::Record | Kind::Lease => {}
    }
    clean(&mut object, "");
    Ok(object)
}

fn typed<K: DeserializeOwned + Serialize>(object: Value) -> Result<Value, WriteError> {
    let read: K = serde_json::from_value(object).map_err(|error| refused(422, error.to_string()))?;
    Ok(serde_json::to_value(read).unwrap())
}

/// Go writes no empty texts and lists where a field has `omitempty`, and times have whole seconds but for the
/// renewal of a Lease.
fn clean(value: &mut Value, below: &str) {
    const ALWAYS: [&str; 4] = ["image", "imageID", "name", "key"];
    const TEXTS: [&str; 5] = ["labels", "annotations", "data", "nodeInfo", "env"];
    match value {
        Value::Object(fields) => {
            let texts = TEXTS.contains(&below);
            fields.retain(|field, value| {
                let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
                !value.is_null() && (texts || ALWAYS.contains(&field.as_str()) || !empty)
            });
            for (field, value) in fields {
                if let Some(text) = value.as_str()
                    && (field.ends_with("Time") || field.ends_with("At") || field.ends_with("Timestamp"))
                    && field != "renewTime"
                    && let Some((seconds, _)) = text.split_once('.')
                {
                    *value = json!(format!("{seconds}Z"));
                }
                clean(value, if texts { below } else { field });
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| clean(element, below)),
        _ => {}
    }
}

/// The one address counts where the list says something else; statuses of containers always have their states.
fn pod(status: &mut Value) {
    let ip = status["podIP"].clone();
    let ips = status["podIPs"].as_array().filter(|ips| !ips.is_empty()).cloned();
    match (ip.is_null(), ips) {
        (false, Some(ips)) if ips[0]["ip"] == ip => {}
        (false, _) => status["podIPs"] = json!([{ "ip": ip }]),
        (true, Some(ips)) => status["podIP"] = ips[0]["ip"].clone(),
        (true, None) => {}
    }
    for container in status["containerStatuses"].as_array_mut().into_iter().flatten() {
        for field in ["state", "lastState"] {
            if container[field].is_null() {
                container[field] = json!({});
            }
        }
        for field in ["image", "imageID"] {
            if container[field].is_null() {
                container[field] = json!("");
            }
        }
    }
}

fn node(status: &mut Value) {
    for field in ["capacity", "allocatable"] {
        let all = status[field].as_object_mut().into_iter().flatten();
        for (_, quantity) in all {
            if let Some(number) = quantity.as_str().filter(|text| text.parse::<u64>().is_ok_and(|n| n > 0)) {
                let zeros = number.len() - number.trim_end_matches('0').len();
                let (number, suffix) =
                    (&number[..number.len() - zeros / 3 * 3], ["", "k", "M", "G", "T", "P", "E"][zeros / 3]);
                *quantity = json!(format!("{number}{suffix}"));
            }
        }
    }
}
