//! What deciding and translating costs: `cargo bench --bench core`.

use std::{hint::black_box, sync::Arc, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use modulet::{
    domain::{
        Base, BaseId, Container, ContainerHistory, ContainerOutcome, Content, ListedModule, ModuleId, ModuleSpec,
        ModuleState, Phase, Pod, PodOutcome, Role, Settings, Workload,
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

/// A Pod with one module that has run.
fn pod(number: usize) -> Pod {
    let name = format!("biz{number}");
    let spec = ModuleSpec {
        id: ModuleId::new(&name, "1.0.0"),
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
        }]),
        deleting: None,
        terminal: false,
        superseded: false,
        grace: std::time::Duration::from_secs(30),
    }
}

/// A base on which all these are active, and nothing is left to be done.
fn base(pods: &[&Pod], now: Instant) -> Base {
    let mut base = Base::new(BaseId::new("base-1"), Arc::new(Settings::default()), now);
    base.liveness.heard(now);
    base.recorded(pods.iter().flat_map(|pod| pod.modules()).map(|m| m.id.clone()));
    base.step(pods, now);
    let modules = pods.iter().flat_map(|pod| pod.modules());
    let listed = modules.map(|m| ListedModule { id: m.id.clone(), state: ModuleState::Activated, message: None });
    base.listed(listed.collect(), now);
    for _ in 0..3 {
        base.step(pods, now);
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
        assert!(base.clone().step(quiet, now).commands.is_empty(), "it should be quiet");
        assert_eq!(base.clone().step(&with_new, now).unrecorded.len(), 1, "the new Pod needs an install");
        group.bench_function(BenchmarkId::new("quiet", count), |b| {
            let mut base = base.clone();
            b.iter(|| base.step(black_box(quiet), now));
        });
        group.bench_function(BenchmarkId::new("one Pod more", count), |b| {
            let copy = || base.clone();
            let step = |mut base: Base| (base.step(black_box(&with_new), now), base);
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
        containers: vec![ContainerOutcome::Active { restarts: 0 }],
        reachable: true,
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

criterion_group!(benches, messages, decisions, statuses);
criterion_main!(benches);
