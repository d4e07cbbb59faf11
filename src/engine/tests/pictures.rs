//! What people see who look at bases, and that it costs nothing while nobody does.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::Scene;
use crate::domain::{Answer, BaseId, ModuleId, ModuleState::Activated, Reply};
use crate::tunnel::Message;

fn seen(scene: &Scene, base: &str) -> Option<Value> {
    scene.state.pictures.peek(&BaseId::new(base), scene.now)
}

fn looks(scene: &mut Scene) {
    scene.state.pictures.want(scene.now);
    scene.step();
}

#[test]
fn while_nobody_looks_no_picture_is_taken_and_none_is_kept() {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    assert_eq!(scene.state.pictures.count(), (0, false));

    looks(&mut scene);
    assert_eq!(scene.state.pictures.count(), (2, true));
    scene.pass(Duration::from_secs(50));
    scene.step();
    assert_eq!(scene.state.pictures.count(), (2, true));
    scene.pass(Duration::from_secs(11));
    scene.step();
    assert_eq!(scene.state.pictures.count(), (0, false));
    scene.beats("base-1");
    scene.step();
    assert_eq!(scene.state.pictures.count(), (0, false));

    looks(&mut scene);
    assert_eq!(scene.state.pictures.count(), (2, true), "somebody looks again");
}

#[test]
fn what_happens_on_a_base_is_seen_as_it_happens() {
    let mut scene = Scene::of(&["base-1"]);
    looks(&mut scene);
    let base = seen(&scene, "base-1").unwrap();
    assert_eq!(
        (&base["reachability"], &base["modules"], &base["commands"]),
        (&json!("Online"), &json!([]), &json!([]))
    );

    scene.pod("p1", "base-1", "biz1:1", None);
    scene.settle();
    scene.pass(Duration::from_secs(2));
    scene.settle();
    let base = seen(&scene, "base-1").unwrap();
    let command =
        json!({ "command": "installBiz", "module": "biz1:1", "forSeconds": 2, "answered": false, "mayBeLost": false });
    assert_eq!(base["commands"], json!([command]));
    assert_eq!(base["waiting"][0]["pod"], "default/p1");
    assert_eq!(base["waiting"][0]["reason"], "Installing");

    let (module, answer) = (Some(ModuleId::new("biz1", "1")), Answer::Failed("no such jar".to_owned()));
    scene.say("base-1", Message::Reply(Reply { command: "installBiz", module, answer, space: None }));
    scene.settle();
    scene.lists("base-1", &[]);
    scene.settle();
    let base = seen(&scene, "base-1").unwrap();
    let failure = json!({
        "command": "installBiz", "module": "biz1:1", "reason": "InstallFailed", "message": "no such jar", "failures": 1,
        "nextTryInSeconds": 10,
    });
    assert_eq!((&base["commands"], &base["failures"]), (&json!([]), &json!([failure])));
    assert_eq!(base["waiting"][0]["reason"], "InstallFailed");

    scene.lists("base-1", &[("biz1:1", Activated)]);
    scene.settle();
    let base = seen(&scene, "base-1").unwrap();
    assert_eq!(base["modules"], json!([{ "module": "biz1:1", "state": "Activated", "message": null }]));
    assert_eq!(base["claims"][0]["module"], "biz1:1");
    assert_eq!(base["waiting"], json!([]));
}

#[test]
fn a_base_that_comes_or_goes_while_somebody_looks_is_there_or_not() {
    let mut scene = Scene::of(&["base-1"]);
    looks(&mut scene);
    scene.registers("base-2");
    scene.step();
    assert!(seen(&scene, "base-2").is_some());
    scene.state.forget_base(&BaseId::new("base-2"), scene.now);
    scene.step();
    assert_eq!((seen(&scene, "base-2"), scene.state.pictures.count()), (None, (1, true)));
}

#[test]
fn of_many_bases_some_are_taken_at_each_turn() {
    let ids: Vec<_> = (0..600).map(|number| format!("base-{number}")).collect();
    let mut scene = Scene::of(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    looks(&mut scene);
    assert_eq!(scene.state.pictures.count(), (250, false));
    scene.step();
    assert_eq!(scene.state.pictures.count(), (500, false));
    scene.step();
    assert_eq!(scene.state.pictures.count(), (600, true));
}
