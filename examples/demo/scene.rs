//! What can be seen: Nodes, Pods, and what the bases run.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};
use modulet::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};

use crate::{bases::Base, cluster::NAMESPACE, screen::Screen, stage::ENV};

/// What kubectl calls a Pod whose deletion has been asked for.
const TERMINATING: &str = "Terminating";

/// Everything at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scene {
    pub(crate) nodes: BTreeMap<String, NodeSeen>,
    pub(crate) pods: BTreeMap<String, PodSeen>,
    pub(crate) bases: BTreeMap<String, BaseSeen>,
    /// The one of the other story.
    pub(crate) rollout: Option<RolloutSeen>,
}

/// A `ModuleRollout`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RolloutSeen {
    phase: Phase,
    step: u32,
    pub(crate) revision: String,
    /// The bases of the next batch.
    pub(crate) next: Vec<String>,
    /// The phase in a sentence.
    pub(crate) message: String,
}

/// A Node, as `kubectl get nodes` has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeSeen {
    pub(crate) ready: bool,
    role: String,
    version: String,
    address: String,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodSeen {
    pub(crate) version: String,
    pub(crate) node: String,
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) reason: String,
    /// The reason in a sentence.
    pub(crate) message: String,
}

/// A base: its modules as "name version state", and what it answers if it can be asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BaseSeen {
    pub(crate) modules: Vec<[String; 3]>,
    pub(crate) answer: Option<String>,
}

impl Scene {
    /// Looks.
    pub(crate) async fn observe(client: &Client, bases: &[Base]) -> Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        let ours = ListParams::default().labels(&format!("virtual-kubelet.koupleless.io/env={ENV}"));
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let mut scene = Self::default();
        for node in nodes.list(&ours).await? {
            scene.nodes.insert(node.metadata.name.clone().unwrap_or_default(), NodeSeen::from(&node));
        }
        for pod in pods.list(&ListParams::default()).await? {
            scene.pods.insert(pod.metadata.name.clone().unwrap_or_default(), PodSeen::from(&pod));
        }
        let rollouts: Api<ModuleRollout> = Api::namespaced(client.clone(), NAMESPACE);
        scene.rollout = match rollouts.list(&ListParams::default()).await {
            Ok(list) => list.items.into_iter().next().and_then(|rollout| RolloutSeen::from(rollout.status?)),
            // The kind is not there, and neither is the story.
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => return Err(error.into()),
        };
        for base in bases {
            let seen = BaseSeen { modules: base.modules().await, answer: base.answer("biz1").await };
            scene.bases.insert(base.id(), seen);
        }
        Ok(scene)
    }

    /// Prints a line for each thing that is not as it was.
    pub(crate) fn print_changes(&self, old: &Self, screen: &Screen) {
        for (name, node) in &self.nodes {
            if old.nodes.get(name) != Some(node) {
                screen.change("Node", name, &format!("{} ({})", node.status(), node.address));
            }
        }
        for (name, pod) in &self.pods {
            if old.pods.get(name).is_none_or(|old| old.line() != pod.line()) {
                screen.change("Pod", name, &pod.line());
            }
        }
        if let Some(now) =
            self.rollout.as_ref().filter(|now| old.rollout.as_ref().is_none_or(|old| old.message != now.message))
        {
            screen.change("rollout", "biz1", &format!("{:?}: {}", now.phase, now.message));
        }
        for (name, base) in &self.bases {
            let before = old.bases.get(name);
            if before.map_or(!base.modules.is_empty(), |old| old.modules != base.modules) {
                screen.change("base", name, &base.line());
            }
            if let Some(answer) = base.answer.as_ref().filter(|_| before.is_none_or(|old| old.answer != base.answer)) {
                screen.change("asked", name, &format!("\"{answer}\""));
            }
        }
        let gone = |kind, names: Vec<&String>| names.into_iter().for_each(|name| screen.change(kind, name, "deleted"));
        gone("Node", old.nodes.keys().filter(|name| !self.nodes.contains_key(*name)).collect());
        gone("Pod", old.pods.keys().filter(|name| !self.pods.contains_key(*name)).collect());
    }

    pub(crate) fn print_nodes(&self, screen: &Screen) {
        let mut rows = vec![head(&["NODE", "STATUS", "ROLE", "VERSION", "ADDRESS"])];
        rows.extend(self.nodes.iter().map(|(name, node)| {
            vec![name.clone(), node.status().into(), node.role.clone(), node.version.clone(), node.address.clone()]
        }));
        screen.table(&rows);
    }

    pub(crate) fn print_pods(&self, screen: &Screen) {
        let mut rows = vec![head(&["POD", "MODULE", "NODE", "PHASE", "READY", "REASON"])];
        let stay = self.pods.iter().filter(|(_, pod)| !pod.is_going());
        rows.extend(stay.map(|(name, pod)| {
            let ready = if pod.ready { "yes" } else { "no" };
            let module = format!("biz1 {}", pod.version);
            vec![name.clone(), module, pod.node.clone(), pod.phase.clone(), ready.into(), pod.reason.clone()]
        }));
        screen.table(&rows);
    }

    pub(crate) fn print_bases(&self, screen: &Screen) {
        let mut rows = vec![head(&["BASE", "MODULE", "VERSION", "STATE", "ANSWERS"])];
        for (name, base) in &self.bases {
            for module in &base.modules {
                let answer = base.answer.clone().filter(|_| module[2] == "activated").unwrap_or_default();
                rows.push(std::iter::once(name).chain(module).chain([&answer]).cloned().collect());
            }
            if base.modules.is_empty() {
                rows.push(vec![name.clone(), "(none)".to_owned()]);
            }
        }
        if self.bases.values().all(|base| base.answer.is_none()) {
            for row in &mut rows {
                row.truncate(4);
            }
        }
        screen.table(&rows);
    }

    /// What is missing until the release is in that phase, at that step.
    pub(crate) fn is_in(&self, phase: Phase, step: u32) -> Option<String> {
        let Some(now) = &self.rollout else { return Some("there is no ModuleRollout".to_owned()) };
        let is = now.phase == phase && (step == 0 || now.step == step);
        (!is).then(|| format!("it is {:?} at step {}", now.phase, now.step))
    }

    /// The same for several phases.
    pub(crate) fn is_in_one_of(&self, phases: &[Phase]) -> Option<String> {
        phases.iter().map(|phase| self.is_in(*phase, 0)).min()?
    }

    /// The Pods of one version of the module.
    pub(crate) fn pods_of(&self, version: &str) -> impl Iterator<Item = &PodSeen> {
        self.pods.values().filter(move |pod| pod.version == version)
    }

    /// How many bases run this version and no other, and serve it.
    pub(crate) fn bases_with_only(&self, version: &str) -> usize {
        self.bases.values().filter(|base| base.modules.len() == 1 && base.serves(version)).count()
    }
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl NodeSeen {
    fn from(node: &Node) -> Self {
        let status = node.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let labels = node.metadata.labels.iter().flatten();
        let mut roles = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
        let addresses = status.addresses.unwrap_or_default();
        let address = addresses.into_iter().find(|address| address.type_ == "InternalIP");
        Self {
            ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            role: roles.next().unwrap_or_default().to_owned(),
            version: status.node_info.map(|info| info.kubelet_version).unwrap_or_default(),
            address: address.map(|address| address.address).unwrap_or_default(),
        }
    }

    fn status(&self) -> &'static str {
        if self.ready { "Ready" } else { "NotReady" }
    }
}

impl PodSeen {
    fn from(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let condition = |name: &str| conditions.iter().find(|condition| condition.type_ == name);
        let container = status.container_statuses.unwrap_or_default().into_iter().next();
        let waiting = container.and_then(|container| container.state).and_then(|state| state.waiting);
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
        let (reason, message) = if pod.metadata.deletion_timestamp.is_some() {
            (Some(TERMINATING.to_owned()), None)
        } else if status.reason.is_some() {
            (status.reason, status.message)
        } else if let Some(waiting) = waiting {
            (waiting.reason, waiting.message)
        } else {
            (unscheduled.and_then(|why| why.reason.clone()), unscheduled.and_then(|why| why.message.clone()))
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        Self {
            version: labels.get("module.koupleless.io/version").cloned().unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
            reason: reason.unwrap_or_default(),
            message: message.unwrap_or_default(),
        }
    }

    /// Its deletion has been asked for.
    pub(crate) fn is_going(&self) -> bool {
        self.reason == TERMINATING
    }

    /// All about it but its name.
    fn line(&self) -> String {
        let node = if self.node.is_empty() { "no Node yet" } else { &self.node };
        let state = match (self.ready, self.reason.as_str()) {
            (true, "") => ", Ready".to_owned(),
            (_, "") => String::new(),
            (_, reason) => format!(", {reason}"),
        };
        format!("biz1 {} on {node}: {}{state}", self.version, self.phase)
    }
}

impl RolloutSeen {
    fn from(status: ModuleRolloutStatus) -> Option<Self> {
        Some(Self {
            phase: status.phase?,
            step: status.step,
            revision: status.revision.unwrap_or_default(),
            next: status.next,
            message: status.message.unwrap_or_default(),
        })
    }
}

impl BaseSeen {
    /// This version is active, and where its code can be asked, it is the one that answers.
    pub(crate) fn serves(&self, version: &str) -> bool {
        let active = self.modules.iter().any(|module| module[1..] == [version, "activated"]);
        active && self.answer.as_ref().is_none_or(|answer| answer.starts_with(&format!("biz1 {version} ")))
    }

    fn line(&self) -> String {
        let modules: Vec<_> = self.modules.iter().map(|module| module.join(" ")).collect();
        if modules.is_empty() { "no modules".to_owned() } else { modules.join(", ") }
    }
}
