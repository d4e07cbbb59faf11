//! Objects that come and go: what no list has is gone, what finds no room is written later, and what is so already is
//! not written.

use std::time::Duration;

use serde_json::json;

use super::{
    cluster::Cluster,
    scene::{ROOM, Scene},
};
use crate::{
    api::{Seen, Watched},
    domain::tests::jvm::Mode,
};

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
fn a_process_that_begins_writes_nothing_of_what_is_so_already() {
    let mut cluster = Cluster::new(Mode::Default);
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
