//! A base whose metaspace runs out: what the Node and the Events say, and how often it is asked.

use std::time::Duration;

use serde_json::Value;

use super::scene::Scene;
use crate::{
    domain::{Answer, Command, ModuleId, ModuleState, Reply},
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

/// The base has installed a module that took so much, as it says.
fn installed(scene: &mut Scene, module: &str, mib: u64) {
    let (name, version) = module.split_once(':').unwrap();
    let (module, answer) = (Some(ModuleId::new(name, version)), Answer::Done { actual: None });
    scene.say(BASE, Message::Reply(Reply { command: "installBiz", module, answer, space: Some(mib << 20) }));
    scene.settle();
}

/// The reason for which a Pod waits, and its message.
fn waits(scene: &Scene, pod: &str) -> (String, String) {
    let waiting = &scene.api.objects[pod]["status"]["containerStatuses"][0]["state"]["waiting"];
    let text = |field: &str| waiting[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// A base that uses 230 of 256 MiB, and has a module that took 31 MiB.
fn full() -> Scene {
    let mut scene = Scene::of(&[BASE]);
    passes(&mut scene, 60, 100, Some(256));
    scene.pod("p1", BASE, "biz1:1", None);
    scene.settle();
    installed(&mut scene, "biz1:1", 31);
    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
    passes(&mut scene, 60, 230, Some(256));
    scene
}

/// The same, and a Pod whose module waits.
fn waiting() -> Scene {
    let mut scene = full();
    scene.pod("p2", BASE, "biz1:2", None);
    scene.settle();
    passes(&mut scene, 10, 230, Some(256));
    scene
}

#[test]
fn a_module_that_will_not_fit_waits_and_nothing_is_written_while_it_does() {
    let mut scene = waiting();
    let (reason, message) = waits(&scene, "p2");
    let expected = "biz1:2 needs about 31 MiB of metaspace, and 13 of 256 MiB are left for modules: restart base-1";
    assert!(reason == "InsufficientMetaspace" && message.starts_with(expected), "{reason} {message}");
    let events = scene.events();
    let asked = passes(&mut scene, 600, 230, Some(256));
    assert!((28..=31).contains(&asked), "{asked} questions in 10 minutes");
    for used in [229, 231, 228, 233, 230] {
        answers(&mut scene, used, Some(256));
        assert_eq!(scene.settle(), [""; 0], "{used}");
    }
    assert_eq!(scene.events(), events);

    // Also by the next process, which has it from the Pod.
    scene.restart();
    scene.beats(BASE);
    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
    scene.settle();
    passes(&mut scene, 600, 226, Some(256));
    assert_eq!(waits(&scene, "p2"), (reason, message));

    answers(&mut scene, 200, Some(256));
    let out = scene.settle();
    assert!(out.contains(&"base-1 installs biz1:2".to_owned()), "{out:?}");
}

#[test]
fn it_is_asked_before_an_old_figure_has_anybody_wait() {
    let mut scene = full();
    assert_eq!(passes(&mut scene, 100, 230, Some(256)), 0, "nobody waits");
    scene.pod("p2", BASE, "biz1:2", None);
    let out = scene.settle();
    assert!(!out.iter().any(|what| what.contains("installs")), "{out:?}");
    let asked = scene.sent.iter().filter(|(_, command)| *command == Command::QueryHealth).count();
    assert_eq!((asked, waits(&scene, "p2").0.as_str()), (1, ""));
    answers(&mut scene, 100, Some(256));
    let out = scene.settle();
    assert!(out.contains(&"base-1 installs biz1:2".to_owned()), "{out:?}");
}

#[test]
fn an_annotation_has_it_installed_all_the_same() {
    let mut scene = waiting();
    scene.api.objects.get_mut("p2").unwrap()["metadata"]["annotations"] =
        serde_json::json!({ "modulet.koupleless.io/metaspace": "ignore" });
    scene.show("p2");
    let out = scene.settle();
    assert!(out.contains(&"base-1 installs biz1:2".to_owned()), "{out:?}");
}

#[test]
fn the_node_tells_in_steps_what_is_used_and_is_not_written_for_each_class() {
    let mut scene = Scene::of(&[BASE]);
    passes(&mut scene, 60, 100, Some(256));
    let message = |scene: &Scene| pressure(scene)["message"].as_str().unwrap().to_owned();
    assert_eq!(message(&scene), "about 40 % of 256 MiB of metaspace are used");
    let writes: usize = (101..=200).map(|used| writes_after(&mut scene, used)).sum();
    assert_eq!(writes, 3, "50, 60 and 70 %");
    assert_eq!(message(&scene), "about 70 % of 256 MiB of metaspace are used");
    scene.restart();
    scene.beats(BASE);
    scene.settle();
    assert_eq!(writes_after(&mut scene, 196), 0);
}
