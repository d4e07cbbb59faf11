//! What a decision sees: Pods on a base, and the facts of a release.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::facts::{BaseFacts, Kind, PodFacts, PodIs, RolloutFacts, WorkloadFacts, WorkloadName},
    cluster::{Cluster, Node, UID},
    deployment::Deployment,
};
use crate::domain::{Container, Content, ModuleId, ModuleSpec, Origin, Pod, Role, Workload};

impl Cluster {
    /// What a decision on the release sees.
    pub(super) fn facts<'a>(
        deployment: &Deployment,
        nodes: &'a [Node],
        workload: Option<WorkloadFacts>,
    ) -> RolloutFacts<'a> {
        let mut sets: Vec<_> = deployment.sets.iter().collect();
        sets.sort_by_key(|set| set.revision);
        let bases = nodes.iter().enumerate().filter_map(|(number, node)| {
            let on_it = deployment.pods.iter().filter(|pod| pod.base == Some(number) && pod.is_live());
            let pods: Vec<_> = on_it
                .map(|pod| {
                    let is = if pod.ready && node.base.lacks(&ModuleId::new("biz1", deployment.sets[pod.set].hash)) {
                        PodIs::AtWork
                    } else if pod.ready {
                        PodIs::Ready
                    } else if pod.broken {
                        PodIs::Failed("InstallFailed".to_owned(), "broken on purpose".to_owned(), 0)
                    } else if pod.held_back {
                        PodIs::Awaiting
                    } else {
                        PodIs::AtWork
                    };
                    let revision = deployment.sets[pod.set].hash.into();
                    PodFacts { uid: pod.id.to_string().into(), revision, is }
                })
                .collect();
            let goes = |pod: &&super::deployment::Pod| pod.base == Some(number) && pod.deleting && !pod.failed;
            let going: Vec<_> =
                deployment.pods.iter().filter(goes).map(|p| deployment.sets[p.set].hash.into()).collect();
            let (base, node) = (&node.id, node.id.as_str());
            (!pods.is_empty() || !going.is_empty()).then_some(BaseFacts {
                base,
                node,
                cluster: None,
                reachable: true,
                pods,
                going,
            })
        });
        RolloutFacts {
            workload,
            revisions: sets.iter().map(|set| set.hash.into()).collect(),
            bases: bases.collect(),
            others: Vec::new(),
            labels_of: &|_| BTreeMap::new(),
            wall: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn pods_on(&self, number: usize) -> Vec<Pod> {
        let on_it = self.deployment.pods.iter().filter(|pod| pod.base == Some(number));
        on_it
            .map(|pod| {
                let set = &self.deployment.sets[pod.set];
                let workload = workload_name();
                let history = self.histories.get(&pod.id).cloned().unwrap_or_default();
                let id = ModuleId::new("biz1", set.hash);
                let url = format!("https://modules.example.com/{id}");
                let spec = ModuleSpec {
                    id,
                    origin: Origin::of(&url),
                    url,
                    args: Vec::new(),
                    envs: BTreeMap::new(),
                    unresolved: None,
                };
                let container = Container { name: "biz1".to_owned(), role: Role::Module(spec), history, probes: None };
                Pod {
                    uid: pod.id.to_string().into(),
                    name: format!("default/{}", pod.id),
                    created: i64::try_from(pod.id).unwrap(),
                    workload: Workload { uid: UID.into(), revision: set.revision },
                    content: Content::Modules(vec![container]),
                    deleting: pod.deleting.then_some(Duration::ZERO),
                    evicted: false,
                    terminal: pod.failed,
                    superseded: pod.failed,
                    grace: Duration::from_secs(30),
                    drain: Duration::ZERO,
                    replaces: false,
                    ignores_metaspace: false,
                    shown_ready: pod.ready,
                    held_back: self.rollouts.waits(Some(&workload), Some(set.hash), &self.nodes[number].id, false),
                    lingers: self.rollouts.lingers(Some(&workload)),
                    not_done: Vec::new(),
                    trace: None,
                }
            })
            .collect()
    }
}

fn workload_name() -> WorkloadName {
    WorkloadName { namespace: "default".into(), kind: Kind::Deployment, name: "d".into() }
}
