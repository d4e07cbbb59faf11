//! What the engine promises at its edges: what goes out in which order, and what becomes of it when the API server
//! does not answer.

mod api_server;
mod cluster;
mod extremes;
mod jvm;
mod metaspace;
mod neighbours;
mod pictures;
mod properties;
mod scene;

use std::time::Duration;

use scene::{ROOM, Scene};
use serde_json::json;

use crate::{
    api::{Seen, Watched},
    domain::{Answer, BaseId, Command, ModuleId, ModuleState::*, Reachability, Reply},
    tunnel::{Event, Message, address},
};

#[test]
fn an_install_goes_out_only_when_it_is_on_record() {
    let mut scene = Scene::of(&["base-1"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    assert_eq!(scene.step(), ["orders"]);
    assert!(scene.step().is_empty(), "the record is on its way");
    scene.fail("orders");
    assert!(scene.step().is_empty(), "not at once");
    scene.pass(Duration::from_millis(300));
    assert_eq!(scene.step(), ["orders"]);
    scene.answer("orders");
    assert_eq!(scene.step(), ["base-1 installs biz1:1"]);
}

#[test]
fn of_a_release_only_the_first_waits_for_a_record() {
    let mut scene = Scene::of(&["base-1", "base-2", "base-3"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    assert_eq!(scene.step(), ["orders"]);
    scene.pod("p2", "base-2", "biz1:1", None);
    assert!(scene.step().is_empty(), "it is in the record that is on its way");
    scene.answer("orders");
    let mut out = scene.step();
    out.sort();
    assert_eq!(out, ["base-1 installs biz1:1", "base-2 installs biz1:1"]);
    scene.pod("p3", "base-3", "biz1:1", None);
    assert_eq!(scene.step(), ["base-3 installs biz1:1"]);
}

/// Bases with version 1 of a Deployment, and version 2 has started on the first of them.
fn update(bases: &[&str]) -> Scene {
    let mut scene = Scene::of(bases);
    scene.replica_set("rs1", 1);
    for (index, base) in bases.iter().enumerate() {
        scene.serving(&format!("old-{}", index + 1), base, "biz1:1", Some("rs1"));
    }
    scene.replica_set("rs2", 2);
    scene.pod("new", bases[0], "biz1:2", Some("rs2"));
    scene.settle();
    scene.done(bases[0], "installBiz", "biz1:2");
    scene.settle();
    scene.lists(bases[0], &[("biz1:1", Deactivated), ("biz1:2", Activated)]);
    scene
}

#[test]
fn where_others_serve_the_old_pod_has_failed_before_the_new_one_is_ready() {
    let mut scene = update(&["base-1", "base-2"]);
    assert_eq!(scene.step(), ["old-1 Failed"]);
    assert!(scene.step().is_empty(), "not before it is known to be written");
    scene.fail("old-1 Failed");
    scene.pass(Duration::from_secs(10));
    scene.lists("base-1", &[("biz1:1", Deactivated), ("biz1:2", Activated)]);
    let out = scene.step();
    assert!(out.contains(&"old-1 Failed".to_owned()), "tried again: {out:?}");
    scene.accept("old-1 Failed");
    assert_eq!(scene.step(), ["new Running Ready"]);
}

#[test]
fn where_nobody_else_serves_the_new_pod_is_ready_before_the_old_one_has_failed() {
    let mut scene = update(&["base-1"]);
    assert_eq!(scene.step(), ["new Running Ready"]);
    assert!(scene.step().is_empty(), "not before it is known to be written");
    scene.accept("new Running Ready");
    assert_eq!(scene.step(), ["old-1 Failed"]);
}

#[test]
fn a_status_that_could_not_be_written_is_written_later_and_once() {
    let mut scene = Scene::of(&["base-1"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    scene.settle();
    scene.done("base-1", "installBiz", "biz1:1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_eq!(scene.step(), ["p1 Running Ready"]);
    scene.fail("p1 Running Ready");
    assert!(scene.step().is_empty(), "not at once");
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.step(), ["p1 Running Ready"]);
    scene.answer("p1 Running Ready");
    assert_eq!(scene.step(), [""; 0], "it is as it should be");
}

#[test]
fn the_echo_of_a_write_gives_nothing_to_decide_on() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    assert!(scene.state.dirty.is_empty());
    scene.show("p1");
    assert!(scene.state.dirty.is_empty());
}

#[test]
fn a_pod_that_a_new_list_does_not_have_is_gone_and_its_module_too() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.watched(Watched::Pod(Box::new(Seen::ListBegins)));
    assert!(scene.step().is_empty(), "the list is not complete");
    scene.watched(Watched::Pod(Box::new(Seen::ListEnds)));
    assert_eq!(scene.step().first().map(String::as_str), Some("base-1 uninstalls biz1:1"));
}

#[test]
fn what_a_process_ordered_before_it_died_is_uninstalled_if_its_pod_is_gone() {
    for (ordered, expected) in [(true, vec!["base-1 uninstalls biz1:1"]), (false, vec![])] {
        let mut scene = Scene::of(&["base-1"]);
        if ordered {
            scene.ordered_before("biz1:1");
        }
        scene.restart();
        scene.beats("base-1");
        scene.lists("base-1", &[("biz1:1", Activated)]);
        let mut out = scene.settle();
        out.retain(|what| what.contains("installs"));
        assert_eq!(out, expected, "{ordered}");
    }
}

#[test]
fn what_was_ordered_for_a_pod_stays_ours_when_its_node_is_gone_and_the_process_dies() {
    let mut scene = Scene::of(&["base-1"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    scene.step();
    scene.answer("orders");
    scene.vanish("base-1");
    assert_eq!(scene.step(), ["base-1 installs biz1:1"]);
    scene.restart();
    scene.api.edit("p1", |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z"));
    scene.show("p1");
    scene.beats("base-1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    let out = scene.settle();
    assert!(out.contains(&"base-1 uninstalls biz1:1".to_owned()), "{out:?}");
}

#[test]
fn what_was_installed_stays_ours_when_its_node_is_deleted_while_nobody_looks() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.pass(Duration::from_secs(15));
    scene.beats("base-1");
    assert!(scene.settle().contains(&"ledgers".to_owned()));
    // The process dies; Node and Pod are deleted; the base keeps its module and beats no more, but answers.
    scene.vanish("base-1");
    scene.vanish("p1");
    scene.restart();
    scene.lists("base-1", &[("biz1:1", Activated)]);
    let out = scene.settle();
    assert!(out.contains(&"base-1 uninstalls biz1:1".to_owned()), "{out:?}");
}

#[test]
fn an_echo_that_never_comes_does_not_keep_a_node_from_being_made_again() {
    let mut scene = Scene::of(&["base-1"]);
    // A label is wrong, so the Node is written; it is deleted while the write is on its way.
    scene.api.edit("base-1", |node| node["metadata"]["labels"]["base.koupleless.io/name"] = "wrong".into());
    scene.show("base-1");
    assert_eq!(scene.step(), ["Node base-1"]);
    scene.remove("base-1");
    scene.lose_answer("Node base-1");
    scene.pass(Duration::from_secs(1));
    scene.beats("base-1");
    scene.settle();
    assert!(scene.state.bases.values().all(|state| state.node.object.exists()));
}

/// So many seconds, in which the broker lives.
fn pass_seconds(scene: &mut Scene, seconds: u32, mut each: impl FnMut(&mut Scene)) {
    for _ in 0..seconds {
        scene.pass(Duration::from_secs(1));
        scene.state.tunnel(Event::Proven, scene.now);
        each(scene);
        scene.settle();
    }
}

fn reachability(scene: &Scene, base: &str) -> Reachability {
    scene.state.bases[&BaseId::new(base)].base.reachability(scene.now)
}

#[test]
fn after_a_start_at_which_nobody_is_heard_all_nodes_stay_as_they_are() {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.restart();
    pass_seconds(&mut scene, 1_000, |_| ());
    for base in ["base-1", "base-2"] {
        assert_eq!(reachability(&scene, base), Reachability::Unknown);
        let node = &scene.api.objects[base]["status"]["conditions"];
        assert!(node.to_string().contains("BaseReady"), "{node}");
    }
    assert!(scene.api.objects["p1"]["status"].to_string().contains("Running"));
    // One is heard: the other has the time that it would have had, and then it is away.
    scene.beats("base-2");
    pass_seconds(&mut scene, 20, |_| ());
    assert_eq!(reachability(&scene, "base-1"), Reachability::Unknown);
    pass_seconds(&mut scene, 20, |scene| scene.beats("base-2"));
    assert_eq!(reachability(&scene, "base-1"), Reachability::Unreachable);
    assert_eq!(reachability(&scene, "base-2"), Reachability::Online);
}

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
fn a_command_that_cannot_be_sent_is_its_own_pods_failure() {
    let mut scene = Scene::of(&["base-1"]);
    for (pod, module) in [("large", "large:1"), ("small", "small:1")] {
        scene.pod(pod, "base-1", module, None);
    }
    scene.settle();
    let large = scene.sent.iter().find_map(|(_, command)| match command {
        Command::Install(spec, _) if spec.id.name == "large" => Some(command.clone()),
        _ => None,
    });
    let why = "the command has 30000 bytes".to_owned();
    let refused = Event::Undeliverable { base: BaseId::new("base-1"), command: large.unwrap(), why };
    scene.state.tunnel(refused, scene.now);
    scene.done("base-1", "installBiz", "small:1");
    scene.settle();
    scene.lists("base-1", &[("small:1", Activated)]);
    scene.settle();
    let status = |scene: &Scene, pod: &str| scene.api.objects[pod]["status"].to_string();
    assert!(status(&scene, "large").contains("30000 bytes"), "{}", status(&scene, "large"));
    assert!(status(&scene, "small").contains("\"phase\":\"Running\""));
    // It backs off.
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.settle(), [""; 0]);
    scene.pass(Duration::from_secs(6));
    assert!(scene.settle().contains(&"base-1 installs large:1".to_owned()));
}

#[test]
fn what_finds_a_queue_full_comes_later() {
    let names: Vec<_> = (0..3 * ROOM).map(|number| format!("base-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::of(&names);
    let nodes = |scene: &Scene| scene.state.bases.values().filter(|state| state.node.object.exists()).count();
    assert_eq!(nodes(&scene), ROOM);
    for so_far in [2 * ROOM, 3 * ROOM] {
        scene.pass(Duration::from_secs(1));
        scene.settle();
        assert_eq!(nodes(&scene), so_far);
    }
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
fn a_failure_without_a_word_is_written_once() {
    let mut scene = Scene::of(&["base-1"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    scene.settle();
    let refused = Reply {
        command: "installBiz",
        module: Some(ModuleId::new("biz1", "1")),
        answer: Answer::Failed(String::new()),
    };
    scene.say("base-1", Message::Reply(refused));
    scene.settle();
    scene.lists("base-1", &[]);
    scene.settle();
    for _ in 0..3 {
        scene.pass(Duration::from_secs(1));
        scene.show("p1");
        assert_eq!(scene.settle(), [""; 0]);
    }
}

#[test]
fn a_process_that_begins_writes_nothing_of_what_is_so_already() {
    let mut cluster = cluster::Cluster::new(crate::domain::tests::world::Mode::Default);
    cluster.run_for(Duration::from_secs(30));
    let before = cluster.scene.api.objects.clone();
    cluster.restart();
    for _ in 0..20 {
        let out = cluster.run_for(Duration::from_secs(2));
        for (key, object) in &before {
            let now = &cluster.scene.api.objects[key];
            assert_eq!(object, now, "{out:?}");
        }
    }
}

#[test]
fn pods_of_a_base_that_is_not_known_are_its_own_when_it_comes_and_nothing_is_kept_of_those_that_go() {
    let mut scene = Scene::of(&["base-1"]);
    scene.replica_set("rs1", 1);
    for (uid, base) in [("p1", "base-9"), ("p2", "base-9"), ("p3", "base-1")] {
        scene.pod(uid, base, "biz1:1", Some("rs1"));
    }
    scene.settle();
    // What is deleted where nobody is goes at once.
    scene.api.edit("p1", |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z"));
    scene.show("p1");
    assert_eq!(scene.settle(), ["delete p1"]);
    scene.registers("base-9");
    let out = scene.settle();
    assert!(out.contains(&"base-9 installs biz1:1".to_owned()), "{out:?}");
    ["p2", "p3"].iter().for_each(|pod| scene.remove(pod));
    assert!(scene.state.index.is_empty(), "{:?}", scene.state.index);
}

#[test]
fn a_base_whose_questions_find_no_room_is_not_given_up_for_its_silence_and_not_asked_in_a_loop() {
    let mut scene = Scene::of(&["base-1"]);
    let reachability =
        |scene: &Scene| scene.state.bases.values().next().map(|state| state.base.reachability(scene.now));
    for _ in 0..60 {
        scene.pass(Duration::from_secs(1));
        scene.link(Event::Proven);
        scene.fill_commands();
        scene.settle();
        assert!(scene.state.dirty.is_empty(), "it is looked at later");
    }
    assert_eq!(reachability(&scene), Some(Reachability::Online));
    scene.sent.clear();
    for _ in 0..10 {
        scene.pass(Duration::from_secs(1));
        scene.link(Event::Proven);
        scene.settle();
    }
    assert!(scene.sent.iter().any(|(base, command)| base == "base-1" && *command == Command::QueryHealth));
    assert_eq!(reachability(&scene), Some(Reachability::Unreachable));
}

#[test]
fn a_base_of_which_there_are_only_pods_is_looked_for_after_a_start() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.vanish("base-1");
    scene.api.objects.retain(|name, _| !name.starts_with("modulet-"));
    scene.restart();
    scene.settle();
    let asked = std::mem::take(&mut scene.sent);
    assert!(asked.iter().any(|(base, command)| base == "base-1" && *command == Command::QueryModules), "{asked:?}");
}

#[test]
fn a_base_that_flaps_floods_nobody_with_events_and_the_others_keep_their_story() {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    let before = scene.events();
    for _ in 0..100 {
        scene.says_goodbye("base-1");
        scene.settle();
        scene.beats("base-1");
        scene.settle();
        scene.pass(Duration::from_secs(1));
    }
    let flapped = scene.events() - before;
    assert!((20..=30).contains(&flapped), "{flapped} Events in 100 s");
    let before = scene.events();
    scene.says_goodbye("base-2");
    scene.settle();
    assert_eq!(scene.events(), before + 1);
}
