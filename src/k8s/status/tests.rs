use super::*;

fn seen_by_its_owner(kind: &str) -> (Pod, PodStatus) {
    let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "1", "controller": true });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "uid": "u", "ownerReferences": [owner] },
        "spec": {
            "readinessGates": [{ "conditionType": "example.com/gate" }],
            "containers": [{ "name": "agent", "image": "https://user:secret@example.com/agent" }],
        },
        "status": { "podIP": "192.0.2.21", "podIPs": [{ "ip": "192.0.2.21" }] },
    }))
    .unwrap();
    let container = ContainerOutcome::Waiting { reason: Reason::NotAModule, message: "m".into(), restarts: 0 };
    let outcome = PodOutcome {
        uid: "u".into(),
        phase: Phase::Pending,
        containers: vec![container],
        reachable: true,
        rejected: None,
        leaving: None,
    };
    let status = StatusWriter { ip: Some("192.0.2.21"), now: Timestamp::UNIX_EPOCH }.status(&pod, &outcome);
    (pod, status)
}

#[test]
fn only_a_pod_of_a_daemon_set_that_never_runs_counts_as_ready_and_it_is_no_endpoint() {
    for (kind, ready) in [("DaemonSet", "True"), ("ReplicaSet", "False"), ("Job", "False")] {
        let (_, status) = seen_by_its_owner(kind);
        let condition = |type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).unwrap();
        assert_eq!(condition("Ready").status, ready, "{kind}");
        assert_eq!(condition("ContainersReady").status, "False", "{kind}");
        assert_eq!((&status.pod_ip, &status.pod_ips), (&None, &None), "{kind}");
        assert_eq!(status.host_ip.as_deref(), Some("192.0.2.21"));
        assert_eq!(status.phase.as_deref(), Some("Pending"));
    }
    let (_, status) = seen_by_its_owner("DaemonSet");
    let patch = status_patch("u", &status);
    assert!(patch["status"]["podIP"].is_null() && patch["status"]["podIPs"].is_null());
    assert!(!patch.to_string().contains("secret"), "{patch}");
}

#[test]
fn addresses_take_the_place_of_those_before() {
    let ip = "192.0.2.21".to_owned();
    let status = PodStatus {
        host_ips: Some(vec![HostIP { ip: ip.clone() }]),
        pod_ips: Some(vec![PodIP { ip: ip.clone() }]),
        ..PodStatus::default()
    };
    let patch = status_patch("u", &status);
    for list in ["hostIPs", "podIPs"] {
        assert_eq!(patch["status"][list], json!([{ "ip": ip }, { "$patch": "replace" }]), "{list}");
    }
    // Where nothing is known nothing is taken away.
    let patch = status_patch("u", &PodStatus::default());
    assert!(patch["status"]["hostIPs"].is_null() && patch["status"]["podIPs"].is_null());
}
