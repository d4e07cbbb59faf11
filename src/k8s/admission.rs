//! Which Nodes a Pod template admits, as the scheduler decides it: node selector, required node
//! affinity, taints and tolerations. Resources and Pod affinity are not looked at.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

/// What the scheduler sees in `spec.unschedulable`.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Whether a Pod of `spec` could be scheduled on `node`.
pub fn admits(spec: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    spec.node_name.as_deref().is_none_or(|wanted| wanted == name)
        && spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        // Terms are alternatives; without any, nothing matches (Kubernetes convention).
        && required_terms(spec).is_none_or(|terms| terms.iter().any(|term| term_matches(term, labels, name)))
        && tolerates(spec, node)
}

pub(super) fn required_terms(spec: &PodSpec) -> Option<&[NodeSelectorTerm]> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let is = |r: &NodeSelectorRequirement, value| matches(&r.operator, r.values.as_deref(), value);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| is(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && is(r, Some(name)))
}

/// Whether a label selector matches these labels. An empty one matches all.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut expressions = selector.match_expressions.iter().flatten();
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|r| matches(&r.operator, r.values.as_deref(), labels.get(&r.key).map(String::as_str)))
}

fn matches(operator: &str, values: Option<&[String]>, value: Option<&str>) -> bool {
    let values = values.unwrap_or_default();
    let among = |v: &str| values.iter().any(|x| x == v);
    let number = |text: &str| text.parse::<i64>().ok();
    let limit = || values.first().and_then(|v| number(v));
    match operator {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(limit()).is_some_and(|(v, l)| v > l),
        "Lt" => value.and_then(number).zip(limit()).is_some_and(|(v, l)| v < l),
        _ => false,
    }
}

fn tolerates(spec: &PodSpec, node: &Node) -> bool {
    let node_spec = node.spec.as_ref();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let cordoned = node_spec.is_some_and(|s| s.unschedulable == Some(true));
    let cordon = cordoned.then(|| Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() });
    let taints = node_spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .chain(&cordon)
        .filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
        .all(|taint| tolerations.iter().any(|t| is_tolerated(t, taint)))
}

/// Whether the toleration matches the taint, as Kubernetes decides it.
pub fn is_tolerated(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let same_value = || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    (empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect))
        && (empty(&toleration.key) || toleration.key.as_deref() == Some(&taint.key))
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => !empty(&toleration.key) && same_value(),
            Some(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(extra_taints: &Value, unschedulable: bool) -> Node {
        let mut taints =
            vec![json!({ "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" })];
        taints.extend(extra_taints.as_array().unwrap().iter().cloned());
        serde_json::from_value(json!({
            "metadata": { "name": "vnode.base-1.dev", "labels": { "base.koupleless.io/name": "base", "cores": "4" } },
            "spec": { "taints": taints, "unschedulable": unschedulable },
        }))
        .unwrap()
    }

    fn spec(mut extra: Value) -> PodSpec {
        extra["containers"] = json!([]);
        let virtual_node = json!({ "key": "schedule.koupleless.io/virtual-node", "operator": "Equal", "value": "True", "effect": "NoExecute" });
        let tolerations = extra["tolerations"].as_array().cloned().unwrap_or_else(|| vec![virtual_node]);
        extra["tolerations"] = json!(tolerations);
        serde_json::from_value(extra).unwrap()
    }

    fn affinity(terms: Value) -> Value {
        json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
    }

    #[test]
    fn selectors_and_affinity_decide_as_the_scheduler_does() {
        let expression = |key: &str, operator: &str, values: &[&str]| {
            affinity(json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]))
        };
        let name = "base.koupleless.io/name";
        let cases = [
            (json!({}), true),
            (json!({ "nodeSelector": { name: "base" } }), true),
            (json!({ "nodeSelector": { name: "other" } }), false),
            (json!({ "nodeName": "vnode.base-1.dev" }), true),
            (json!({ "nodeName": "vnode.base-2.dev" }), false),
            (expression(name, "In", &["x", "base"]), true),
            (expression(name, "In", &["x"]), false),
            (expression(name, "NotIn", &["x"]), true),
            (expression("absent", "NotIn", &["x"]), true),
            (expression(name, "Exists", &[]), true),
            (expression("absent", "DoesNotExist", &[]), true),
            (expression("cores", "Gt", &["3"]), true),
            (expression("cores", "Lt", &["4"]), false),
            (affinity(json!([])), false),
            (affinity(json!([{}])), false),
            (affinity(json!([{}, { "matchExpressions": [{ "key": name, "operator": "Exists" }] }])), true),
            (
                affinity(
                    json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["vnode.base-1.dev"] }] }]),
                ),
                true,
            ),
        ];
        for (extra, expected) in cases {
            assert_eq!(admits(&spec(extra.clone()), &node(&json!([]), false)), expected, "{extra}");
        }
    }

    #[test]
    fn taints_keep_out_whom_they_keep_out() {
        let unreachable = json!([{ "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" }]);
        let preferred = json!([{ "key": "x", "effect": "PreferNoSchedule" }]);
        assert!(!admits(&spec(json!({ "tolerations": [] })), &node(&json!([]), false)));
        assert!(!admits(&spec(json!({})), &node(&unreachable, false)));
        assert!(admits(&spec(json!({})), &node(&preferred, false)));
        assert!(!admits(&spec(json!({})), &node(&json!([]), true)), "cordoned");
        let everything = json!({ "tolerations": [{ "operator": "Exists" }] });
        assert!(admits(&spec(everything), &node(&unreachable, true)));
        let wrong = json!({ "tolerations": [{ "key": "schedule.koupleless.io/virtual-node", "value": "False" }] });
        assert!(!admits(&spec(wrong), &node(&json!([]), false)));
    }
}
