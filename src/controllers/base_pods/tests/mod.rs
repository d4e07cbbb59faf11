//! When a base's own Pod is complete, and who may say so.

mod world;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Modules, SETTLES};
use crate::{api::WriteError, k8s::names};
use world::{HERE, SECOND, World, at, base_pod, complete, modules};

#[test]
fn it_says_what_is_missing_at_once_and_that_nothing_is_when_that_lasts() {
    let mut world = World::of(base_pod());
    assert_eq!(world.pass(10 * SECOND), 0, "its base has not registered");
    world.base("b", at(HERE.0, HERE.1, false), modules(0, &[]));
    assert_eq!(world.pass(10 * SECOND), 0, "it has not said what it runs");
    world.base("b", at(HERE.0, HERE.1, true), modules(5, &["default/biz2-y", "default/biz1-x"]));
    assert_eq!(world.pass(SECOND), 1);
    let says = "2 of 5 module Pods are not Ready: default/biz1-x, default/biz2-y";
    assert_eq!(world.says(), Some(("False", "ModulesNotReady", says)));
    world.base("b", at(HERE.0, HERE.1, true), modules(5, &[]));
    assert_eq!(world.pass(4 * SECOND), 0);
    world.base("b", at(HERE.0, HERE.1, true), modules(6, &[]));
    assert_eq!(world.pass(4 * SECOND), 0, "another one has come: it begins anew");
    assert_eq!(world.pass(2 * SECOND), 1);
    assert_eq!(world.says().unwrap().0, "True");
    assert_eq!(world.pod["status"]["conditions"].as_array().unwrap().len(), 2, "the kubelet's are as they were");
    world.base("b", at(HERE.0, HERE.1, true), modules(7, &[]));
    assert_eq!(world.pass(60 * SECOND), 0, "more of them is no news");
}

#[test]
fn a_base_without_modules_is_complete() {
    let mut world = World::of(base_pod());
    world.base("b", at(HERE.0, HERE.1, true), modules(0, &[]));
    assert_eq!(world.pass(SETTLES + SECOND), 1);
    assert_eq!(world.says().unwrap().0, "True");
}

#[test]
fn what_is_missing_for_a_moment_changes_nothing_and_a_base_that_is_away_neither() {
    let mut world = World::of(base_pod());
    world.base("b", at(HERE.0, HERE.1, true), modules(1, &[]));
    world.pass(SETTLES + SECOND);
    world.base("b", at(HERE.0, HERE.1, true), modules(2, &["default/new"]));
    assert_eq!(world.pass(4 * SECOND), 0);
    world.base("b", at(HERE.0, HERE.1, false), modules(2, &["default/new", "default/old"]));
    assert_eq!(world.pass(600 * SECOND), 0);
    assert_eq!(world.says().unwrap().0, "True");
    world.base("b", at(HERE.0, HERE.1, true), modules(2, &["default/new"]));
    assert_eq!(world.pass(SETTLES + SECOND), 1);
    assert_eq!(world.says().unwrap().0, "False");
}

#[test]
fn modules_of_the_baseline_that_have_no_pod_yet_are_waited_for_but_do_not_take_it_back() {
    let mut world = World::of(base_pod());
    let waits = Modules { to_come: vec!["biz1".into()], ..modules(0, &[]) };
    world.base("b", at(HERE.0, HERE.1, true), waits.clone());
    assert_eq!(world.pass(20 * SECOND), 1);
    let says = "modules of its baseline have no Pod yet: biz1";
    assert_eq!(world.says(), Some(("False", "ModulesToCome", says)));
    // Nothing tells that it is not waited for any more.
    world.bases.get_mut("b").unwrap().1 = modules(0, &[]);
    assert_eq!(world.pass(2 * SETTLES + SECOND), 1);
    world.base("b", at(HERE.0, HERE.1, true), waits);
    assert_eq!(world.pass(60 * SECOND), 0);
}

#[test]
fn whoever_lies_about_name_or_address_changes_nothing_and_of_two_in_one_pod_both_count() {
    let mut world = World::of(base_pod());
    world.base("forged", at(HERE.0, "198.51.100.1", true), modules(0, &[]));
    world.base("other", at("base-1", HERE.1, true), modules(0, &[]));
    assert_eq!(world.pass(30 * SECOND), 0);
    world.base("b", at(HERE.0, HERE.1, true), modules(1, &["default/biz1"]));
    world.base("before", at(HERE.0, HERE.1, true), modules(1, &[]));
    world.pass(30 * SECOND);
    assert_eq!(world.says().unwrap().2, "1 of 2 module Pods are not Ready: default/biz1");
    world.base("b", at(HERE.0, HERE.1, true), modules(1, &[]));
    world.base("before", at(HERE.0, HERE.1, false), modules(1, &["default/old"]));
    world.pass(30 * SECOND);
    assert_eq!(world.says().unwrap().0, "True", "the JVM before is away");
    world.bases.get_mut("b").unwrap().0 = at(HERE.0, "198.51.100.1", true);
    world.base("b", at(HERE.0, "198.51.100.1", true), modules(1, &["default/biz1"]));
    assert_eq!(world.pass(30 * SECOND), 0, "it is somewhere else now");
}

#[test]
fn only_pods_that_ask_in_namespaces_that_are_listed_are_bases_own() {
    let changed = |path: &str, value: Value| {
        let mut pod = base_pod();
        *pod.pointer_mut(path).unwrap() = value;
        pod
    };
    let mut a_module = base_pod();
    a_module["metadata"]["labels"] = json!({ names::COMPONENT: "module" });
    let mut going = base_pod();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for pod in [
        changed("/metadata/namespace", json!("others")),
        changed("/spec/readinessGates", json!([{ "conditionType": "example.com/other" }])),
        changed("/spec/readinessGates", Value::Null),
        changed("/status/podIP", Value::Null),
        changed("/status/phase", json!("Failed")),
        a_module,
        going,
    ] {
        let mut world = World::of(pod.clone());
        world.base("b", at(HERE.0, HERE.1, true), modules(0, &[]));
        assert_eq!(world.pass(30 * SECOND), 0, "{pod}");
        assert!(world.pods.by_uid.is_empty(), "{pod}");
    }
}

#[test]
fn a_pod_that_comes_after_its_base_is_found_and_one_that_is_gone_is_forgotten() {
    let mut world = World::of(base_pod());
    world.pods.gone(&Arc::from("u1"));
    world.base("b", at(HERE.0, HERE.1, true), modules(0, &[]));
    assert_eq!(world.pass(30 * SECOND), 0);
    world.shows();
    assert_eq!(world.pass(30 * SECOND), 1);
    world.pod["metadata"]["uid"] = json!("u2");
    world.shows();
    world.pods.gone(&Arc::from("u1"));
    assert_eq!((world.pods.by_uid.len(), world.pods.by_place.len()), (1, 1), "the same name and address, another Pod");
    world.pod["status"]["podIP"] = json!("192.0.2.8");
    world.shows();
    assert_eq!((world.pods.by_uid.len(), world.pods.by_place.len()), (1, 1));
}

#[test]
fn a_message_names_some_and_says_how_many_more_there_are() {
    let names: Vec<_> = (0..25).map(|number| format!("default/biz-{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::of(base_pod());
    world.base("b", at(HERE.0, HERE.1, true), modules(30, &names));
    world.pass(SECOND);
    let (_, _, message) = world.says().unwrap();
    assert!(message.starts_with("25 of 30 module Pods are not Ready: default/biz-00, "), "{message}");
    assert!(message.ends_with("default/biz-09 and 15 more"), "{message}");
}

#[test]
fn what_is_refused_is_tried_again_ever_more_seldom() {
    let mut world = World::of(base_pod());
    world.base("b", at(HERE.0, HERE.1, true), modules(1, &["default/biz1"]));
    let mut tries = 0;
    for _ in 0..600 * 4 {
        world.now += SECOND / 4;
        for _ in world.plan() {
            tries += 1;
            world.end(Err(WriteError::Refused { code: 403, message: "forbidden".to_owned() }));
        }
    }
    assert!((3..=50).contains(&tries), "{tries} in ten minutes");
}

#[test]
fn more_than_the_bound_are_not_kept() {
    let mut world = World::of(base_pod());
    for number in 0..super::MOST + 10 {
        world.pod["metadata"]["uid"] = json!(format!("u{number}"));
        world.pod["metadata"]["name"] = json!(format!("base-{number}"));
        world.shows();
    }
    assert_eq!((world.pods.by_uid.len(), world.pods.by_place.len()), (super::MOST, super::MOST));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in between: in the end it is True exactly where nothing is missing of any base that answers here,
    /// and it becomes True only while that is so.
    #[test]
    fn in_the_end_it_says_what_is_so(
        steps in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>(), 0usize..3, 0u32..9, any::<bool>()), 1..25)
    ) {
        let mut world = World::of(base_pod());
        let mut was_true = false;
        for (base, here, answers, missing, seconds, relists) in steps {
            let id = ["a", "b", "c"][base];
            let claim = at(HERE.0, if here { HERE.1 } else { "198.51.100.1" }, answers);
            world.base(id, claim, modules(3, &["x/1", "x/2", "x/3"][..missing]));
            if relists {
                world.shows();
            }
            world.pass(seconds * SECOND);
            let found = complete(&world);
            let is_true = world.says().is_some_and(|says| says.0 == "True");
            prop_assert!(was_true || !is_true || found == Some(true), "became True though it is {found:?}");
            was_true = is_true;
        }
        for id in ["a", "b", "c"] {
            world.touch(id);
        }
        world.pass(120 * SECOND);
        if let Some(found) = complete(&world) {
            prop_assert_eq!(world.says().is_some_and(|says| says.0 == "True"), found);
        }
        let before = world.pod.clone();
        for id in ["a", "b", "c"] {
            world.touch(id);
        }
        prop_assert_eq!(world.pass(60 * SECOND), 0);
        prop_assert_eq!(before, world.pod);
    }
}
