//! A base whose metaspace runs out: what the Node and the Events say, and how often it is asked.

use std::time::Duration;

use serde_json::Value;

use super::scene::Scene;
use crate::{
    domain::{Command, ModuleState},
    tunnel::{Health, Message},
};

const BASE: &str = "base-1";

fn answers(scene: &mut Scene, used: u64, max: Option<u64>) {
    let (used_metaspace, max_metaspace) = (Some(used << 20), max.map(|max| max << 20));
    let java_version = Some("17".to_owned());
    scene.say(BASE, Message::Health(Health { max_metaspace, used_metaspace, java_version, ..Health::default() }));
}

/// Time passes; the base beats and answers. Returns how often it was asked for its health.
fn passes(scene: &mut Scene, seconds: u64, used: u64, max: Option<u64>) -> usize {
    let mut asked = 0;
    for _ in 0..seconds / 5 {
        scene.pass(Duration::from_secs(5));
        scene.beats(BASE);
        scene.settle();
        for (_, command) in std::mem::take(&mut scene.sent) {
            match command {
                Command::QueryHealth => {
                    asked += 1;
                    answers(scene, used, max);
                }
                Command::QueryModules if scene.api.objects.contains_key("p1") => {
                    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
                }
                Command::QueryModules => scene.lists(BASE, &[]),
                _ => {}
            }
        }
        scene.settle();
    }
    asked
}

fn pressure(scene: &Scene) -> Value {
    let conditions = scene.api.objects[BASE]["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == "MemoryPressure").unwrap().clone()
}

/// Writes of the Node after an answer.
fn writes_after(scene: &mut Scene, used: u64) -> usize {
    answers(scene, used, Some(256));
    scene.settle().iter().filter(|what| what.starts_with("Node ")).count()
}

#[test]
fn an_install_is_followed_by_one_question_and_what_it_shows_is_told_once() {
    let mut scene = Scene::of(&[BASE]);
    assert!(passes(&mut scene, 60, 100, Some(256)) >= 1, "for its JVM");
    assert_eq!(passes(&mut scene, 1800, 100, Some(256)), 0, "at rest");
    scene.serving("p1", BASE, "biz1:1", None);
    assert_eq!(passes(&mut scene, 1800, 100, Some(256)), 1);
    assert_eq!(pressure(&scene)["status"], "False");

    let events = scene.events();
    assert_eq!(writes_after(&mut scene, 250), 1);
    let low = pressure(&scene);
    assert_eq!((&low["status"], &low["reason"]), (&Value::from("True"), &Value::from("MetaspaceLow")));
    let message = low["message"].as_str().unwrap();
    assert!(message.starts_with("250 of 256 MiB") && message.contains("restart the base"), "{message}");
    assert_eq!(scene.events(), events + 2, "of the Node and of its Pod");
    for used in [251, 256, 230, 218] {
        assert_eq!(writes_after(&mut scene, used), 0, "{used}");
    }
    assert_eq!(pressure(&scene)["message"], low["message"]);
    assert_eq!(passes(&mut scene, 3600, 230, Some(256)), 12, "watched");
    assert_eq!(scene.events(), events + 2);

    assert_eq!(writes_after(&mut scene, 100), 1);
    assert_eq!(pressure(&scene)["status"], "False");
    assert_eq!(scene.events(), events + 3);
    assert_eq!(passes(&mut scene, 1800, 100, Some(256)), 0);
}

#[test]
fn the_next_process_finds_it_on_the_node_and_tells_nothing_anew() {
    let mut scene = Scene::of(&[BASE]);
    passes(&mut scene, 60, 250, Some(256));
    let low = pressure(&scene);
    assert_eq!(low["status"], "True");
    let events = scene.events();
    scene.restart();
    scene.beats(BASE);
    scene.settle();
    assert_eq!(pressure(&scene), low, "not known yet");
    assert_eq!(writes_after(&mut scene, 230), 0, "between the two thresholds");
    assert_eq!(pressure(&scene), low);
    let told_since = scene.events() - events;
    writes_after(&mut scene, 100);
    assert_eq!(pressure(&scene)["status"], "False");
    assert_eq!(scene.events() - events, told_since + 1);
}

#[test]
fn a_base_without_a_limit_has_no_pressure_and_is_not_asked() {
    let mut scene = Scene::of(&[BASE]);
    passes(&mut scene, 60, 4000, None);
    scene.serving("p1", BASE, "biz1:1", None);
    assert_eq!(passes(&mut scene, 1800, 4000, None), 0);
    assert_eq!(pressure(&scene)["status"], "False");
}
