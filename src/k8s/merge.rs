//! A strategic merge patch as an API server applies it, as far as tests need it.

use serde_json::{Value, json};

/// Maps merge by key and null takes away; lists of things with a type (addresses, conditions) merge by it, other
/// lists are replaced.
pub(crate) fn strategic_merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(key);
                } else {
                    strategic_merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch @ Value::Object(_)) => {
            *into = json!({});
            strategic_merge(into, patch);
        }
        (Value::Array(into), Value::Array(patch)) if patch.iter().all(|p| p["type"].is_string()) => {
            for element in patch {
                let known = into.iter().position(|i| i["type"] == element["type"]);
                match (known, element.get("$patch")) {
                    (Some(at), Some(_)) => drop(into.remove(at)),
                    (Some(at), None) => strategic_merge(&mut into[at], element),
                    (None, Some(_)) => {}
                    (None, None) => into.push(element.clone()),
                }
            }
        }
        (into, Value::Array(patch)) => *into = patch.iter().filter(|e| e.get("$patch").is_none()).cloned().collect(),
        (into, patch) => into.clone_from(patch),
    }
}
