//! What is said of workloads of modules.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{super::words::ZONES, base_node, exit, finds, found, objects, ordinary, well};
use crate::{
    check::{facts::Facts, finding::Level},
    k8s::names,
};

fn deployment(name: &str, spec: Value) -> Value {
    let mut template = json!({ "containers": [] });
    template.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "metadata": { "namespace": "ns", "name": name },
        "spec": { "selector": {}, "template": { "metadata": { "labels": { names::COMPONENT: "module" } }, "spec": template } },
    })
}

#[test]
fn modules_that_rely_on_a_zone_of_each_base_are_named_where_there_is_none() {
    let term = |key: &str| json!({ "topologyKey": key, "labelSelector": {} });
    let apart = |kind: &str, key: &str| {
        let terms =
            if kind.starts_with("required") { term(key) } else { json!({ "weight": 1, "podAffinityTerm": term(key) }) };
        json!({ "affinity": { "podAntiAffinity": { kind: [terms] } } })
    };
    let deployments = objects(&[
        deployment("hard", apart("requiredDuringSchedulingIgnoredDuringExecution", names::ZONE)),
        deployment("soft", apart("preferredDuringSchedulingIgnoredDuringExecution", names::ZONE)),
        deployment("right", apart("requiredDuringSchedulingIgnoredDuringExecution", names::HOSTNAME)),
        deployment(
            "spread",
            json!({ "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": names::ZONE, "whenUnsatisfiable": "DoNotSchedule" }] }),
        ),
        deployment(
            "anyway",
            json!({ "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": names::ZONE, "whenUnsatisfiable": "ScheduleAnyway" }] }),
        ),
    ]);
    let facts = Facts { nodes: objects(&[ordinary("a", json!({ names::ZONE: "z1" }))]), deployments, ..well() };
    finds(&facts, ZONES, Level::Problem, &["anti-affinity", "ns/hard, ns/soft", "topologyKey: kubernetes.io/hostname"]);
    finds(&facts, ZONES, Level::Problem, &["no base", "ns/spread"]);
    let text = format!("{:?}", found(&facts, ZONES));
    assert!(!text.contains("ns/right") && !text.contains("ns/anyway"), "{text}");
    // Where each base has its own, all is well.
    let alone = Facts { nodes: Ok(Vec::new()), ..facts };
    assert_eq!(exit(&alone), (0, 0));
}

#[test]
fn limit_ranges_matter_where_modules_are() {
    let limits = |namespace: &str, limit: Value| json!({ "metadata": { "namespace": namespace, "name": "limits" }, "spec": { "limits": [limit] } });
    let mut base = base_node();
    base.status.as_mut().unwrap().allocatable =
        serde_json::from_value(json!({ "pods": "1k", "memory": "1Ti" })).unwrap();
    let facts = Facts {
        base: Some(base),
        module_namespaces: Ok(BTreeSet::from(["pods".to_owned()])),
        deployments: objects(&[deployment("d", json!({}))]),
        limit_ranges: objects(&[
            limits("pods", json!({ "type": "Container", "default": { "memory": "1Gi" } })),
            limits("ns", json!({ "type": "Container", "defaultRequest": { "cpu": "1" } })),
            limits("elsewhere", json!({ "type": "Container", "defaultRequest": { "cpu": "1" } })),
            limits("pods", json!({ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" } })),
            limits("pods", json!({ "type": "Container", "max": { "cpu": "1" } })),
        ]),
        ..well()
    };
    finds(&facts, "LimitRanges", Level::Problem, &["ns/limits", "cpu", "Pending"]);
    finds(&facts, "LimitRanges", Level::Warning, &["pods/limits", "memory"]);
    assert_eq!(found(&facts, "LimitRanges").len(), 2);
}
