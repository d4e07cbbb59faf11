//! The scene with bases that do what they are told.

mod faults;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};

use super::scene::Scene;
use crate::{
    domain::{
        ModuleId,
        tests::jvm::{FromBase, Jvm, Mode},
    },
    tunnel::{Event, Health, Message},
};

pub(crate) const BASES: [&str; 3] = ["base-1", "base-2", "base-3"];
/// Modules of bare Pods, and with their `ReplicaSet` those of a Deployment, whose versions are its revisions.
pub(crate) const MODULES: [(&str, Option<&str>); 6] = [
    ("biz1:1", None),
    ("biz1:2", None),
    ("biz2:1", None),
    ("biz3:1", Some("rs1")),
    ("biz3:2", Some("rs2")),
    ("biz3:3", Some("rs3")),
];
/// Time passes in steps of this.
const TICK: Duration = Duration::from_secs(5);

/// A base.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Here {
    pub(crate) jvm: Jvm,
    pub(crate) ip: String,
    /// The number of its JVM: Java's version and the limit of metaspace follow it.
    pub(crate) life: u64,
    /// It has answered the health question: only from then on its health tells of the JVM.
    started: bool,
    /// It hears nothing and says nothing.
    pub(crate) silent: bool,
    /// It has said that it goes away.
    pub(crate) stopped: bool,
    /// It answers, but beats no more, as real ones after an outage of their broker.
    pub(crate) heartless: bool,
    /// Modules that nobody remembers: see [`Cluster::forget_what_nothing_names`].
    pub(crate) strays: BTreeSet<ModuleId>,
}

impl Here {
    pub(crate) fn java(&self) -> String {
        format!("17.0.{}", self.life)
    }

    pub(crate) fn metaspace(&self) -> u64 {
        (100 + self.life) << 20
    }

    fn health(&mut self) -> Health {
        let known = std::mem::replace(&mut self.started, true);
        let java_version = known.then(|| self.java());
        Health {
            used_metaspace: known.then(|| self.metaspace() / 2),
            max_metaspace: known.then(|| self.metaspace()),
            java_version,
            master: Some(("app".into(), "1".into())),
            ..Health::default()
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) scene: Scene,
    pub(crate) bases: BTreeMap<&'static str, Here>,
    /// Answers on their way from their bases.
    answers: VecDeque<(String, Message)>,
    pub(crate) connected: bool,
    pods: u32,
}

impl Cluster {
    pub(crate) fn new(mode: Mode) -> Self {
        let here = |base| {
            let jvm = Jvm::new(mode);
            let ip = "192.0.2.1".to_owned();
            (
                base,
                Here {
                    jvm,
                    ip,
                    life: 1,
                    started: false,
                    silent: false,
                    stopped: false,
                    heartless: false,
                    strays: BTreeSet::new(),
                },
            )
        };
        let (bases, answers) = (BASES.map(here).into(), VecDeque::new());
        let mut cluster = Self { scene: Scene::of(&BASES), bases, answers, connected: true, pods: 0 };
        cluster.watch_replica_sets();
        cluster
    }

    fn watch_replica_sets(&mut self) {
        for (set, revision) in [("rs1", 1), ("rs2", 2), ("rs3", 3)] {
            self.scene.replica_set(set, revision);
        }
    }

    pub(crate) fn pods(&self) -> Vec<String> {
        self.scene.api.objects.keys().filter(|name| name.starts_with("pod-")).cloned().collect()
    }

    pub(crate) fn some_pod(&self, number: usize) -> Option<String> {
        let pods = self.pods();
        (!pods.is_empty()).then(|| pods[number % pods.len()].clone())
    }

    pub(crate) fn add_pod(&mut self, base: usize, module: usize) {
        self.pods += 1;
        let (module, owner) = MODULES[module];
        let pod = format!("pod-{}", self.pods);
        self.scene.pod(&pod, BASES[base], module, owner);
        if owner.is_none() && self.pods.is_multiple_of(3) {
            // What has ended in such a Pod never begins again.
            self.scene.api.edit(&pod, |pod| pod["spec"]["restartPolicy"] = json!("Never"));
            self.scene.show(&pod);
        }
    }

    /// Somebody deletes the Pod: one that has ended is gone at once.
    pub(crate) fn delete_pod(&mut self, pod: &str) {
        let object = &self.scene.api.objects[pod];
        if object["status"]["phase"] == "Failed" && object["metadata"]["finalizers"].is_null() {
            return self.scene.remove(pod);
        }
        self.scene.api.edit(pod, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        });
        self.scene.show(pod);
    }

    /// Does it to one of the open writes, if there is any.
    pub(crate) fn with_open(&mut self, number: usize, act: impl Fn(&mut Scene, &str)) {
        let open = &self.scene.open;
        if !open.is_empty() {
            let what = open[number % open.len()].0.clone();
            act(&mut self.scene, &what);
        }
    }

    /// It arrives, if there is a way.
    fn say(&mut self, base: &str, message: Message) {
        if self.connected && !self.bases[base].silent {
            self.scene.say(base, message);
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.scene.pass(time);
        if !self.connected {
            return;
        }
        self.scene.link(Event::Alive);
        for (base, here) in &self.bases {
            if !here.silent && !here.stopped && !here.heartless {
                self.scene.beats_from(base, &here.ip, false);
            }
        }
    }

    /// The oldest command reaches its base, and the answer sets off.
    pub(crate) fn deliver_command(&mut self) {
        let Some((base, command)) = self.scene.sent.pop_front() else { return };
        let here = self.bases.get_mut(base.as_str()).unwrap();
        if !self.connected || here.silent {
            return;
        }
        let message = match here.jvm.handle(&command) {
            FromBase::List(modules) => Message::Modules(modules),
            FromBase::Reply(reply) => Message::Reply(reply),
            FromBase::AlsoAlive => Message::Health(here.health()),
        };
        self.answers.push_back((base, message));
    }

    /// One of the answers arrives.
    pub(crate) fn deliver_answer(&mut self, number: usize, twice: bool) {
        if self.answers.is_empty() {
            return;
        }
        let Some((base, message)) = self.answers.remove(number % self.answers.len()) else { return };
        if twice {
            self.say(&base, message.clone());
        }
        self.say(&base, message);
    }

    /// Everything that is not silent works. Returns all that went out, but for Leases and questions.
    pub(crate) fn run_for(&mut self, time: Duration) -> Vec<String> {
        let (mut all, end) = (Vec::new(), self.scene.now + time);
        while self.scene.now < end {
            for round in 0.. {
                assert!(round < 50, "it does not come to rest: {:?}", &all[all.len().saturating_sub(20)..]);
                all.extend(self.scene.step());
                if self.scene.sent.is_empty() && self.answers.is_empty() && self.scene.open.is_empty() {
                    break;
                }
                while !self.scene.sent.is_empty() {
                    self.deliver_command();
                }
                while !self.answers.is_empty() {
                    self.deliver_answer(0, false);
                }
                while !self.scene.open.is_empty() {
                    self.with_open(0, Scene::answer);
                }
            }
            self.wait(TICK);
        }
        all
    }

    /// What is wanted on the base by Pods that have not failed.
    pub(crate) fn live(&self, base: &str) -> Vec<(ModuleId, &Value)> {
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

pub(crate) fn is_ready(object: &Value) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}
