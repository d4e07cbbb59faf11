//! Takes out of messages what differs between two runs of the same base.

use serde_json::{Map, Value, json};

/// What must be equal in two messages on that topic tail.
pub(crate) fn normal(tail: &str, payload: &Value) -> Value {
    let mut payload = payload.clone();
    if payload["publishTimestamp"].is_u64() {
        payload["publishTimestamp"] = json!("time");
    }
    let data = payload["data"].take();
    payload["data"] = match tail {
        "base/simpleBiz" => sorted(data, "name", "version"),
        "base/health" => health(data),
        _ => data,
    };
    walk("", payload)
}

pub(crate) fn sorted(list: Value, first: &str, second: &str) -> Value {
    let Value::Array(mut items) = list else {
        return list;
    };
    items.sort_by_key(|item| (item[first].to_string(), item[second].to_string()));
    Value::Array(items)
}

/// Measurements by their names and kinds only.
pub(crate) fn health(mut data: Value) -> Value {
    let health = &mut data["data"]["healthData"];
    for part in ["jvm", "cpu"] {
        if let Some(fields) = health[part].as_object_mut() {
            for (_, value) in fields.iter_mut() {
                *value = json!(if value.is_number() { "number" } else { "text" });
            }
        }
    }
    health["bizListInfo"] = sorted(health["bizListInfo"].take(), "bizName", "bizVersion");
    data
}

pub(crate) fn walk(key: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) if key == "bizInfos" => Value::Object(biz_info(fields)),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), walk(&key, value))).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| walk(key, item)).collect(),
        Value::Number(_) if matches!(key, "changeTime" | "elapsedSpace") => json!("number"),
        Value::String(text) if key == "message" => json!(message(&text)),
        // The two recorded SOFAArk versions were two jars.
        Value::String(_) if key == "pluginUrl" => json!("path"),
        other => other,
    }
}

/// Of a module's 40 fields the telling ones by value, the others by name.
fn biz_info(fields: Map<String, Value>) -> Map<String, Value> {
    let telling = ["bizName", "bizVersion", "bizState", "identity", "webContextPath", "priority", "bizStateRecords"];
    let normal = |(key, value): (String, Value)| {
        let value = if telling.contains(&key.as_str()) { walk(&key, value) } else { json!("…") };
        (key, value)
    };
    fields.into_iter().map(normal).collect()
}

/// The first line, without durations and times.
fn message(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match first.split_once(", cost: ") {
        Some((before, _)) => format!("{before}, cost: …"),
        None => first.to_owned(),
    }
}
