//! Pods that are deleted are gone, also where the API server stops half-way: it marks a Pod, and then removes it.

use std::time::Duration;

use serde_json::json;

use super::scene::Scene;
use crate::domain::ModuleState::Activated;

const SOME_TIME: Duration = Duration::from_secs(10);

/// Its base has the module no more, and it is to go.
fn uninstalled() -> Scene {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.api.edit("p1", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    });
    scene.show("p1");
    scene.settle();
    scene.done("base-1", "uninstallBiz", "biz1:1");
    scene.settle();
    scene.lists("base-1", &[]);
    assert_eq!(scene.step(), ["delete p1"]);
    scene
}

/// What goes out in some seconds, in which the base goes on to say that it has nothing.
fn soon(scene: &mut Scene) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..SOME_TIME.as_secs() {
        scene.pass(Duration::from_secs(1));
        scene.lists("base-1", &[]);
        out.extend(scene.step().into_iter().filter(|what| what.starts_with("delete")));
    }
    out
}

#[test]
fn what_the_api_server_began_to_delete_before_it_died_is_deleted_once_more() {
    let mut scene = uninstalled();
    scene.halve("delete p1");
    scene.show("p1");
    assert_eq!(scene.step(), [""; 0], "it may be about to go");
    assert_eq!(soon(&mut scene), ["delete p1"]);
    scene.answer("delete p1");
    assert!(!scene.api.objects.contains_key("p1"));
}

#[test]
fn the_next_process_deletes_it_too() {
    let mut scene = uninstalled();
    scene.halve("delete p1");
    scene.restart();
    scene.registers("base-1");
    scene.settle();
    assert_eq!(soon(&mut scene), ["delete p1"]);
}

#[test]
fn what_others_have_to_finish_is_left_to_them() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.api.edit("p1", |pod| pod["metadata"]["finalizers"] = json!(["example.com/f"]));
    scene.mark("p1");
    scene.show("p1");
    scene.settle();
    scene.done("base-1", "uninstallBiz", "biz1:1");
    assert_eq!(soon(&mut scene), [""; 0]);
    scene.api.edit("p1", |pod| pod["metadata"]["finalizers"] = json!([]));
    scene.show("p1");
    assert_eq!(soon(&mut scene), ["delete p1"]);
}

#[test]
fn what_goes_by_itself_is_not_deleted_once_more() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    scene.mark("p1");
    scene.show("p1");
    scene.settle();
    scene.remove("p1");
    scene.settle();
    scene.done("base-1", "uninstallBiz", "biz1:1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_eq!(soon(&mut scene), [""; 0]);
}
