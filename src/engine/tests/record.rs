//! An install is on record before it is ordered, and what was ordered stays ours whatever goes away.

use std::time::Duration;

use serde_json::json;

use super::scene::Scene;
use crate::domain::ModuleState::Activated;

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
