use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    super::{ModuleUrls, ProbeRules},
    *,
};

/// A module Pod with these changes, each at its JSON pointer.
fn seen(changes: &[(&str, Value)]) -> Pod {
    let mut pod = json!({
        "metadata": { "labels": { names::COMPONENT: "module" }, "ownerReferences": [] },
        "spec": { "containers": [{
            "name": "biz1", "image": "https://modules.example.com/biz1.jar",
            "env": [{ "name": "BIZ_VERSION", "value": "1" }],
        }] },
    });
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[name] = value.clone();
    }
    let sources =
        Sources { referred: &HashMap::new(), ip: None, urls: &ModuleUrls::default(), probes: &ProbeRules::default() };
    pod_from(&serde_json::from_value(pod).unwrap(), &Revisions::default(), &sources)
}

#[test]
fn a_job_has_no_modules_for_it_would_never_complete() {
    let role_in_a_pod_of = |api_version: &str, kind: &str| {
        let owner = json!({ "apiVersion": api_version, "kind": kind, "name": "x", "uid": "1", "controller": true });
        seen(&[("/metadata/ownerReferences", json!([owner]))]).containers()[0].role.clone()
    };
    assert!(matches!(role_in_a_pod_of("batch/v1", "Job"), Role::Unusable(why) if why.contains("never completes")));
    for (api_version, kind) in [("apps/v1", "ReplicaSet"), ("example.com/v1", "Job")] {
        assert!(matches!(role_in_a_pod_of(api_version, kind), Role::Module(_)), "{api_version} {kind}");
    }
}

#[test]
fn a_version_or_image_that_is_no_good_is_named_and_goes_nowhere_else() {
    let env = |version: &str| json!([{ "name": "BIZ_VERSION", "value": version }]);
    for (path, value, expected) in [
        ("/spec/containers/0/env", env(&"1".repeat(300_000)), "300000 characters; at most 128"),
        ("/spec/containers/0/env", env("1\u{1b}[2J"), "printable ASCII"),
        ("/spec/containers/0/image", json!(format!("https://{}", "x".repeat(100_000))), "a URL may have 2048"),
        ("/spec/containers/0/image", json!("nginx\u{1b}[2J"), "it must be the URL"),
        ("/spec/containers/0/name", json!("x".repeat(300_000)), "300000 bytes"),
    ] {
        let pod = seen(&[(path, value)]);
        let Role::Unusable(why) = &pod.containers()[0].role else { panic!("{path}: {pod:?}") };
        assert!(why.contains(expected), "{why:?} should contain {expected:?}");
        assert!(why.len() < 500 && !why.contains('\u{1b}'), "{why:?}");
    }
    let long_label = seen(&[
        ("/metadata/labels/module.koupleless.io~1version", json!("x".repeat(200))),
        ("/spec/containers/0/env", json!([])),
    ]);
    assert!(matches!(&long_label.containers()[0].role, Role::Unusable(_)));
}

#[test]
fn a_pod_has_no_more_modules_than_are_allowed() {
    let containers = |count: usize| {
        let container = |n| json!({ "name": format!("biz{n}"), "image": "https://example.com/a.jar" });
        (0..count).map(container).collect::<Value>()
    };
    assert_eq!(seen(&[("/spec/containers", containers(256))]).containers().len(), 256);
    let more = seen(&[("/spec/containers", containers(257))]);
    assert!(matches!(&more.content, Content::Foreign(why) if why.contains("257 containers, and at most 256")));
}

#[test]
fn a_deletion_waits_for_pre_stop_but_never_longer_than_it_was_given() {
    let thirty_days = 30 * 24 * 3600;
    for (sleep, grace, given, expected) in [
        (30, Some(60), Some(60), 30),
        (30, Some(60), Some(1), 1),
        (30, Some(60), Some(0), 0),
        (5, Some(60), None, 5),
        (60, None, None, 30),
        (-1, Some(30), Some(30), 0),
        (i64::MAX, Some(i64::MAX), Some(i64::MAX), thirty_days),
        (i64::MAX, Some(i64::MAX), None, thirty_days),
        (i64::MAX, Some(i64::MAX), Some(-1), 0),
    ] {
        let pod = seen(&[
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("/metadata/deletionGracePeriodSeconds", json!(given)),
            ("/spec/terminationGracePeriodSeconds", json!(grace)),
            ("/spec/containers/0/lifecycle", json!({ "preStop": { "sleep": { "seconds": sleep } } })),
        ]);
        assert_eq!(pod.deleting, Some(Duration::from_secs(expected)), "{sleep} {grace:?} {given:?}");
        assert!(pod.grace <= limits::WAIT_MAX);
    }
}
