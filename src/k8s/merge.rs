//! Patches as an API server applies them, as far as tests need it.

use serde_json::{Map, Value};

/// Tells apart elements of a strategic merge patch that are no elements.
const DIRECTIVE: &str = "$patch";

/// The key by which a list's elements are told apart (`patchMergeKey` in the API's types). Lists without one are
/// replaced as a whole: taints, statuses of containers, tolerations.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "conditions" | "addresses" => Some("type"),
        "podIPs" | "hostIPs" => Some("ip"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

/// A strategic merge patch: maps merge by key and null takes away; lists merge by their key where they have one.
pub(crate) fn strategic_merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => merge_maps(into, patch),
        (into, patch) => *into = cleaned(patch),
    }
}

fn merge_maps(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        Some("delete") => return into.clear(),
        Some(_) => {
            into.clone_from(patch);
            into.remove(DIRECTIVE);
            return;
        }
        None => {}
    }
    for (field, value) in patch {
        match (into.get_mut(field), value) {
            (_, Value::Null) => drop(into.remove(field)),
            (Some(Value::Object(into)), Value::Object(patch)) => merge_maps(into, patch),
            (Some(Value::Array(into)), Value::Array(patch)) => match merge_key(field) {
                Some(key) => merge_lists(into, patch, key),
                None => into.clone_from(patch),
            },
            _ => drop(into.insert(field.clone(), cleaned(value))),
        }
    }
}

/// Elements that the patch names are merged or added, the others stay. New ones come first, and what the patch names
/// is in the patch's order.
fn merge_lists(into: &mut Vec<Value>, patch: &[Value], key: &str) {
    let (directives, elements): (Vec<_>, Vec<_>) = patch.iter().partition(|element| element.get(DIRECTIVE).is_some());
    if directives.iter().any(|element| element[DIRECTIVE] == "replace") {
        *into = elements.into_iter().cloned().collect();
        return;
    }
    into.retain(|element| !directives.iter().any(|gone| gone[key] == element[key]));
    let before: Vec<_> = into.iter().map(|element| element[key].clone()).collect();
    let mut named: Vec<Value> = Vec::new();
    for element in elements {
        match into.iter().position(|known| known[key] == element[key]) {
            Some(at) => {
                let mut known = into.remove(at);
                strategic_merge(&mut known, element);
                named.push(known);
            }
            None => named.push(cleaned(element)),
        }
    }
    let place = |element: &Value| before.iter().position(|known| *known == element[key]);
    let (mut named, mut others) = (named.into_iter().peekable(), std::mem::take(into).into_iter().peekable());
    while let Some(next) = named.peek() {
        match others.peek() {
            Some(other) if place(other).zip(place(next)).is_some_and(|(other, next)| other < next) => {
                into.extend(others.next());
            }
            _ => into.extend(named.next()),
        }
    }
    into.extend(others);
}

/// A value that was not there before: without nulls and directives.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(key, value)| !value.is_null() && *key != DIRECTIVE);
            Value::Object(fields.map(|(key, value)| (key.clone(), cleaned(value))).collect())
        }
        Value::Array(elements) => {
            Value::Array(elements.iter().filter(|e| e.get(DIRECTIVE).is_none()).map(cleaned).collect())
        }
        other => other.clone(),
    }
}

/// A merge patch (RFC 7396): maps merge, null takes away, all else is replaced.
pub(crate) fn json_merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(into) = into else { return };
    for (field, value) in patch {
        if value.is_null() {
            into.remove(field);
        } else {
            json_merge(into.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_merge_as_an_api_server_merges_them() {
        let cases = [
            // A new address stands before the old one, which stays.
            ("podIPs", json!([{ "ip": "a" }]), json!([{ "ip": "b" }]), json!([{ "ip": "b" }, { "ip": "a" }])),
            ("hostIPs", json!([{ "ip": "a" }]), json!([{ "ip": "b" }]), json!([{ "ip": "b" }, { "ip": "a" }])),
            ("podIPs", json!([{ "ip": "a" }]), json!([{ "ip": "b" }, { "$patch": "replace" }]), json!([{ "ip": "b" }])),
            (
                "conditions",
                json!([{ "type": "A", "status": "True", "reason": "R" }, { "type": "B" }, { "type": "C" }]),
                json!([{ "type": "C", "status": "False" }, { "type": "A", "reason": null }, { "type": "D" }]),
                json!([{ "type": "B" }, { "type": "C", "status": "False" }, { "type": "A", "status": "True" }, { "type": "D" }]),
            ),
            (
                "addresses",
                json!([{ "type": "InternalIP", "address": "a" }, { "type": "Hostname", "address": "h" }]),
                json!([{ "type": "InternalIP", "$patch": "delete" }]),
                json!([{ "type": "Hostname", "address": "h" }]),
            ),
            ("taints", json!([{ "key": "a" }, { "key": "b" }]), json!([{ "key": "c" }]), json!([{ "key": "c" }])),
            ("containerStatuses", json!([{ "name": "a" }]), json!([{ "name": "b" }]), json!([{ "name": "b" }])),
        ];
        for (list, before, patch, after) in cases {
            let mut object = json!({ list: before });
            strategic_merge(&mut object, &json!({ list: patch }));
            assert_eq!(object[list], after, "{list}: {patch}");
        }
    }

    #[test]
    fn a_list_that_was_not_there_has_no_nulls_and_no_directives() {
        let mut object = json!({});
        strategic_merge(
            &mut object,
            &json!({ "podIPs": [{ "ip": "a", "x": null }, { "$patch": "replace" }], "y": null }),
        );
        assert_eq!(object, json!({ "podIPs": [{ "ip": "a" }] }));
    }

    #[test]
    fn a_merge_patch_replaces_lists() {
        let mut object = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        json_merge(&mut object, &json!({ "a": { "b": null, "c": [3] }, "e": 2 }));
        assert_eq!(object, json!({ "a": { "c": [3] }, "d": 1, "e": 2 }));
    }
}
