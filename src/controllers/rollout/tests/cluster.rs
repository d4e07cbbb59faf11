//! Bases with the real decisions on them, a Deployment in miniature, and the release of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{
    super::{
        facts::{WorkloadFacts, WorkloadName},
        rollouts::Rollouts,
    },
    deployment::Deployment,
};
use crate::{
    api::{Key, Outcome, Request, Seen, WriteError},
    domain::{
        Base, BaseId, Command, ContainerHistory, ModuleId, ModuleState, PodOutcome, Settings,
        tests::jvm::{FromBase, Jvm, Mode},
    },
    k8s::rollout::{ModuleRollout, ModuleRolloutStatus},
    planning::{Effect, Schedule},
};

pub(super) const UID: &str = "deployment";

/// A base: what is known of it, and the JVM itself.
pub(super) struct Node {
    pub(super) id: BaseId,
    pub(super) base: Base,
    pub(super) jvm: Jvm,
    pub(super) to_base: VecDeque<Command>,
    /// Since when something is on its way, to it or from it.
    pub(super) busy_since: Option<Instant>,
    pub(super) from_base: VecDeque<FromBase>,
    pub(super) unwritten: VecDeque<PodOutcome>,
}

/// All of it.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) deployment: Deployment,
    pub(super) object: ModuleRollout,
    pub(super) version: u64,
    pub(super) rollouts: Rollouts,
    pub(super) schedule: Schedule,
    pub(super) writes: VecDeque<(Key, Request)>,
    /// The revision whose template the Deployment is to get back.
    pub(super) gives_back: Option<String>,
    pub(super) told: Vec<&'static str>,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) histories: BTreeMap<usize, ContainerHistory>,
    /// By version, bases that were ever told to install it.
    pub(super) touched: BTreeMap<String, Vec<usize>>,
    /// As few bases served as this at some moment, since all did.
    pub(super) fewest: usize,
    pub(super) was_full: bool,
}

impl Cluster {
    pub(super) fn new(bases: usize, surge: usize, unavailable: usize, spec: Value, seed: u64) -> Self {
        let now = Instant::now();
        let settings = Arc::new(Settings::default());
        let nodes = (0..bases).map(|number| {
            let id = BaseId::new(format!("base-{number:02}"));
            let mut base = Base::new(id.clone(), Arc::clone(&settings), now);
            base.health_answered(true);
            base.liveness.heard(now);
            let (to_base, from_base, unwritten) = Default::default();
            Node { id, base, jvm: Jvm::new(Mode::ActivateNew), busy_since: None, to_base, from_base, unwritten }
        });
        let object = json!({
            "metadata": { "name": "r", "namespace": "default", "uid": "rollout", "generation": 1, "resourceVersion": "1" },
            "spec": spec,
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            deployment: Deployment::new(bases, surge, unavailable, "1"),
            object: serde_json::from_value(object).unwrap(),
            version: 1,
            rollouts: Rollouts::default(),
            schedule: Schedule::default(),
            writes: VecDeque::new(),
            gives_back: None,
            told: Vec::new(),
            now,
            rng: Rng::with_seed(seed),
            histories: BTreeMap::new(),
            touched: BTreeMap::new(),
            fewest: bases,
            was_full: false,
        };
        cluster.begin();
        cluster
    }

    /// A process begins that knows what the API has and nothing else.
    pub(super) fn begin(&mut self) {
        (self.rollouts, self.schedule) = (Rollouts::default(), Schedule::default());
        self.writes.clear();
        self.gives_back = None;
        self.show();
        self.show_deployment();
        // As the engine does before the first base is told anything.
        self.looks();
    }

    pub(super) fn show_deployment(&mut self) {
        let (surge, unavailable) = (self.deployment.max_surge, self.deployment.max_unavailable);
        let object = json!({
            "metadata": { "name": "d", "namespace": "default", "uid": UID },
            "spec": {
                "replicas": self.deployment.replicas, "selector": {},
                "strategy": { "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } },
                "template": { "metadata": { "labels": { "virtual-kubelet.koupleless.io/component": "module" } } },
            },
        });
        let object = serde_json::from_value(object).unwrap();
        self.rollouts.deployment_seen(&Seen::Applied(object), self.now, &mut self.schedule);
    }

    fn show(&mut self) {
        self.rollouts.seen(Seen::Applied(self.object.clone()), self.now, &mut self.schedule);
    }

    pub(super) fn status(&self) -> ModuleRolloutStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Somebody says a word about the revision that is being released.
    pub(super) fn says(&mut self, word: &str) {
        let Some(revision) = self.status().revision else { return };
        let annotations = self.object.metadata.annotations.get_or_insert_default();
        annotations.insert(format!("modulet.koupleless.io/{word}"), revision);
        self.changed();
        self.show();
    }

    /// The release is deleted, as far as its finalizer lets it.
    pub(super) fn deletes(&mut self) {
        self.object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        self.changed();
        self.show();
    }

    /// A version does not start any more, wherever.
    pub(super) fn breaks(&mut self, version: &str) {
        self.nodes.iter_mut().for_each(|node| assert!(node.jvm.broken.insert(version.to_owned())));
    }

    fn changed(&mut self) {
        self.version += 1;
        self.object.metadata.resource_version = Some(self.version.to_string());
    }

    /// One look at the release.
    pub(super) fn looks(&mut self) {
        let mut out = Vec::new();
        let (deployment, nodes) = (&self.deployment, &self.nodes);
        let facts_of = |_: &WorkloadName, workload: Option<WorkloadFacts>| Self::facts(deployment, nodes, workload);
        self.rollouts.plan(&facts_of, self.now, &mut self.schedule, &mut out);
        for effect in out {
            match effect {
                Effect::Write(_, key, request) => self.writes.push_back((key, request)),
                Effect::Note(note) => self.told.push(note.reason),
                // The template of the stable revision, which is to be the Deployment's again.
                Effect::Read(_) => self.gives_back = self.status().stable_revision,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The Deployment gets the template of a revision before.
    fn gives_back(&mut self) {
        let Some(revision) = self.gives_back.take() else { return };
        self.deployment.template = ["1", "2", "3"].into_iter().find(|hash| *hash == revision).unwrap();
        self.rollouts.rolled_back("rollout", Ok(Outcome { resource_version: 0 }), self.now, &mut self.schedule);
    }

    /// The API server does the oldest write.
    pub(super) fn writes(&mut self) {
        self.gives_back();
        let Some((key, request)) = self.writes.pop_front() else { return };
        let Key::Rollout(uid) = key else { panic!("{key:?}") };
        let body = request.body();
        let outdated = body["metadata"]["resourceVersion"].as_str() != self.object.metadata.resource_version.as_deref();
        let result = if outdated {
            Err(WriteError::Refused { code: 409, message: "modified".to_owned() })
        } else {
            if body["status"].is_object() {
                self.object.status = Some(serde_json::from_value(body["status"].clone()).unwrap());
            }
            if let Some(annotations) = body["metadata"]["annotations"].as_object() {
                let all = self.object.metadata.annotations.get_or_insert_default();
                all.retain(|key, _| !annotations.contains_key(key));
            }
            if let Some(finalizers) = body["metadata"]["finalizers"].as_array() {
                let names = finalizers.iter().map(|f| f.as_str().unwrap().to_owned());
                self.object.metadata.finalizers = Some(names.collect());
            }
            self.changed();
            Ok(Outcome { resource_version: self.version })
        };
        // A watch may be faster than the answer.
        if self.rng.bool() {
            self.show();
        }
        self.rollouts.written(&uid, result, self.now, &mut self.schedule);
        self.show();
    }

    /// How many bases serve, whatever version.
    pub(super) fn serving(&self) -> usize {
        let serves = |node: &&Node| node.jvm.list.values().any(|state| *state == ModuleState::Activated);
        self.nodes.iter().filter(serves).count()
    }

    pub(super) fn counts(&mut self) {
        let serving = self.serving();
        self.was_full |= serving == self.nodes.len();
        if self.was_full {
            self.fewest = self.fewest.min(serving);
        }
    }

    /// Bases on which that version is active, and nothing else is there.
    pub(super) fn with(&self, version: &str) -> usize {
        let alone = [(ModuleId::new("biz1", version), ModuleState::Activated)];
        self.nodes.iter().filter(|node| node.jvm.list.iter().map(|(id, s)| (id.clone(), *s)).eq(alone.clone())).count()
    }
}
