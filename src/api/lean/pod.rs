//! What is read of a Pod's spec.

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EnvFromSource, EnvVar, EphemeralContainer, ExecAction, Lifecycle,
    PodAffinityTerm, PodAntiAffinity, PodReadinessGate, PodSpec, Probe, Volume,
};
use serde::Deserialize;

use crate::k8s::names;

/// What is read of a Pod's spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeanPodSpec {
    active_deadline_seconds: Option<i64>,
    affinity: Option<LeanAffinity>,
    topology_spread_constraints: Option<Vec<Term>>,
    ephemeral_containers: Option<Vec<Named>>,
    restart_policy: Option<String>,
    volumes: Option<Vec<Named>>,
    containers: Option<Vec<LeanContainer>>,
    init_containers: Option<Vec<LeanContainer>>,
    node_name: Option<String>,
    readiness_gates: Option<Vec<PodReadinessGate>>,
    service_account_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
}

/// Of things that a base does not have, the names are enough.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

/// What a Pod is to be apart from, as far as anybody here looks: the domain.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanAffinity {
    pod_anti_affinity: Option<LeanAntiAffinity>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanAntiAffinity {
    required_during_scheduling_ignored_during_execution: Option<Vec<Term>>,
    preferred_during_scheduling_ignored_during_execution: Option<Vec<Weighted>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Weighted {
    pod_affinity_term: Option<Term>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    topology_key: Option<String>,
}

/// One term for all that has to do with zones, whatever it was.
fn zones(affinity: Option<LeanAffinity>, constraints: Option<Vec<Term>>) -> Option<Affinity> {
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity).unwrap_or_default();
    let required = apart.required_during_scheduling_ignored_during_execution.into_iter().flatten();
    let preferred = apart.preferred_during_scheduling_ignored_during_execution.into_iter().flatten();
    let preferred = preferred.filter_map(|weighted| weighted.pod_affinity_term);
    let mut terms = required.chain(constraints.into_iter().flatten()).chain(preferred);
    terms.any(|term| term.topology_key.as_deref() == Some(names::ZONE)).then(|| {
        let term = PodAffinityTerm { topology_key: names::ZONE.to_owned(), ..PodAffinityTerm::default() };
        let required_during_scheduling_ignored_during_execution = Some(vec![term]);
        let pod_anti_affinity =
            Some(PodAntiAffinity { required_during_scheduling_ignored_during_execution, ..PodAntiAffinity::default() });
        Affinity { pod_anti_affinity, ..Affinity::default() }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanContainer {
    liveness_probe: Option<Probe>,
    readiness_probe: Option<Probe>,
    startup_probe: Option<Probe>,
    ports: Option<Vec<ContainerPort>>,
    #[serde(default)]
    name: String,
    image: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<EnvVar>>,
    env_from: Option<Vec<EnvFromSource>>,
    lifecycle: Option<Lifecycle>,
}

impl From<LeanContainer> for Container {
    fn from(container: LeanContainer) -> Self {
        // That a probe is a command is enough; only a probe names ports.
        let probe = |probe: Option<Probe>| {
            probe.map(|probe| Probe { exec: probe.exec.map(|_| ExecAction::default()), ..probe })
        };
        let probed = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        let probed = probed.iter().any(|probe| probe.is_some());
        let mut ports = container.ports.filter(|_| probed);
        ports.iter_mut().for_each(|ports| ports.retain(|port| port.name.is_some()));
        Self {
            liveness_probe: probe(container.liveness_probe),
            readiness_probe: probe(container.readiness_probe),
            startup_probe: probe(container.startup_probe),
            ports,
            name: container.name,
            image: container.image,
            args: container.args,
            env: container.env,
            env_from: container.env_from,
            lifecycle: container.lifecycle,
            ..Self::default()
        }
    }
}

impl From<LeanPodSpec> for PodSpec {
    fn from(spec: LeanPodSpec) -> Self {
        let containers = |some: Vec<LeanContainer>| some.into_iter().map(Container::from).collect();
        let volume = |v: Named| Volume { name: v.name, ..Volume::default() };
        // Every Pod has one of the API server's making.
        let is_token = |v: &Volume| v.name.starts_with("kube-api-access-");
        let ephemeral = |c: Named| EphemeralContainer { name: c.name, ..EphemeralContainer::default() };
        Self {
            affinity: zones(spec.affinity, spec.topology_spread_constraints),
            active_deadline_seconds: spec.active_deadline_seconds,
            ephemeral_containers: spec.ephemeral_containers.map(|all| all.into_iter().map(ephemeral).collect()),
            restart_policy: spec.restart_policy.filter(|policy| policy != "Always"),
            volumes: spec.volumes.map(|all| all.into_iter().map(volume).filter(|v| !is_token(v)).collect()),
            containers: spec.containers.map(containers).unwrap_or_default(),
            init_containers: spec.init_containers.map(containers),
            node_name: spec.node_name,
            readiness_gates: spec.readiness_gates,
            service_account_name: spec.service_account_name,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            ..Self::default()
        }
    }
}
