use kube::core::WatchEvent;
use serde_json::{Value, json};

use super::*;
use crate::k8s::names;

fn read<K: Watchable>(object: &Value) -> K {
    // As the API server writes it: the type comes first.
    match serde_json::from_str(&format!(r#"{{"type":"ADDED","object":{object}}}"#)) {
        Ok(WatchEvent::Added(Lean(object))) => object,
        other => panic!("{other:?}"),
    }
}

fn metadata() -> Value {
    json!({
        "name": "biz1", "namespace": "ns", "uid": "1", "resourceVersion": "2", "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        "deletionGracePeriodSeconds": 4, "finalizers": ["example.com/f"], "labels": { "app": "biz1" }, "annotations": { "note": "n" },
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "5", "controller": true }],
    })
}

/// The same with what nobody here needs.
fn with(mut object: Value, more: &[(&str, Value)]) -> Value {
    let managed = json!([{ "manager": "m", "operation": "Update", "fieldsV1": { "f:spec": {} } }]);
    object["metadata"]["managedFields"] = managed;
    for (path, value) in more {
        let (parent, name) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[name] = value.clone();
    }
    object
}

#[test]
fn of_a_pod_all_that_is_needed_is_read_and_nothing_else() {
    let reference = json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.annotations['note']" } });
    let needed = json!({
        "metadata": metadata(),
        "spec": {
            "nodeName": "vnode.base-1.dev", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "readinessGates": [{ "conditionType": "example.com/gate" }],
            "initContainers": [{ "name": "init" }],
            "volumes": [{ "name": "v" }],
            "containers": [{
                "name": "biz1", "image": "https://modules.example.com/biz1.jar", "args": ["--a"],
                "env": [{ "name": "BIZ_VERSION", "value": "1" }, { "name": "NOTE", "valueFrom": reference }],
                "envFrom": [{ "configMapRef": { "name": "config" } }],
                "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
            }],
        },
        "status": {
            "phase": "Running", "reason": "BizDeactivate", "message": "m", "podIP": "192.0.2.1",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            "containerStatuses": [{
                "name": "biz1", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
                "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
            }],
        },
    });
    let all = with(
        needed.clone(),
        &[
            ("/metadata/annotations/other", json!("large")),
            ("/spec/volumes", json!([{ "name": "v", "emptyDir": {} }, { "name": "kube-api-access-x7" }])),
            ("/spec/tolerations", json!([{ "operator": "Exists" }])),
            ("/spec/containers/0/volumeMounts", json!([{ "name": "v", "mountPath": "/v" }])),
            ("/spec/containers/0/resources", json!({ "limits": { "cpu": "1" } })),
            ("/spec/affinity", json!({ "nodeAffinity": {}, "podAntiAffinity": {} })),
            ("/spec/topologySpreadConstraints", json!([{ "topologyKey": names::HOSTNAME }])),
        ],
    );
    assert_ne!(serde_json::from_value::<Pod>(all.clone()).unwrap(), read(&all), "there is more in it");
    assert_eq!(read::<Pod>(&all), serde_json::from_value(needed).unwrap());
}

#[test]
fn that_a_pod_is_to_be_spread_over_zones_is_read_and_not_from_what() {
    let term = json!({ "topologyKey": names::ZONE, "labelSelector": { "matchLabels": { "app": "biz1" } } });
    let weighted = json!([{ "weight": 1, "podAffinityTerm": term }]);
    for spec in [
        json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } }),
        json!({ "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": weighted } } }),
        json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": names::ZONE }] }),
    ] {
        let pod = read::<Pod>(&json!({ "spec": spec }));
        assert!(crate::k8s::spreads_over_zones(&pod), "{spec}");
        assert!(!format!("{pod:?}").contains("biz1"));
    }
}

#[test]
fn of_a_node_all_but_its_managed_fields_is_read() {
    let needed = json!({
        "metadata": metadata(),
        "spec": { "taints": [{ "key": "k", "effect": "NoExecute" }], "unschedulable": true },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
            "allocatable": { "pods": "100" }, "capacity": { "pods": "100" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    assert_eq!(read::<Node>(&with(needed.clone(), &[])), serde_json::from_value(needed).unwrap());
}

#[test]
fn of_workloads_the_template_is_read_and_of_deployments_their_numbers() {
    let template = json!({ "metadata": { "labels": { "app": "biz1" } }, "spec": { "containers": [{ "name": "c" }] } });
    let mut needed = json!({ "metadata": metadata(), "spec": { "selector": {}, "template": template } });
    let all = with(needed.clone(), &[("/status", json!({ "observedGeneration": 3, "numberReady": 3 }))]);
    needed["metadata"]["annotations"] = Value::Null;
    assert_eq!(read::<DaemonSet>(&all), serde_json::from_value(needed.clone()).unwrap());
    let conditions = json!([{ "type": "Available", "status": "True" }]);
    needed["status"] = json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 1 });
    let all =
        with(needed.clone(), &[("/status/conditions", conditions), ("/metadata/annotations", json!({ "a": "b" }))]);
    assert_eq!(read::<Deployment>(&all), serde_json::from_value(needed).unwrap());
}

#[test]
fn of_revisions_the_metadata_and_the_number_are_read() {
    let needed = json!({ "metadata": metadata(), "revision": 7 });
    let all = with(needed.clone(), &[("/data", json!({ "spec": {} }))]);
    assert_eq!(read::<ControllerRevision>(&all), serde_json::from_value(needed.clone()).unwrap());
    let meta: ObjectMeta = serde_json::from_value(needed["metadata"].clone()).unwrap();
    assert_eq!(read::<PartialObjectMeta<ReplicaSet>>(&all).metadata, meta);
}

#[test]
fn what_is_missing_or_null_is_taken_as_empty() {
    assert_eq!(read::<Pod>(&json!({})), Pod::default());
    let nulls = json!({ "metadata": { "labels": null }, "spec": { "containers": null }, "status": null });
    assert_eq!(read::<Pod>(&nulls), Pod { spec: Some(PodSpec::default()), ..Pod::default() });
}

#[test]
fn it_is_asked_for_as_the_object_itself() {
    assert_eq!(Lean::<Pod>::url_path(&(), None), Pod::url_path(&(), None));
    assert_eq!(Lean::<DaemonSet>::url_path(&(), None), DaemonSet::url_path(&(), None));
    assert!(Lean::<PartialObjectMeta<ReplicaSet>>::metadata_api());
    assert!(!Lean::<Pod>::metadata_api());
}
