//! What Pods are said to be: in which order, once, and whatever a base or a queue refuses.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    domain::{Answer, BaseId, Command, ModuleId, ModuleState::*, Reply},
    tunnel::{Event, Message},
};

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
fn a_failure_without_a_word_is_written_once() {
    let mut scene = Scene::of(&["base-1"]);
    scene.pod("p1", "base-1", "biz1:1", None);
    scene.settle();
    let refused = Reply {
        command: "installBiz",
        module: Some(ModuleId::new("biz1", "1")),
        answer: Answer::Failed(String::new()),
        space: None,
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
