use super::{
    super::{MEMORY_PRESSURE_TAINT, memory_pressure, merge::strategic_merge, node_says_of_metaspace},
    *,
};
use crate::domain::{Metaspace, MetaspaceRules, Reachability};

fn writer(info: &BaseInfo, zone: bool, taint: bool, metaspace: Option<u64>) -> NodeWriter<'_> {
    NodeWriter {
        name: "vnode.base-1.dev",
        env: "dev",
        info,
        max_metaspace: metaspace,
        pressure: None,
        java_version: Some("17"),
        max_pods: 1000,
        kubelet_version: "v1.36.1-modulet-v0.1.0",
        kubelet: None,
        zone_per_base: zone,
        env_taint: taint,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// Patches until there is nothing to patch. Returns how many there were.
fn settle(writes: &NodeWriter<'_>, object: &mut Value) -> usize {
    for round in 0..5 {
        let node: Node = serde_json::from_value(object.clone()).unwrap();
        let ready = Ready::from(Reachability::Online);
        let NodePatches { metadata, status } = writes.patches(&node, ready, true);
        let Some(patch) = metadata.or(status) else { return round };
        strategic_merge(object, &patch);
        object["metadata"]["resourceVersion"] = json!("1");
    }
    panic!("it is written again and again: {object}");
}

fn left_by_another_controller() -> Value {
    json!({
        "metadata": {
            "name": "vnode.base-1.dev", "uid": "u",
            "labels": { "team": "blue", names::BASE_NAME: "old", names::BASE_CLUSTER: "c", names::ZONE: "vnode.base-1.dev" },
            "annotations": { names::LEDGER: "{}", "note": "keep" },
        },
        "spec": { "taints": [
            { "key": names::TAINT_VIRTUAL_NODE, "value": "True", "effect": "NoExecute" },
            { "key": names::TAINT_ENV, "value": "dev", "effect": "NoExecute" },
            { "key": "maintenance", "effect": "NoSchedule" },
        ] },
        "status": {
            "capacity": { "pods": "500", "memory": "0", "example.com/gpu": "2" },
            "allocatable": { "memory": "0", "example.com/gpu": "2" },
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.9" }, { "type": "ExternalDNS", "address": "x" }],
            "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Fancy", "status": "True" }],
        },
    })
}

#[test]
fn what_another_controller_left_is_put_right_in_two_writes_and_then_never_again() {
    for metaspace in [None, Some(256 << 20)] {
        let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
        let mut object = left_by_another_controller();
        assert_eq!(settle(&writer(&info, false, false, metaspace), &mut object), 2);
        let taints: Vec<_> = object["spec"]["taints"].as_array().unwrap().iter().map(|t| t["key"].clone()).collect();
        assert_eq!(taints, ["maintenance", names::TAINT_VIRTUAL_NODE]);
        let labels = &object["metadata"]["labels"];
        assert_eq!((&labels["team"], &labels[names::BASE_NAME]), (&json!("blue"), &json!("app")));
        assert!(labels[names::ZONE].is_null() && labels[names::BASE_CLUSTER].is_null(), "{labels}");
        assert_eq!(object["metadata"]["annotations"], json!({ "note": "keep" }));
        let capacity = &object["status"]["capacity"];
        assert_eq!((&capacity["example.com/gpu"], &capacity["pods"]), (&json!("2"), &json!("1k")));
        let memory = if metaspace.is_some() { "268435456" } else { "100T" };
        assert_eq!((&capacity["memory"], &capacity["cpu"]), (&json!(memory), &json!("100k")));
        let addresses = object["status"]["addresses"].to_string();
        assert!(addresses.contains("ExternalDNS") && !addresses.contains("192.0.2.9"), "{addresses}");
        assert!(object["status"]["conditions"].to_string().contains("Fancy"));
    }
}

#[test]
fn a_metaspace_limit_that_goes_and_comes_back_is_followed() {
    let info =
        BaseInfo { name: "app".into(), version: "1".into(), ip: Some("192.0.2.1".into()), ..BaseInfo::default() };
    let mut object = left_by_another_controller();
    settle(&writer(&info, true, true, Some(1 << 20)), &mut object);
    assert_eq!(settle(&writer(&info, true, true, None), &mut object), 1);
    assert_eq!(settle(&writer(&info, true, true, Some(2 << 20)), &mut object), 1);
    assert_eq!(object["status"]["capacity"]["memory"], json!("2097152"));
}

#[test]
fn low_metaspace_is_memory_pressure_that_is_written_once_and_its_taint_is_left_alone() {
    let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
    let mut object = left_by_another_controller();
    let has_memory = writer(&info, false, false, Some(256 << 20));
    settle(&has_memory, &mut object);
    let (mut said, mut writes, rules) = (None, Vec::new(), MetaspaceRules::default());
    for used in [200, 250, 251, 255, 230, 218, 210, 230, 243] {
        let metaspace = Metaspace { used: used << 20, max: 256 << 20 };
        said = memory_pressure(Some(metaspace), &rules, said.as_ref());
        writes.push(settle(&NodeWriter { pressure: said.as_ref(), ..has_memory.clone() }, &mut object));
        let node: Node = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(node_says_of_metaspace(&node), said);
        // As the controller of Kubernetes does it.
        let taints = object["spec"]["taints"].as_array_mut().unwrap();
        taints.retain(|t| t["key"] != MEMORY_PRESSURE_TAINT);
        if said.as_ref().is_some_and(|said| said.low) {
            taints.push(json!({ "key": MEMORY_PRESSURE_TAINT, "effect": "NoSchedule" }));
        }
    }
    assert_eq!(writes, [1, 1, 0, 0, 0, 0, 1, 1, 0]);
    // Also where our own taints are put right.
    object["spec"]["taints"] = json!([{ "key": MEMORY_PRESSURE_TAINT, "effect": "NoSchedule" }]);
    settle(&has_memory, &mut object);
    assert!(object["spec"]["taints"].to_string().contains(MEMORY_PRESSURE_TAINT), "{object}");
}

#[test]
fn the_version_is_one_that_tools_compare_with_the_api_servers() {
    let ours = env!("CARGO_PKG_VERSION");
    for (api_server, expected) in [
        (Some("v1.36.1"), "1.36.1"),
        (Some("v1.30.5+k3s1"), "1.30.5"),
        (Some("v1.29.3-gke.1282000"), "1.29.3"),
        (Some("v1.36"), "0.0.0"),
        (Some("1.36.1"), "0.0.0"),
        (Some("v1.036.1"), "0.0.0"),
        (Some("v1.36.1.2"), "0.0.0"),
        (Some(""), "0.0.0"),
        (None, "0.0.0"),
    ] {
        assert_eq!(kubelet_version(api_server), format!("v{expected}-modulet-v{ours}"), "{api_server:?}");
    }
}

#[test]
fn what_controllers_of_networks_and_zones_write_is_left_to_them() {
    let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
    let writes = writer(&info, true, false, None);
    let mut object = left_by_another_controller();
    object["metadata"]["labels"][names::ZONE] = json!("of-the-cloud");
    let no_route = json!({ "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated" });
    object["status"]["conditions"].as_array_mut().unwrap().push(no_route);
    settle(&writes, &mut object);
    assert_eq!(object["metadata"]["labels"][names::ZONE], "of-the-cloud");
    let conditions = object["status"]["conditions"].to_string();
    assert!(conditions.contains("NoRouteCreated") && !conditions.contains("BaseNetwork"), "{conditions}");
    let node: Node = serde_json::from_value(object).unwrap();
    assert!(!writes.heartbeat(&node).to_string().contains("NetworkUnavailable"));
}

#[test]
fn a_zone_of_our_own_is_taken_back_where_it_is_not_wanted_any_more_and_given_once() {
    let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
    let mut object = left_by_another_controller();
    settle(&writer(&info, true, false, None), &mut object);
    assert_eq!(object["metadata"]["labels"][names::ZONE], "vnode.base-1.dev");
    assert_eq!(settle(&writer(&info, false, false, None), &mut object), 1);
    assert!(object["metadata"]["labels"][names::ZONE].is_null());
    assert_eq!(settle(&writer(&info, true, false, None), &mut object), 1);
}

#[test]
fn the_port_and_the_name_of_the_tunnel_follow_the_base() {
    let mqtt = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
    let at = |port| BaseInfo { tunnel_port: Some(port), ..mqtt.clone() };
    let mut object = left_by_another_controller();
    object["metadata"]["labels"][names::BASE_TUNNEL_PORT] = json!("9999");
    let mut follows = |info: &BaseInfo, port: Option<&str>, tunnel: &str| {
        let writes = settle(&writer(info, false, false, None), &mut object);
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels[names::BASE_TUNNEL_PORT].as_str(), port);
        assert_eq!((&labels[names::BASE_TUNNEL], &labels[names::BASE_TUNNEL_OLD]), (&json!(tunnel), &json!(tunnel)));
        writes
    };
    assert_eq!(follows(&mqtt, None, "mqtt_tunnel_provider"), 2, "another controller's port is not this base's");
    assert_eq!(follows(&at(1238), Some("1238"), "http_tunnel_provider"), 1);
    assert_eq!(follows(&at(1238), Some("1238"), "http_tunnel_provider"), 0);
    assert_eq!(follows(&at(1239), Some("1239"), "http_tunnel_provider"), 1);
    assert_eq!(follows(&mqtt, None, "mqtt_tunnel_provider"), 1);
}

#[test]
fn with_a_kubelet_the_node_has_its_address_alone_and_the_bases_own_comes_back_without_it() {
    let info =
        BaseInfo { name: "app".into(), version: "1".into(), ip: Some("192.0.2.1".into()), ..BaseInfo::default() };
    let (here, there) = (
        KubeletEndpoint { address: "10.96.0.7".parse().unwrap(), port: 10_250 },
        KubeletEndpoint { address: "10.96.0.8".parse().unwrap(), port: 10_251 },
    );
    let without = writer(&info, true, false, None);
    let with = |kubelet| NodeWriter { kubelet: Some(kubelet), ..without.clone() };
    let mut object = left_by_another_controller();
    settle(&without, &mut object);
    for (kubelet, writes) in [(&here, 2), (&here, 0), (&there, 1)] {
        assert_eq!(settle(&with(kubelet), &mut object), writes);
        let status = &object["status"];
        // Without Hostname: API servers that take it first would look for a machine of that name.
        let addresses = json!([
            { "type": "ExternalDNS", "address": "x" },
            { "type": "InternalIP", "address": kubelet.address },
        ]);
        let mut has = status["addresses"].as_array().unwrap().clone();
        has.sort_by_key(|address| address["type"].to_string());
        assert_eq!(json!(has), addresses);
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], kubelet.port);
        assert_eq!(object["metadata"]["annotations"][names::BASE_ADDRESS], "192.0.2.1");
        let node: Node = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(base_address(&node), Some("192.0.2.1"));
    }
    // Also where what is born has it, and where its base says no address.
    let born: Node = serde_json::from_value(with(&here).create(Ready::from(Reachability::Online).unwrap())).unwrap();
    assert_eq!(base_address(&born), Some("192.0.2.1"));
    let silent = BaseInfo { ip: None, ..info.clone() };
    assert_eq!(settle(&NodeWriter { info: &silent, ..with(&there) }, &mut object), 1);
    assert_eq!(object["metadata"]["annotations"], json!({ "note": "keep" }));
    settle(&with(&there), &mut object);

    assert_eq!(settle(&without, &mut object), 2);
    let node: Node = serde_json::from_value(object.clone()).unwrap();
    assert_eq!((base_address(&node), kubelet::kubelet_port(&node)), (Some("192.0.2.1"), None));
    let addresses = object["status"]["addresses"].to_string();
    assert!(addresses.contains("Hostname") && !addresses.contains("10.96"), "{addresses}");
    assert_eq!(object["metadata"]["annotations"], json!({ "note": "keep" }));
    assert_eq!(settle(&without, &mut object), 0);
}
