//! A cluster of one base's Pod, with bases that claim it and modules that come, fail and go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BasePodFacts, BasePods, Claim, Modules, SETTLES};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, PodUid},
    k8s::names,
    planning::{Effect, Schedule, Task},
};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    pods: BasePods,
    schedule: Schedule,
    now: Instant,
    pod: Value,
    bases: BTreeMap<&'static str, (Claim, Modules)>,
    version: u64,
}

fn base_pod() -> Value {
    json!({
        "metadata": { "name": "base-0", "namespace": "bases", "uid": "u1", "resourceVersion": "1" },
        "spec": { "nodeName": "machine", "containers": [], "readinessGates": [{ "conditionType": names::MODULES_READY }] },
        "status": { "phase": "Running", "podIP": "192.0.2.7", "conditions": [{ "type": "Ready", "status": "False" }] },
    })
}

fn at(host: &str, address: &str, answers: bool) -> Claim {
    Claim { host: host.into(), address: address.into(), answers }
}

fn modules(total: usize, missing: &[&str]) -> Modules {
    Modules { total, missing: missing.iter().map(|name| Arc::from(*name)).collect(), to_come: Vec::new() }
}

impl World {
    fn of(pod: Value) -> Self {
        let (pods, schedule) = (BasePods::of(&["bases".to_owned()]), Schedule::default());
        let mut world = Self { pods, schedule, now: Instant::now(), pod, bases: BTreeMap::new(), version: 1 };
        world.shows();
        world
    }

    fn shows(&mut self) {
        let pod: Pod = serde_json::from_value(self.pod.clone()).unwrap();
        self.pods.seen(&pod, self.now, &mut self.schedule);
    }

    fn base(&mut self, id: &'static str, claim: Claim, modules: Modules) {
        self.bases.insert(id, (claim, modules));
        self.touch(id);
    }

    fn touch(&mut self, id: &'static str) {
        self.pods.touched([BaseId::new(id)].iter(), self.now, &mut self.schedule);
    }

    fn plan(&mut self) -> Vec<(PodUid, Request)> {
        let mut out = Vec::new();
        while self.schedule.due(self.now) == Some(Task::BasePods) {
            if self.pods.asks_for_all() {
                let all: Vec<_> = self.bases.keys().map(|id| BaseId::new(*id)).collect();
                self.pods.touched(all.iter(), self.now, &mut self.schedule);
            }
            let bases = &self.bases;
            let facts = BasePodFacts {
                claim_of: &|base| bases.get(base.as_str()).map(|(claim, _)| claim.clone()),
                modules_of: &|base, more| {
                    let mut found = bases.get(base.as_str()).map(|(_, modules)| modules.clone()).unwrap();
                    found.to_come.retain(|_| more);
                    found
                },
                wall: Timestamp::UNIX_EPOCH,
            };
            self.pods.plan(&facts, self.now, &mut self.schedule, &mut out);
        }
        let write = |effect| match effect {
            Effect::Write(_, Key::BasePod(uid), request) => (uid, request),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(write).collect()
    }

    fn end(&mut self, result: Result<Outcome, WriteError>) {
        self.pods.written(&Arc::from("u1"), result, self.now, &mut self.schedule);
    }

    fn accept(&mut self, request: &Request) {
        let (_, path, how) = request.target();
        assert_eq!(path, "/api/v1/namespaces/bases/pods/base-0/status");
        assert_eq!(how, "application/strategic-merge-patch+json");
        crate::k8s::merge::strategic_merge(&mut self.pod, &request.body());
        self.version += 1;
        self.pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.end(Ok(Outcome { resource_version: self.version }));
        self.shows();
    }

    /// Time passes, and what is written is taken. Returns how often that was.
    fn pass(&mut self, time: Duration) -> usize {
        let (until, mut writes) = (self.now + time, 0);
        while self.now < until {
            self.now += SECOND / 4;
            for (_, request) in self.plan() {
                self.accept(&request);
                writes += 1;
            }
        }
        writes
    }

    fn says(&self) -> Option<(&str, &str, &str)> {
        let all = self.pod["status"]["conditions"].as_array().unwrap();
        let ours = all.iter().find(|c| c["type"] == names::MODULES_READY)?;
        Some((ours["status"].as_str()?, ours["reason"].as_str()?, ours["message"].as_str()?))
    }
}

const HERE: (&str, &str) = ("base-0", "192.0.2.7");

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

/// None: nobody who answers is here.
fn complete(world: &World) -> Option<bool> {
    let here = world.bases.values().filter(|(claim, _)| claim.answers && *claim.address == *HERE.1);
    here.map(|(_, modules)| modules.missing.is_empty()).reduce(|all, one| all && one)
}
