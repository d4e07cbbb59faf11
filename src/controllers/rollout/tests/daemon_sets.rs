//! A `DaemonSet`: on each base the old Pod goes before the new one is made, and for a moment there is none.

use std::{collections::BTreeMap, time::Instant};

use serde_json::json;

use super::super::{
    decide::decide,
    facts::{BaseFacts, PodFacts, PodIs, RolloutFacts, Suits, WorkloadFacts},
    turn::{Decision, Memory},
};
use crate::{
    domain::BaseId,
    k8s::rollout::{ModuleRollout, Phase},
};

/// A release of it, and the revision that each of its bases has a Pod of.
struct Daemons {
    object: ModuleRollout,
    memory: Memory,
    revisions: Vec<&'static str>,
    pods: BTreeMap<BaseId, Option<(&'static str, PodIs)>>,
}

impl Daemons {
    fn on(bases: [&str; 4]) -> Self {
        let object = json!({
            "metadata": { "name": "r", "namespace": "default", "uid": "rollout" },
            "spec": {
                "workloadRef": { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d" }, "maxParallel": 2,
                "steps": [{ "replicas": 1, "pause": {} }, { "replicas": "100%" }],
            },
        });
        let mut daemons = Self {
            object: serde_json::from_value(object).unwrap(),
            memory: Memory::default(),
            revisions: vec!["1"],
            pods: bases.iter().map(|base| (BaseId::new(*base), Some(("1", PodIs::Ready)))).collect(),
        };
        daemons.decides();
        daemons.revisions.push("2");
        daemons
    }

    /// Decides, and the status is written. Which bases make room.
    fn decides(&mut self) -> Vec<String> {
        let facts = |with_pods: bool| -> Vec<BaseFacts<'_>> {
            let those = self.pods.iter().filter(|(_, pod)| pod.is_some() == with_pods);
            those
                .map(|(base, pod)| {
                    let pods = pod.iter().map(|(revision, is)| PodFacts {
                        uid: base.as_str().into(),
                        revision: (*revision).into(),
                        is: is.clone(),
                    });
                    let pods = pods.collect();
                    BaseFacts { base, node: base.as_str(), cluster: None, reachable: true, pods, going: Vec::new() }
                })
                .collect()
        };
        let workload =
            WorkloadFacts { uid: "daemons".into(), replicas: None, min_ready_seconds: 0, suits: Suits::ByBase };
        let facts = RolloutFacts {
            workload: Some(workload),
            revisions: self.revisions.iter().map(|revision| (*revision).into()).collect(),
            bases: facts(true),
            others: facts(false),
            labels_of: &|_| BTreeMap::new(),
            wall: jiff::Timestamp::UNIX_EPOCH,
        };
        let Decision { status, makes_room, .. } = decide(&self.object, None, &facts, &mut self.memory, Instant::now());
        self.object.status = Some(status);
        makes_room.iter().map(ToString::to_string).collect()
    }

    fn has(&mut self, base: &str, pod: Option<(&'static str, PodIs)>) {
        assert!(self.pods.insert(BaseId::new(base), pod).is_some());
    }

    fn phase_and_numbers(&self) -> (Option<Phase>, u32, u32) {
        let status = self.object.status.clone().unwrap_or_default();
        (status.phase, status.bases.total, status.bases.done)
    }
}

#[test]
fn a_base_between_two_pods_keeps_its_turn_and_no_other_has_it() {
    let mut daemons = Daemons::on(["a", "b", "c", "d"]);
    assert_eq!(daemons.decides(), ["a"]);
    daemons.has("a", None);
    for _ in 0..3 {
        assert_eq!(daemons.decides(), [""; 0]);
        assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Progressing), 4, 0));
    }
    daemons.has("a", Some(("2", PodIs::Ready)));
    assert_eq!(daemons.decides(), [""; 0]);
    assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Waiting), 4, 1));

    // In the last batch too, and when another process goes on with it.
    if let Some(status) = &mut daemons.object.status {
        (status.phase, status.step) = (Some(Phase::Progressing), 2);
    }
    assert_eq!(daemons.decides(), ["b", "c"]);
    daemons.has("b", None);
    daemons.has("c", None);
    daemons.memory = Memory::default();
    for _ in 0..3 {
        assert_eq!(daemons.decides(), [""; 0], "two are away");
        assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Progressing), 4, 1));
    }
    daemons.has("b", Some(("2", PodIs::Ready)));
    assert_eq!(daemons.decides(), ["d"]);
    daemons.has("d", Some(("2", PodIs::Ready)));
    assert_eq!(daemons.decides(), [""; 0]);
    assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Progressing), 4, 3));
    daemons.has("c", Some(("2", PodIs::Ready)));
    assert_eq!(daemons.decides(), [""; 0]);
    assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Completed), 4, 4));
}

#[test]
fn on_the_way_back_so_many_bases_at_once_make_room() {
    let mut daemons = Daemons::on(["a", "b", "c", "d"]);
    daemons.decides();
    for base in ["a", "b", "c"] {
        daemons.has(base, Some(("2", PodIs::Ready)));
    }
    daemons.revisions = vec!["2", "1"];
    assert_eq!(daemons.decides(), ["a", "b"]);
    assert_eq!(daemons.phase_and_numbers().0, Some(Phase::RollingBack));
    daemons.has("a", None);
    daemons.has("b", Some(("1", PodIs::Ready)));
    assert_eq!(daemons.decides(), ["c"]);
    for base in ["a", "c"] {
        daemons.has(base, Some(("1", PodIs::Ready)));
    }
    daemons.decides();
    assert_eq!(daemons.phase_and_numbers(), (Some(Phase::Idle), 4, 4));
}
