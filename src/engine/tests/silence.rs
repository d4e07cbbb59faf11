//! Bases that are silent, flap, or cannot be asked.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    domain::{BaseId, Command, Reachability},
    planning::Effect,
    tunnel::{Event, Health, Message},
};

/// So many seconds, in which the broker lives.
fn pass_seconds(scene: &mut Scene, seconds: u32, mut each: impl FnMut(&mut Scene)) {
    for _ in 0..seconds {
        scene.pass(Duration::from_secs(1));
        scene.state.tunnel(Event::Alive, scene.now);
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
fn a_base_whose_questions_find_no_room_is_not_given_up_for_its_silence_and_not_asked_in_a_loop() {
    let mut scene = Scene::of(&["base-1"]);
    for _ in 0..60 {
        scene.pass(Duration::from_secs(1));
        scene.link(Event::Alive);
        scene.fill_commands();
        scene.settle();
        assert!(scene.state.dirty.is_empty(), "it is looked at later");
    }
    assert_eq!(reachability(&scene, "base-1"), Reachability::Online);
    scene.sent.clear();
    for _ in 0..10 {
        scene.pass(Duration::from_secs(1));
        scene.link(Event::Alive);
        scene.settle();
    }
    assert!(scene.sent.iter().any(|(base, command)| base == "base-1" && *command == Command::QueryHealth));
    assert_eq!(reachability(&scene, "base-1"), Reachability::Unreachable);
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

/// A base may ask for its baseline before its first heartbeat: it has no Node then.
#[test]
fn that_a_base_answers_is_said_of_its_node_once_it_has_said_who_it_is() {
    let (mut scene, base) = (Scene::of(&[]), BaseId::new("base-1"));
    let said = |scene: &mut Scene| {
        let mut effects = Vec::new();
        scene.state.plan_base(&base, scene.now, &mut effects);
        let notes = effects.into_iter().filter_map(|effect| match effect {
            Effect::Note(note) => Some(note.reason),
            _ => None,
        });
        notes.collect::<Vec<_>>()
    };
    scene.say("base-1", Message::QueryBaseline(None));
    assert_eq!(said(&mut scene), Vec::<&str>::new());
    scene.beats("base-1");
    assert_eq!(said(&mut scene), ["BaseReady"]);
    assert_eq!(said(&mut scene), Vec::<&str>::new(), "once");
}

#[test]
fn bases_that_came_at_moments_of_their_own_are_asked_and_renewed_together() {
    let mut scene = Scene::of(&[]);
    let bases: Vec<_> = (0..12).map(|number| format!("base-{number}")).collect();
    for base in &bases {
        scene.pass(Duration::from_millis(337));
        scene.registers(base);
        scene.settle();
    }
    let (from, mut looks, mut asked) = (scene.now, Vec::new(), 0);
    while scene.now < from + Duration::from_secs(60) {
        scene.now = scene.state.schedule.next().unwrap();
        looks.push(scene.now);
        scene.link(Event::Alive);
        scene.step();
        for (base, command) in std::mem::take(&mut scene.sent) {
            asked += 1;
            if command == Command::QueryModules {
                scene.lists(&base, &[]);
            } else {
                scene.say(&base, Message::Health(Health { java_version: Some("17".to_owned()), ..Health::default() }));
            }
            scene.settle();
        }
    }
    assert!(asked >= 48, "{asked} questions");
    let since_first = looks.iter().map(|at| at.saturating_duration_since(looks[0]));
    let odd: Vec<_> = since_first.filter(|since| !since.as_millis().is_multiple_of(100)).collect();
    // What came to be wanted within the second before is not put off.
    assert!(odd.len() * 20 <= looks.len(), "{odd:?} of {}", looks.len());
}

#[test]
fn heartbeats_that_say_nothing_new_are_not_decided_on() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("p1", "base-1", "biz1:1", None);
    let mut decided = 0;
    pass_seconds(&mut scene, 60, |scene| {
        let asked = !scene.state.bases[&BaseId::new("base-1")].base.liveness.is_at_rest();
        scene.beats("base-1");
        assert_eq!(!scene.state.dirty.is_empty(), asked, "an answer to a question is something new");
        decided += scene.state.dirty.len();
    });
    assert!(decided < 5, "{decided} of 60");
    // One that says something new is, and so is one that ends a silence, goes away or comes back.
    scene.beats_from("base-1", "192.0.2.7", false);
    assert_eq!(scene.state.dirty.len(), 1, "another address");
    scene.settle();
    scene.beats_at("base-1", Err(crate::tunnel::AddressError::NotAnAddress("nowhere".to_owned())));
    assert_eq!(scene.state.dirty.len(), 1, "what is no address");
    scene.settle();
    scene.says_goodbye("base-1");
    assert_eq!(scene.state.dirty.len(), 1, "it goes away");
    scene.settle();
    scene.beats_from("base-1", "192.0.2.7", false);
    assert_eq!(scene.state.dirty.len(), 1, "it is back");
    scene.settle();
    // It is asked in time after the last of them, and given up in time.
    scene.sent.clear();
    pass_seconds(&mut scene, 40, |_| ());
    assert_eq!(reachability(&scene, "base-1"), Reachability::Unreachable);
    scene.beats_from("base-1", "192.0.2.7", false);
    assert_eq!(scene.state.dirty.len(), 1, "its silence ends");
    scene.settle();
    assert_eq!(reachability(&scene, "base-1"), Reachability::Online);
}
