//! What deciding and translating costs: `cargo bench --bench core`.

use std::{hint::black_box, sync::Arc, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::core::WatchEvent;
use modulet::{
    api::Lean,
    domain::{
        Base, BaseId, Container, ContainerHistory, ContainerOutcome, Content, Health, Link, ListedModule, ModuleId,
        ModuleSpec, ModuleState, Needs, Origin, Phase, Pod, PodOutcome, Role, Settings, WebContexts, Workload,
    },
    k8s::{StatusWriter, status_patch},
    tunnel::{Kind, decode},
};
use serde_json::json;

fn messages(c: &mut Criterion) {
    let message = |data| json!({ "publishTimestamp": 1_760_000_000_000_u64, "data": data }).to_string();
    let heartbeat = message(json!({
        "baseMetadata": { "identity": "base-1", "name": "testbase", "version": "1.0.0", "clusterName": "default" },
        "localIP": "192.0.2.10", "localHostName": "base-host", "port": 0, "state": "activated",
    }));
    let listed = |n| {
        json!({ "name": format!("biz{n}"), "version": "1.0.0", "state": "activated", "latestStateRecord": {
            "changeTime": 1_760_000_000_000_u64, "state": "ACTIVATED", "reason": "STARTED", "message": "",
        } })
    };
    let list = message((0..100).map(listed).collect());
    // What makes a real reply so long is the class path in it.
    let class_path: Vec<_> =
        (0..80).map(|n| format!("file:/srv/koupleless/app/base.jar!/BOOT-INF/lib/library-{n}-1.0.0.jar!/")).collect();
    let biz = json!({
        "bizName": "biz1", "bizVersion": "1.0.0", "bizState": "ACTIVATED", "identity": "biz1:1.0.0",
        "classPath": class_path, "pluginClassPath": class_path, "webContextPath": "biz1",
    });
    let reply = message(json!({
        "command": "installBiz", "bizName": "biz1", "bizVersion": "1.0.0",
        "response": { "code": "SUCCESS", "message": "install biz success!", "data": {
            "code": "SUCCESS", "message": "Install Biz: biz1:1.0.0 success, cost: 1234 ms", "bizInfos": [biz],
        } },
    }));
    let mut group = c.benchmark_group("decode");
    for (name, kind, payload) in [
        ("heartbeat", Kind::Heart, heartbeat),
        ("list of 100", Kind::SimpleBiz, list),
        ("install reply", Kind::BizOperation, reply),
    ] {
        let name = format!("{name}, {} bytes", payload.len());
        group.bench_function(name, |b| b.iter(|| decode("base-1", kind, black_box(payload.as_bytes()))));
    }
    group.finish();
}

/// A Pod as a watch tells of it, with all that API server and controllers add.
fn as_watched() -> String {
    let fields =
        |names: &[&str]| names.iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>();
    let manager = |manager: &str, subresource: &str, fields: serde_json::Value| {
        json!({ "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": fields, "subresource": subresource })
    };
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "biz1-7c5ddbdf54-x2x4x", "generateName": "biz1-7c5ddbdf54-", "namespace": "default",
            "uid": "00000000-0000-0000-0000-000000000001", "resourceVersion": "12345", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app": "biz1", "pod-template-hash": "7c5ddbdf54", "virtual-kubelet.koupleless.io/component": "module" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "biz1-7c5ddbdf54",
                "uid": "00000000-0000-0000-0000-000000000002", "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [
                manager("kube-controller-manager", "", json!({
                    "f:metadata": {
                        "f:generateName": {}, "f:labels": fields(&[".", "app", "pod-template-hash", "component"]),
                        "f:ownerReferences": { ".": {}, "k:{\"uid\":\"00000000-0000-0000-0000-000000000002\"}": {} },
                    },
                    "f:spec": {
                        "f:containers": { "k:{\"name\":\"biz1\"}": fields(&[
                            ".", "env", "image", "imagePullPolicy", "name", "resources", "terminationMessagePath",
                            "terminationMessagePolicy",
                        ]) },
                        "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
                        "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}, "f:tolerations": {},
                    },
                })),
                manager("kubelet", "status", json!({ "f:status": {
                    "f:conditions": {
                        "k:{\"type\":\"ContainersReady\"}": fields(&[".", "lastTransitionTime", "status", "type"]),
                        "k:{\"type\":\"Initialized\"}": fields(&[".", "lastTransitionTime", "status", "type"]),
                        "k:{\"type\":\"Ready\"}": fields(&[".", "lastTransitionTime", "status", "type"]),
                    },
                    "f:containerStatuses": {}, "f:hostIP": {}, "f:phase": {}, "f:podIP": {}, "f:startTime": {},
                } })),
            ],
        },
        "spec": {
            "volumes": [{ "name": "kube-api-access-x2x4x", "projected": { "defaultMode": 420, "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [
                    { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
                ] } },
            ] } }],
            "containers": [{
                "name": "biz1", "image": "https://modules.example.com/biz1-1.0.0-ark-biz.jar",
                "env": [{ "name": "BIZ_VERSION", "value": "1.0.0" }], "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{
                    "name": "kube-api-access-x2x4x", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                }],
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "nodeName": "vnode.base-1.dev", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [
                { "key": "schedule.koupleless.io/virtual-node", "operator": "Exists", "effect": "NoExecute" },
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            ],
        },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.10", "podIP": "192.0.2.10", "qosClass": "BestEffort",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [condition("Initialized"), condition("ContainersReady"), condition("Ready"), condition("PodScheduled")],
            "containerStatuses": [{
                "name": "biz1", "image": "registry.example.com/image:1", "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } }, "lastState": {},
            }],
        },
    });
    // As the API server writes it: the type comes first. Behind the object it would have everything read twice.
    format!(r#"{{"type":"MODIFIED","object":{pod}}}"#)
}

/// Reading what the watch of Pods tells, beside reading all of it.
fn watched(c: &mut Criterion) {
    let text = as_watched();
    let name = |what| format!("{what}, {} bytes", text.len());
    let mut group = c.benchmark_group("watch event of a Pod");
    group.bench_function(name("what is needed"), |b| {
        b.iter(|| serde_json::from_str::<WatchEvent<Lean<core::Pod>>>(black_box(&text)).is_ok());
    });
    group.bench_function(name("all"), |b| {
        b.iter(|| serde_json::from_str::<WatchEvent<core::Pod>>(black_box(&text)).is_ok());
    });
    group.finish();
}

fn link(now: Instant) -> Link {
    Link { proven: Some(now), suspected: false, ..Link::default() }
}

/// A Pod with one module that has run.
fn pod(number: usize) -> Pod {
    let name = format!("biz{number}");
    let spec = ModuleSpec {
        id: ModuleId::new(&name, "1.0.0"),
        origin: Origin::default(),
        url: format!("https://modules.example.com/{name}-1.0.0-ark-biz.jar"),
        args: Vec::new(),
        envs: std::collections::BTreeMap::new(),
        unresolved: None,
    };
    Pod {
        uid: format!("00000000-0000-0000-0000-{number:012}").into(),
        name: format!("default/{name}"),
        created: 1_760_000_000,
        workload: Workload { uid: format!("workload-{number}").into(), revision: 1 },
        content: Content::Modules(vec![Container {
            name,
            role: Role::Module(spec),
            history: ContainerHistory { has_run: true, ..ContainerHistory::default() },
            probes: None,
        }]),
        deleting: None,
        evicted: false,
        terminal: false,
        superseded: false,
        grace: std::time::Duration::from_secs(30),
        drain: std::time::Duration::ZERO,
        replaces: false,
        ignores_metaspace: false,
        shown_ready: true,
        held_back: None,
        lingers: false,
        not_done: Vec::new(),
        trace: None,
    }
}

/// A base on which all these are active, and nothing is left to be done.
fn base(pods: &[&Pod], now: Instant) -> Base {
    let mut base = Base::new(BaseId::new("base-1"), Arc::new(Settings::default()), now);
    base.liveness.heard(now);
    base.health_answered(true);
    base.recorded(pods.iter().flat_map(|pod| pod.modules()).map(|m| m.id.clone()));
    base.step(pods, &link(now), &WebContexts::default(), &Needs::default(), now);
    let modules = pods.iter().flat_map(|pod| pod.modules());
    let listed = modules.map(|m| ListedModule {
        id: m.id.clone(),
        state: ModuleState::Activated,
        context_path: None,
        message: None,
    });
    base.listed(listed.collect(), now);
    for _ in 0..3 {
        base.step(pods, &link(now), &WebContexts::default(), &Needs::default(), now);
    }
    base
}

fn decisions(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("step");
    for count in [1, 20, 100] {
        let pods: Vec<_> = (0..=count).map(pod).collect();
        let with_new: Vec<_> = pods.iter().collect();
        let quiet = &with_new[..count];
        let base = base(quiet, now);
        assert!(
            base.clone().step(quiet, &link(now), &WebContexts::default(), &Needs::default(), now).commands.is_empty(),
            "it should be quiet"
        );
        assert_eq!(
            base.clone().step(&with_new, &link(now), &WebContexts::default(), &Needs::default(), now).unrecorded.len(),
            1,
            "the new Pod needs an install"
        );
        group.bench_function(BenchmarkId::new("quiet", count), |b| {
            let mut base = base.clone();
            b.iter(|| base.step(black_box(quiet), &link(now), &WebContexts::default(), &Needs::default(), now));
        });
        group.bench_function(BenchmarkId::new("one Pod more", count), |b| {
            let copy = || base.clone();
            let step = |mut base: Base| {
                (base.step(black_box(&with_new), &link(now), &WebContexts::default(), &Needs::default(), now), base)
            };
            b.iter_batched(copy, step, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn statuses(c: &mut Criterion) {
    let object: core::Pod = serde_json::from_value(json!({
        "metadata": { "name": "biz1", "namespace": "default", "uid": "00000000-0000-0000-0000-000000000001" },
        "spec": { "nodeName": "vnode.base-1.dev", "containers": [{
            "name": "biz1", "image": "https://modules.example.com/biz1-1.0.0-ark-biz.jar",
            "env": [{ "name": "BIZ_VERSION", "value": "1.0.0" }],
        }] },
        "status": { "phase": "Pending", "qosClass": "BestEffort" },
    }))
    .unwrap_or_default();
    let outcome = PodOutcome {
        uid: "00000000-0000-0000-0000-000000000001".into(),
        phase: Phase::Running,
        containers: vec![ContainerOutcome::Active { restarts: 0, health: Health::Ready }],
        reachable: true,
        rejected: None,
        leaving: None,
    };
    let writer = StatusWriter { ip: Some("192.0.2.10"), now: Timestamp::UNIX_EPOCH };
    c.bench_function("status patch", |b| {
        b.iter(|| status_patch(&outcome.uid, &writer.status(black_box(&object), &outcome)).to_string());
    });
    let mut written = object.clone();
    written.status = Some(writer.status(&object, &outcome));
    c.bench_function("status that is as it should be", |b| {
        b.iter(|| Some(writer.status(black_box(&written), &outcome)) == written.status);
    });
}

criterion_group!(benches, messages, watched, decisions, statuses);
criterion_main!(benches);
