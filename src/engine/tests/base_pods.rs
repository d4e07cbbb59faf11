//! A base's own Pod is told whether its modules are there.

use std::time::Duration;

use serde_json::{Value, json};

use super::{api_server::Kind, scene::Scene};
use crate::{
    api::{Seen, Watched},
    domain::{BaseInfo, ModuleState::Activated},
    k8s::names,
    tunnel::{Health, Heartbeat, Message},
};

const OPTIONS: [&str; 2] = ["--base-pod-namespaces", "default"];
const SECOND: Duration = Duration::from_secs(1);

impl Scene {
    fn base_pod(&mut self, uid: &str, address: &str) {
        let pod = json!({
            "metadata": {
                "name": uid, "namespace": "default", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
            },
            "status": { "phase": "Running", "qosClass": "BestEffort", "podIP": address },
            "spec": {
                "nodeName": "machine", "containers": [{ "name": "base", "image": "x" }],
                "readinessGates": [{ "conditionType": names::MODULES_READY }],
            },
        });
        self.api.put(uid, Kind::Pod, pod);
        self.show(uid);
    }

    fn beats_in(&mut self, base: &str, host: &str, address: &str) {
        let info = BaseInfo {
            name: "app".to_owned(),
            version: "1".to_owned(),
            ip: Some(address.to_owned()),
            host_name: Some(host.to_owned()),
            ..BaseInfo::default()
        };
        self.say(base, Message::Heartbeat(Heartbeat { info, no_address: None, going_away: false, out_of_turn: false }));
    }

    fn registers_in(&mut self, base: &str, host: &str, address: &str) {
        self.beats_in(base, host, address);
        self.say(base, Message::Health(Health::default()));
        self.lists(base, &[]);
        self.settle();
    }

    /// A `DaemonSet` of one module, for all bases.
    fn daemon_set(&mut self, module: &str) {
        let (name, version) = module.split_once(':').unwrap();
        let set = json!({
            "metadata": { "name": "d", "namespace": "default", "uid": "d", "resourceVersion": "1" },
            "spec": { "selector": {}, "template": {
                "metadata": { "labels": { names::COMPONENT: "module" } },
                "spec": { "tolerations": [{ "operator": "Exists" }], "containers": [{
                    "name": name, "image": "https://modules.example.com/biz.jar",
                    "env": [{ "name": names::BIZ_VERSION, "value": version }],
                }] },
            } },
        });
        self.watched(Watched::DaemonSet(Box::new(Seen::Applied(serde_json::from_value(set).unwrap()))));
    }

    /// Time passes. Returns what was written of bases' own Pods.
    fn waits(&mut self, seconds: u32) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.pass(SECOND);
            all.extend(self.settle().into_iter().filter(|what| what.starts_with("BasePod")));
        }
        all
    }

    fn says(&self, pod: &str) -> Option<(String, String)> {
        let conditions = self.api.objects[pod]["status"]["conditions"].as_array()?;
        let ours = conditions.iter().find(|condition| condition["type"] == names::MODULES_READY)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some((text(&ours["status"]), text(&ours["message"])))
    }
}

#[test]
fn a_bases_own_pod_is_complete_when_its_modules_are_ready_and_a_forged_base_changes_nothing() {
    let mut scene = Scene::with(&[], &OPTIONS);
    scene.base_pod("host-1", "192.0.2.1");
    scene.registers_in("forged", "host-1", "192.0.2.9");
    assert!(scene.waits(10).is_empty());
    scene.registers_in("base-1", "host-1", "192.0.2.1");
    scene.pod("p1", "base-1", "biz1:1", None);
    assert_eq!(scene.waits(3).len(), 1);
    let says = "1 of 1 module Pods are not Ready: default/p1";
    assert_eq!(scene.says("host-1"), Some(("False".to_owned(), says.to_owned())));
    scene.done("base-1", "installBiz", "biz1:1");
    scene.settle();
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_eq!(scene.waits(8).len(), 1);
    assert_eq!(scene.says("host-1").unwrap().0, "True");
    scene.remove("p1");
    assert!(scene.waits(8).is_empty(), "without a module there is nothing that is missing");
}

#[test]
fn nothing_is_written_where_it_is_not_switched_on() {
    let mut scene = Scene::of(&[]);
    scene.base_pod("host-1", "192.0.2.1");
    scene.registers_in("base-1", "host-1", "192.0.2.1");
    assert!(scene.waits(10).is_empty());
}

#[test]
fn a_process_that_begins_writes_nothing_before_it_knows_and_nothing_that_is_so_already() {
    let mut scene = Scene::with(&[], &OPTIONS);
    scene.base_pod("host-1", "192.0.2.1");
    scene.registers_in("base-1", "host-1", "192.0.2.1");
    assert_eq!(scene.waits(8).len(), 1);
    scene.pod("p1", "base-1", "biz1:1", None);
    scene.settle();
    scene.done("base-1", "installBiz", "biz1:1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    scene.settle();
    scene.restart();
    assert!(scene.waits(10).is_empty(), "the base has said nothing yet");
    scene.beats_in("base-1", "host-1", "192.0.2.1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert!(scene.waits(10).is_empty());
    assert_eq!(scene.says("host-1").unwrap().0, "True");
    // Gone while no watch showed it: the list tells.
    scene.vanish("host-1");
    scene.relist();
    scene.pod("p2", "base-1", "biz2:1", None);
    assert!(scene.waits(10).is_empty());
}

#[test]
fn while_a_new_version_is_on_its_way_the_old_one_stands_in() {
    let mut scene = Scene::with(&[], &OPTIONS);
    scene.base_pod("host-1", "192.0.2.1");
    scene.registers_in("base-1", "host-1", "192.0.2.1");
    scene.replica_set("rs1", 1);
    scene.serving("old", "base-1", "biz1:1", Some("rs1"));
    scene.waits(8);
    assert_eq!(scene.says("host-1").unwrap().0, "True");
    scene.replica_set("rs2", 2);
    scene.pod("new", "base-1", "biz1:2", Some("rs2"));
    for _ in 0..2 {
        scene.beats_in("base-1", "host-1", "192.0.2.1");
        assert!(scene.waits(10).is_empty(), "what serves is there");
    }
    scene.remove("old");
    scene.beats_in("base-1", "host-1", "192.0.2.1");
    assert_eq!(scene.waits(8).len(), 1);
    assert_eq!(scene.says("host-1").unwrap().0, "False");
}

#[test]
fn what_a_daemon_set_will_bring_is_waited_for_and_not_for_ever() {
    let mut scene = Scene::with(&[], &OPTIONS);
    scene.daemon_set("biz1:1");
    scene.base_pod("host-1", "192.0.2.1");
    scene.registers_in("base-1", "host-1", "192.0.2.1");
    assert_eq!(scene.waits(20).len(), 1);
    let says = "modules of its baseline have no Pod yet: biz1";
    assert_eq!(scene.says("host-1"), Some(("False".to_owned(), says.to_owned())));
    for _ in 0..6 {
        scene.beats_in("base-1", "host-1", "192.0.2.1");
        scene.lists("base-1", &[]);
        scene.waits(10);
    }
    assert_eq!(scene.says("host-1").unwrap().0, "True", "nobody gives it that Pod");
}
