//! Schemas of what others define: Kubernetes' own types, which say nothing of theirs.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A number of bases, or a per cent of them.
pub(super) fn number_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "pattern": "^([1-9][0-9]?|100)%$",
    })
}

/// A rule: the numbers of the one list in `list` rise.
pub(super) fn rises(list: &str) -> String {
    // A list of one list gives that a name: it is worked out once.
    format!("{list}.all(n, n.isSorted() && n.all(a, n.exists_one(b, b == a)))")
}

/// The per cents of these steps, as the one list in a list.
///
/// They are looked up. To take a number out of a text costs by its length, and the API server takes each text for one of
/// 3 MB where it may be a number as well: more than a rule may cost.
pub(super) fn per_cents_of(steps: &str) -> String {
    let numbers: Vec<_> = (1..=100).map(|number| format!("'{number}%': {number}")).collect();
    format!("[{{{}}}].map(m, {steps}.filter(s, s.replicas in m).map(s, m[s.replicas]))", numbers.join(", "))
}

/// A label selector.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                        "values": { "type": "array", "items": { "type": "string" } },
                    },
                },
            },
        },
        "nullable": true,
        "x-kubernetes-map-type": "atomic",
    })
}

/// Conditions, of which there is one of each type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string" },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "format": "int64" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "reason": { "type": "string" },
                "message": { "type": "string" },
            },
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
