use super::*;

fn patch(path: &str, body: &Value) -> Request {
    Request::strategic_patch(path.to_owned(), body)
}

fn code(result: Result<Done, WriteError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(WriteError::Refused { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

const POD: &str = "/api/v1/namespaces/default/pods/p/status";
const NODE: &str = "/api/v1/nodes/vnode.base-1.dev";

fn server() -> ApiServer {
    let mut server = ApiServer::default();
    let pod = json!({
        "metadata": { "name": "p", "namespace": "default", "uid": "p", "generation": 1 },
        "spec": { "nodeName": "vnode.base-1.dev", "restartPolicy": "OnFailure", "containers": [{ "name": "c" }] },
        "status": { "qosClass": "BestEffort" },
    });
    server.put("p", Kind::Pod, pod);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "vnode.base-1.dev" },
        "spec": { "taints": [{ "key": "a", "effect": "NoExecute" }] },
        "status": { "capacity": { "pods": "1000" }, "addresses": [{ "type": "Hostname", "address": "h" }] },
    });
    assert_eq!(code(server.apply(&Request::create("/api/v1/nodes".to_owned(), &node))), 200);
    server
}

#[test]
fn what_a_real_one_refuses_is_refused() {
    let ip = |ip: &str| json!({ "status": { "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": ip } });
    let ended = json!({ "name": "c", "state": { "terminated": { "exitCode": 0 } } });
    let waits = json!({ "name": "c", "state": { "waiting": {} } });
    let cases = [
        (POD, json!({ "metadata": { "uid": "p" }, "status": { "phase": "Running" } }), 200),
        (POD, json!({ "metadata": { "uid": "another" }, "status": { "phase": "Running" } }), 422),
        (POD, json!({ "metadata": { "resourceVersion": "0" }, "status": { "phase": "Running" } }), 409),
        ("/api/v1/namespaces/default/pods/q/status", json!({ "status": {} }), 404),
        ("/api/v1/namespaces/other/pods/p/status", json!({ "status": {} }), 404),
        (POD, ip("192.0.2.1"), 200),
        (POD, ip("192.0.2.2"), 422), // it would stand beside the one before
        (POD, json!({ "status": { "podIP": "192.0.2.2" } }), 200), // counts more than what podIPs say
        (POD, ip("unknown"), 422),
        (POD, ip("fe80::1%eth0"), 422),
        (POD, json!({ "status": { "hostIP": "192.0.2.1", "hostIPs": [{ "ip": "192.0.2.1" }] } }), 200),
        (POD, json!({ "status": { "hostIP": "192.0.2.2", "hostIPs": [{ "ip": "192.0.2.2" }] } }), 422),
        (POD, json!({ "status": { "hostIP": "192.0.2.2" } }), 422),
        (POD, json!({ "status": { "qosClass": "Guaranteed" } }), 422),
        (POD, json!({ "status": { "containerStatuses": [ended, { "name": "not in the spec" }] } }), 200),
        (POD, json!({ "status": { "containerStatuses": [waits] } }), 422),
        (POD, json!({ "status": { "containerStatuses": [] } }), 200),
        (
            NODE,
            json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }, { "key": "a", "effect": "NoSchedule" }] } }),
            422,
        ),
        (NODE, json!({ "spec": { "taints": [{ "key": "a", "value": "no value!", "effect": "NoSchedule" }] } }), 422),
        (NODE, json!({ "metadata": { "labels": { "a": "no value!" } } }), 422),
        (NODE, json!({ "metadata": { "annotations": { "a": "x".repeat(256 * 1024) } } }), 422),
        (NODE, json!({ "status": { "capacity": { "pods": "many" } } }), 200), // not the path of the status
        ("/api/v1/nodes/vnode.base-1.dev/status", json!({ "status": { "capacity": { "pods": "many" } } }), 422),
    ];
    let mut server = server();
    for (path, body, expected) in cases {
        let result = server.apply(&patch(path, &body));
        assert_eq!(code(result), expected, "{path} {}", &body.to_string()[..body.to_string().len().min(200)]);
    }
    let large = |bytes: usize| {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("modulet-{bytes}") }, "data": { "a": "x".repeat(bytes) } });
        Request::create("/api/v1/namespaces/default/configmaps".to_owned(), &object)
    };
    assert_eq!(code(server.apply(&large(1 << 20))), 200);
    assert_eq!(code(server.apply(&large(1 << 20))), 409, "it is there");
    assert_eq!(code(server.apply(&large((1 << 20) + 1))), 422);
    for (uid, expected) in [("another", 409), ("p", 200), ("p", 404)] {
        let delete = Request::delete("/api/v1/namespaces/default/pods/p".to_owned(), uid);
        assert_eq!(code(server.apply(&delete)), expected);
    }
}

#[test]
fn what_changes_nothing_leaves_the_version_and_what_is_empty_is_left_out() {
    let mut server = server();
    let waiting = |message: &str| {
        let waiting = json!({ "reason": "R", "message": message });
        json!({ "status": { "reason": "", "containerStatuses": [{ "name": "c", "state": { "waiting": waiting } }] } })
    };
    assert!(matches!(server.apply(&patch(POD, &waiting(""))), Ok(Done::Changed(..))));
    let status = &server.objects["p"]["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["waiting"], json!({ "reason": "R" }));
    assert_eq!(status["lastState"], json!({}));
    let before = server.objects["p"].clone();
    assert!(matches!(server.apply(&patch(POD, &waiting(""))), Ok(Done::Same(_))));
    assert_eq!(server.objects["p"], before);
    assert_eq!(server.objects["base-1"]["status"]["capacity"]["pods"], "1k");
    let beat =
        json!({ "status": { "addresses": [{ "type": "Hostname", "address": "h" }], "capacity": { "pods": "1000" } } });
    assert!(matches!(server.apply(&patch("/api/v1/nodes/vnode.base-1.dev/status", &beat)), Ok(Done::Same(_))));
}

#[test]
fn a_pod_with_finalizers_stays_until_they_are_gone() {
    let mut server = server();
    server.edit("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/f"]));
    let delete = Request::delete("/api/v1/namespaces/default/pods/p".to_owned(), "p");
    assert!(matches!(server.apply(&delete), Ok(Done::Changed(..))));
    assert_eq!(server.objects["p"]["metadata"]["deletionGracePeriodSeconds"], 0);
}
