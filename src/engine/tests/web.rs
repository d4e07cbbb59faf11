//! Web modules: what one base shows of them reaches the others, at once and also those that wait for it.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    domain::{Answer, ModuleId, ModuleState::Activated, Reply},
    tunnel::Message,
};

const REFUSED: &str = "java.lang.IllegalStateException: Child name [biz1] is not unique";

/// Two bases with version 1 of biz1, and the first has refused version 2 beside it.
fn two_bases() -> Scene {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    for base in ["base-1", "base-2"] {
        scene.serving(&format!("{base}-old"), base, "biz1:1", None);
    }
    scene.pod("tried", "base-1", "biz1:2", None);
    assert!(scene.settle().contains(&"base-1 installs biz1:2".to_owned()));
    refuses(&mut scene, "base-1", "2");
    let out = scene.settle();
    assert!(out.contains(&"tried Pending".to_owned()), "{out:?}");
    scene
}

fn refuses(scene: &mut Scene, base: &str, version: &str) {
    let (module, answer) = (Some(ModuleId::new("biz1", version)), Answer::Failed(REFUSED.to_owned()));
    scene.say(base, Message::Reply(Reply { command: "installBiz", module, answer, space: None }));
    scene.settle();
    scene.lists(base, &[("biz1:1", Activated)]);
}

fn reason(scene: &Scene, pod: &str) -> String {
    let waiting = &scene.api.objects[pod]["status"]["containerStatuses"][0]["state"]["waiting"];
    waiting["reason"].as_str().unwrap_or_default().to_owned()
}

fn installs(out: &[String]) -> Vec<&String> {
    out.iter().filter(|what| what.contains(" installs ")).collect()
}

#[test]
fn what_one_base_has_refused_no_other_is_told_to_install() {
    let mut scene = two_bases();
    scene.pod("known", "base-2", "biz1:2", None);
    assert_eq!(installs(&scene.settle()), [""; 0]);
    assert_eq!(
        (reason(&scene, "tried"), reason(&scene, "known")),
        ("WebContextInUse".into(), "WebContextInUse".into())
    );

    // The next process learns it from what the Pods show.
    scene.restart();
    for base in ["base-1", "base-2"] {
        scene.beats(base);
        scene.lists(base, &[("biz1:1", Activated)]);
    }
    assert_eq!(installs(&scene.settle()), [""; 0]);
    scene.pod("known-later", "base-2", "biz1:2", None);
    assert_eq!(installs(&scene.settle()), [""; 0]);
    assert_eq!(reason(&scene, "known-later"), "WebContextInUse");
}

#[test]
fn one_base_tries_the_next_version_and_the_others_hear_of_it_at_once() {
    let mut scene = two_bases();
    scene.pod("next-1", "base-1", "biz1:3", None);
    scene.pod("next-2", "base-2", "biz1:3", None);
    let out = scene.settle();
    let [tries] = installs(&out)[..] else { panic!("{out:?}") };
    let (tries, waits) = if tries.starts_with("base-1") { ("base-1", "next-2") } else { ("base-2", "next-1") };
    scene.pass(Duration::from_secs(2));
    assert_eq!(installs(&scene.settle()), [""; 0]);
    assert_eq!(reason(&scene, waits), "Installing");
    refuses(&mut scene, tries, "3");
    assert_eq!(installs(&scene.settle()), [""; 0]);
    assert_eq!(reason(&scene, waits), "WebContextInUse");
}
