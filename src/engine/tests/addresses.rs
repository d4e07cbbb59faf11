//! The addresses that bases say: which are believed, and how often they are written.

use std::time::Duration;

use serde_json::json;

use super::scene::Scene;
use crate::{domain::ModuleState::Activated, tunnel::address};

#[test]
fn an_address_that_is_none_takes_nothing_from_what_runs() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    for odd in ["unknown", "127.0.0.1", "unknown", "fe80::1"] {
        scene.beats_at("base-1", address(odd));
        assert_eq!(scene.settle(), [""; 0], "{odd}");
        assert_eq!(scene.api.objects["p1"]["status"]["podIP"], "192.0.2.1");
    }
    // One that never said a better one has a Node without.
    scene.beats_at("base-2", address("unknown"));
    scene.pass(Duration::from_secs(1));
    assert!(scene.settle().contains(&"Node base-2".to_owned()));
    assert!(!scene.api.objects["base-2"]["status"]["addresses"].to_string().contains("InternalIP"));
}

#[test]
fn addresses_that_change_at_each_message_are_written_at_a_pace() {
    let mut scene = Scene::of(&["base-1"]);
    let modules: Vec<_> = (0..4).map(|n| format!("biz{n}:1")).collect();
    for (n, module) in modules.iter().enumerate() {
        scene.pod(&format!("p{n}"), "base-1", module, None);
        scene.settle();
        scene.done("base-1", "installBiz", module);
    }
    let listed: Vec<_> = modules.iter().map(|module| (module.as_str(), Activated)).collect();
    scene.lists("base-1", &listed);
    scene.settle();
    let mut writes = 0;
    for turn in 0..600_u32 {
        scene.beats_at("base-1", address(&format!("192.0.2.{}", turn % 200 + 1)));
        writes += scene.settle().len();
        scene.pass(Duration::from_secs(1));
    }
    // Ten changes and then two a minute, each for four Pods and their Node.
    assert!(writes <= 5 * (10 + 20) + 20, "{writes} writes");
    assert!(writes >= 5 * 10, "{writes} writes");
    // What it says in the end is what holds.
    for _ in 0..60 {
        scene.pass(Duration::from_secs(1));
        scene.beats_at("base-1", address("192.0.2.222"));
        scene.settle();
    }
    assert_eq!(scene.api.objects["p1"]["status"]["podIP"], "192.0.2.222");
}

#[test]
fn the_addresses_of_pods_follow_their_base_whatever_address_comes() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    for ip in ["192.0.2.7", "2001:db8::7", "2001:db8::8", "192.0.2.7"] {
        scene.beats_from("base-1", ip, false);
        scene.settle();
        let status = &scene.api.objects["p1"]["status"];
        assert_eq!((&status["podIP"], &status["hostIP"]), (&ip.into(), &ip.into()));
        assert_eq!((&status["podIPs"], &status["hostIPs"]), (&json!([{ "ip": ip }]), &json!([{ "ip": ip }])));
    }
}

#[test]
fn a_base_has_its_own_address_also_after_a_restart_where_its_node_has_modulets() {
    let mut scene = Scene::with(&["base-1"], &["--kubelet-api-address", "10.96.0.7"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    let addresses = |scene: &Scene| {
        let node = &scene.api.objects["base-1"];
        assert_eq!(node["status"]["addresses"], json!([{ "type": "InternalIP", "address": "10.96.0.7" }]));
        assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10_250);
        assert_eq!(node["metadata"]["annotations"]["base.koupleless.io/address"], "192.0.2.1");
        assert_eq!(scene.api.objects["p1"]["status"]["podIP"], "192.0.2.1");
    };
    addresses(&scene);
    // The next process hears of its modules before it says where it is.
    scene.restart();
    scene.lists("base-1", &[("biz1:1", Activated)]);
    scene.pass(Duration::from_secs(3));
    assert_eq!(scene.settle(), [""; 0]);
    addresses(&scene);
    scene.beats_at("base-1", address("192.0.2.1"));
    assert_eq!(scene.settle(), [""; 0]);
    addresses(&scene);
}
