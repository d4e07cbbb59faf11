//! Whatever the API server and the broker lose, and whenever the process dies: what is ordered is on record, and in the
//! end every base has the modules of its Pods and no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::json;

use super::scene::Scene;
use crate::{
    domain::{Command, ModuleState},
    tunnel::{Health, Message},
};

const BASES: [&str; 3] = ["base-1", "base-2", "base-3"];
const MODULES: [&str; 3] = ["biz1:1", "biz2:1", "biz3:1"];

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
        4 => (0..3usize, 0..3usize).prop_map(|(base, module)| Step::AddPod { base, module }),
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
    bases: BTreeMap<&'static str, BTreeSet<String>>,
    pods: u32,
}

impl Cluster {
    fn new() -> Self {
        Self { scene: Scene::of(&BASES), bases: BASES.map(|base| (base, BTreeSet::new())).into(), pods: 0 }
    }

    fn pods(&self) -> Vec<String> {
        self.scene.objects.keys().filter(|name| name.starts_with("pod-")).cloned().collect()
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
                self.scene.pod(&format!("pod-{}", self.pods), BASES[*base], MODULES[*module], None);
            }
            Step::DeletePod(number) => {
                if let Some(pod) = some_pod(*number) {
                    let metadata = &mut self.scene.objects.get_mut(&pod).unwrap()["metadata"];
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
                let all: Vec<_> = self.scene.objects.keys().cloned().collect();
                if !all.is_empty() {
                    self.scene.show(&all[number % all.len()]);
                }
            }
            Step::DeliverCommand => self.deliver(),
            Step::LoseCommand => drop(self.scene.sent.pop_front()),
            Step::Restart => self.scene.restart(),
            Step::Wait(ms) => self.wait(Duration::from_millis(*ms)),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.scene.pass(time);
        BASES.iter().for_each(|base| self.scene.beats(base));
    }

    fn deliver(&mut self) {
        let Some((base, command)) = self.scene.sent.pop_front() else { return };
        let modules = self.bases.get_mut(base.as_str()).unwrap();
        match &command {
            Command::Install(spec, _) => drop(modules.insert(spec.id.to_string())),
            Command::Uninstall(id) => drop(modules.remove(&id.to_string())),
            Command::QueryModules => {
                let list: Vec<_> = modules.iter().map(|module| (module.as_str(), ModuleState::Activated)).collect();
                return self.scene.lists(&base, &list);
            }
            Command::QueryHealth => return self.scene.say(&base, Message::Health(Health::default())),
            Command::Baseline(_) => unreachable!("no base asks"),
        }
        match &command {
            Command::Install(spec, _) => self.scene.done(&base, "installBiz", &spec.id.to_string()),
            Command::Uninstall(id) => self.scene.done(&base, "uninstallBiz", &id.to_string()),
            _ => {}
        }
    }

    /// Without faults.
    fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for _ in 0..10 {
                self.scene.step();
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
}

proptest! {
    #[test]
    fn every_base_ends_with_the_modules_of_its_pods_and_no_others(steps in prop::collection::vec(step(), 1..80)) {
        let mut cluster = Cluster::new();
        for step in &steps {
            cluster.take(step);
        }
        // The last fault is over: what was written is shown.
        let all: Vec<_> = cluster.scene.objects.keys().cloned().collect();
        all.iter().for_each(|object| cluster.scene.show(object));
        cluster.run_for(150);

        let mut wanted: BTreeMap<_, _> = BASES.map(|base| (base, BTreeSet::new())).into();
        for pod in cluster.pods() {
            let pod = &cluster.scene.objects[&pod];
            let base = BASES.into_iter().find(|base| pod["spec"]["nodeName"] == format!("vnode.{base}.dev")).unwrap();
            let module = format!("{}:1", pod["spec"]["containers"][0]["name"].as_str().unwrap());
            prop_assert!(pod["metadata"]["deletionTimestamp"].is_null(), "still there: {pod}");
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.filter(|c| c["type"] == "Ready").any(|c| c["status"] == "True");
            prop_assert!(ready && pod["status"]["phase"] == "Running", "not Ready: {pod}");
            wanted.get_mut(base).unwrap().insert(module);
        }
        prop_assert_eq!(&cluster.bases, &wanted);
    }
}
