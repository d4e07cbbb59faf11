//! A process that stood by and takes over: what it heard was said to another.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    domain::{Answer, Command, ModuleState::Activated, Reply},
    tunnel::Message,
};

/// A base with a module, and another process that hears it while the first one works.
fn standing_by() -> Scene {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("u1", "base-1", "biz1:1", None);
    scene.stands_by();
    scene.beats("base-1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    scene.sent.clear();
    scene
}

fn baselines(scene: &Scene) -> usize {
    scene.sent.iter().filter(|(_, command)| matches!(command, Command::Baseline(_))).count()
}

#[test]
fn who_takes_over_asks_for_the_list_and_writes_nothing_that_does_not_differ() {
    let mut scene = standing_by();
    scene.pass(Duration::from_secs(300));
    scene.beats("base-1");
    scene.takes_over();
    assert_eq!(scene.settle(), [""; 0], "nothing is told or written");
    assert!(scene.sent.iter().any(|(_, command)| matches!(command, Command::QueryModules)), "{:?}", scene.sent);
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_eq!(scene.settle(), [""; 0]);
}

/// The one before installed it a moment ago; the list that was heard is older than that.
#[test]
fn a_list_that_was_heard_before_is_not_believed() {
    let mut scene = standing_by();
    scene.pass(Duration::from_secs(5));
    scene.lists("base-1", &[]);
    scene.takes_over();
    assert_eq!(scene.settle(), [""; 0], "it would be installed a second time");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_eq!(scene.settle(), [""; 0]);
    // Nor is it uninstalled, though its Pod was not known a moment ago.
    assert_eq!(baselines(&scene), 0);
}

#[test]
fn a_baseline_that_another_has_given_is_not_given_again() {
    let mut scene = standing_by();
    scene.say("base-1", Message::QueryBaseline(None));
    let answer = Answer::Done { actual: None };
    scene.say("base-1", Message::Reply(Reply { command: "baseline", module: None, answer, space: None }));
    scene.takes_over();
    scene.settle();
    assert_eq!(baselines(&scene), 0);
}

#[test]
fn a_question_for_the_baseline_that_nobody_answered_is_answered_while_it_is_fresh() {
    for (seconds, answered) in [(5, 1), (30, 0)] {
        let mut scene = standing_by();
        scene.say("base-1", Message::QueryBaseline(None));
        scene.pass(Duration::from_secs(seconds));
        scene.takes_over();
        scene.settle();
        assert_eq!(baselines(&scene), answered, "after {seconds} s");
    }
}
