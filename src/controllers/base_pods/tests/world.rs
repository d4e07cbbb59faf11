//! A cluster of one base's Pod, with bases that claim it and modules that come, fail and go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::{BasePodFacts, BasePods, Claim, Modules};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, PodUid},
    k8s::names,
    planning::{Effect, Schedule, Task},
};

/// Where the Pod is.
pub(super) const HERE: (&str, &str) = ("base-0", "192.0.2.7");
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct World {
    pub(super) pods: BasePods,
    pub(super) schedule: Schedule,
    pub(super) now: Instant,
    pub(super) pod: Value,
    pub(super) bases: BTreeMap<&'static str, (Claim, Modules)>,
    version: u64,
}

pub(super) fn base_pod() -> Value {
    json!({
        "metadata": { "name": "base-0", "namespace": "bases", "uid": "u1", "resourceVersion": "1" },
        "spec": { "nodeName": "machine", "containers": [], "readinessGates": [{ "conditionType": names::MODULES_READY }] },
        "status": { "phase": "Running", "podIP": "192.0.2.7", "conditions": [{ "type": "Ready", "status": "False" }] },
    })
}

pub(super) fn at(host: &str, address: &str, answers: bool) -> Claim {
    Claim { host: host.into(), address: address.into(), answers }
}

pub(super) fn modules(total: usize, missing: &[&str]) -> Modules {
    Modules { total, missing: missing.iter().map(|name| Arc::from(*name)).collect(), to_come: Vec::new() }
}

impl World {
    pub(super) fn of(pod: Value) -> Self {
        let (pods, schedule) = (BasePods::of(&["bases".to_owned()]), Schedule::default());
        let mut world = Self { pods, schedule, now: Instant::now(), pod, bases: BTreeMap::new(), version: 1 };
        world.shows();
        world
    }

    pub(super) fn shows(&mut self) {
        let pod: Pod = serde_json::from_value(self.pod.clone()).unwrap();
        self.pods.seen(&pod, self.now, &mut self.schedule);
    }

    pub(super) fn base(&mut self, id: &'static str, claim: Claim, modules: Modules) {
        self.bases.insert(id, (claim, modules));
        self.touch(id);
    }

    pub(super) fn touch(&mut self, id: &'static str) {
        self.pods.touched([BaseId::new(id)].iter(), self.now, &mut self.schedule);
    }

    pub(super) fn plan(&mut self) -> Vec<(PodUid, Request)> {
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

    pub(super) fn end(&mut self, result: Result<Outcome, WriteError>) {
        self.pods.written(&Arc::from("u1"), result, self.now, &mut self.schedule);
    }

    pub(super) fn accept(&mut self, request: &Request) {
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
    pub(super) fn pass(&mut self, time: Duration) -> usize {
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

    pub(super) fn says(&self) -> Option<(&str, &str, &str)> {
        let all = self.pod["status"]["conditions"].as_array().unwrap();
        let ours = all.iter().find(|c| c["type"] == names::MODULES_READY)?;
        Some((ours["status"].as_str()?, ours["reason"].as_str()?, ours["message"].as_str()?))
    }
}

/// None: nobody who answers is here.
pub(super) fn complete(world: &World) -> Option<bool> {
    let here = world.bases.values().filter(|(claim, _)| claim.answers && *claim.address == *HERE.1);
    here.map(|(_, modules)| modules.missing.is_empty()).reduce(|all, one| all && one)
}
