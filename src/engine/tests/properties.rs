//! Whatever the API server and the broker lose, and whenever the process dies: what is ordered is on record, and in the
//! end every base has the modules of its Pods and no others, and the Pods say so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::{
    domain::{
        ModuleId, ModuleState, Reason,
        tests::world::{FromBase, Jvm, Mode},
    },
    tunnel::{Health, Message},
};

const BASES: [&str; 3] = ["base-1", "base-2", "base-3"];
/// Modules of bare Pods, and with their `ReplicaSet` those of a Deployment, whose versions are its revisions.
const MODULES: [(&str, Option<&str>); 6] = [
    ("biz1:1", None),
    ("biz1:2", None),
    ("biz2:1", None),
    ("biz3:1", Some("rs1")),
    ("biz3:2", Some("rs2")),
    ("biz3:3", Some("rs3")),
];

#[derive(Clone, Debug)]
enum Step {
    AddPod { base: usize, module: usize },
    DeletePod(usize),
    ForceDeletePod(usize),
    Decide,
    Answer(usize),
    AnswerWithoutWatch(usize),
    Fail(usize),
    LoseAnswer(usize),
    Show(usize),
    DeliverCommand,
    LoseCommand,
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..BASES.len(), 0..MODULES.len()).prop_map(|(base, module)| Step::AddPod { base, module }),
        2 => any::<usize>().prop_map(Step::DeletePod),
        2 => any::<usize>().prop_map(Step::ForceDeletePod),
        12 => Just(Step::Decide),
        6 => any::<usize>().prop_map(Step::Answer),
        3 => any::<usize>().prop_map(Step::AnswerWithoutWatch),
        2 => any::<usize>().prop_map(Step::Fail),
        2 => any::<usize>().prop_map(Step::LoseAnswer),
        3 => any::<usize>().prop_map(Step::Show),
        8 => Just(Step::DeliverCommand),
        1 => Just(Step::LoseCommand),
        1 => Just(Step::Restart),
        3 => (1..9_000u64).prop_map(Step::Wait),
    ]
}

/// The scene with bases that do what they are told.
struct Cluster {
    scene: Scene,
    bases: BTreeMap<&'static str, Jvm>,
    pods: u32,
}

impl Cluster {
    fn new(mode: Mode) -> Self {
        let mut cluster =
            Self { scene: Scene::of(&BASES), bases: BASES.map(|base| (base, Jvm::new(mode))).into(), pods: 0 };
        cluster.watch_replica_sets();
        cluster
    }

    fn watch_replica_sets(&mut self) {
        for (set, revision) in [("rs1", 1), ("rs2", 2), ("rs3", 3)] {
            self.scene.replica_set(set, revision);
        }
    }

    fn pods(&self) -> Vec<String> {
        self.scene.api.objects.keys().filter(|name| name.starts_with("pod-")).cloned().collect()
    }

    /// Does it to one of them, if there is any.
    fn with_open(&mut self, number: usize, act: impl Fn(&mut Scene, &str)) {
        let open = &self.scene.open;
        if !open.is_empty() {
            let what = open[number % open.len()].0.clone();
            act(&mut self.scene, &what);
        }
    }

    fn take(&mut self, step: &Step) {
        let pods = self.pods();
        let some_pod = |number: usize| (!pods.is_empty()).then(|| pods[number % pods.len()].clone());
        match step {
            Step::AddPod { base, module } => {
                self.pods += 1;
                let (module, owner) = MODULES[*module];
                self.scene.pod(&format!("pod-{}", self.pods), BASES[*base], module, owner);
            }
            Step::DeletePod(number) => {
                if let Some(pod) = some_pod(*number) {
                    let metadata = &mut self.scene.api.objects.get_mut(&pod).unwrap()["metadata"];
                    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
                    metadata["deletionGracePeriodSeconds"] = json!(30);
                    self.scene.show(&pod);
                }
            }
            Step::ForceDeletePod(number) => {
                if let Some(pod) = some_pod(*number) {
                    self.scene.remove(&pod);
                }
            }
            Step::Decide => drop(self.scene.step()),
            Step::Answer(number) => self.with_open(*number, Scene::answer),
            Step::AnswerWithoutWatch(number) => self.with_open(*number, |scene, what| drop(scene.accept(what))),
            Step::Fail(number) => self.with_open(*number, Scene::fail),
            Step::LoseAnswer(number) => self.with_open(*number, Scene::lose_answer),
            Step::Show(number) => {
                let all: Vec<_> = self.scene.api.objects.keys().cloned().collect();
                if !all.is_empty() {
                    self.scene.show(&all[number % all.len()]);
                }
            }
            Step::DeliverCommand => self.deliver(),
            Step::LoseCommand => drop(self.scene.sent.pop_front()),
            Step::Restart => {
                self.scene.restart();
                self.watch_replica_sets();
            }
            Step::Wait(ms) => self.wait(Duration::from_millis(*ms)),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.scene.pass(time);
        BASES.iter().for_each(|base| self.scene.beats(base));
    }

    fn deliver(&mut self) {
        let Some((base, command)) = self.scene.sent.pop_front() else { return };
        let message = match self.bases.get_mut(base.as_str()).unwrap().handle(&command) {
            FromBase::List(modules) => Message::Modules(modules),
            FromBase::Reply(reply) => Message::Reply(reply),
            FromBase::AlsoAlive => Message::Health(Health::default()),
        };
        self.scene.say(&base, message);
    }

    /// Without faults.
    fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            loop {
                self.scene.step();
                if self.scene.sent.is_empty() && self.scene.open.is_empty() {
                    break;
                }
                while !self.scene.sent.is_empty() {
                    self.deliver();
                }
                while !self.scene.open.is_empty() {
                    self.with_open(0, Scene::answer);
                }
            }
            self.wait(Duration::from_secs(1));
        }
    }

    /// What is wanted on the base by Pods that have not failed.
    fn live(&self, base: &str) -> Vec<(ModuleId, &Value)> {
        let pods = self.pods().into_iter().map(|pod| &self.scene.api.objects[&pod]);
        let here = pods.filter(|pod| pod["spec"]["nodeName"] == format!("vnode.{base}.dev"));
        let live = here.filter(|pod| pod["status"]["phase"] != "Failed");
        let module = |pod: &Value| {
            let container = &pod["spec"]["containers"][0];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            ModuleId::new(text(&container["name"]), text(&container["env"][0]["value"]))
        };
        live.map(|pod| (module(pod), pod)).collect()
    }
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Default), Just(Mode::ActivateNew), Just(Mode::MultiActive)]
}

proptest! {
    #[test]
    fn every_base_ends_with_the_modules_of_its_pods_and_no_others(
        mode in mode(), steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut cluster = Cluster::new(mode);
        for step in &steps {
            cluster.take(step);
        }
        // The last fault is over: what was written is shown.
        let all: Vec<_> = cluster.scene.api.objects.keys().cloned().collect();
        all.iter().for_each(|object| cluster.scene.show(object));
        cluster.run_for(400);

        for (base, jvm) in &cluster.bases {
            let live = cluster.live(base);
            for (module, pod) in &live {
                prop_assert!(pod["metadata"]["deletionTimestamp"].is_null(), "every deletion completes: {pod}");
                let active = jvm.list.get(module) == Some(&ModuleState::Activated);
                prop_assert_eq!(is_ready(pod), active, "{} on {}: {}", module, base, pod);
                let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
                prop_assert!(active || *waiting == Reason::Held.as_str(), "{module} on {base}: {pod}");
            }
            let wanted: BTreeSet<_> = live.iter().map(|(module, _)| module).collect();
            let names = |modules: &BTreeSet<&ModuleId>| modules.iter().map(|m| m.name.clone()).collect::<BTreeSet<_>>();
            let serving = jvm.list.iter().filter(|(_, state)| **state == ModuleState::Activated).map(|(id, _)| id);
            let serving: BTreeSet<_> = serving.collect();
            prop_assert_eq!(names(&wanted), names(&serving), "{}: wanted {:?}, serving {:?}", base, wanted, serving);
            prop_assert!(serving.is_subset(&wanted), "{base}: wanted {wanted:?}, serving {serving:?}");
            prop_assert_eq!(jvm.list.len(), serving.len(), "left behind on {}: {:?}", base, jvm.list);
        }
    }
}
