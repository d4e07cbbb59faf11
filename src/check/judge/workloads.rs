//! Workloads of modules: what the cluster does to them that their authors may not expect.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PodSpec};

use super::words::{ZONES, seen, some};
use crate::check::{
    facts::Facts,
    finding::{Finding, Level},
};
use crate::k8s::names;

const LIMIT_RANGES: &str = "LimitRanges";

fn name(deployment: &Deployment) -> String {
    let meta = &deployment.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Deployments of modules that are spread by zones, where bases have none.
pub(super) fn spread_over_zones(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let deployments = seen(ZONES, &facts.deployments)?;
    let of = |wanted: fn(&PodSpec) -> bool| -> BTreeSet<_> {
        let template =
            |d: &&Deployment| d.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).is_some_and(wanted);
        deployments.iter().filter(template).map(name).collect()
    };
    let (apart, stuck) = (of(keeps_apart), of(|spec| spreads(spec) || keeps_together(spec)));
    let mut texts = Vec::new();
    if !apart.is_empty() {
        let apart = some(&apart);
        texts.push(format!("anti-affinity over {} spreads nothing where bases have no zone: {apart}", names::ZONE));
    }
    if !stuck.is_empty() {
        let (key, stuck) = (names::ZONE, some(&stuck));
        texts.push(format!("no base without a zone admits what must be spread or kept together by {key}: {stuck}"));
    }
    let said = |text| Finding::new(ZONES, Level::Problem, text).advise(format!("Use topologyKey: {}", names::HOSTNAME));
    Ok(texts.into_iter().map(said).collect())
}

fn keeps_apart(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
    affinity.is_some_and(|a| {
        let required = a.required_during_scheduling_ignored_during_execution.iter().flatten().map(|t| &t.topology_key);
        let preferred = a.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|t| &t.pod_affinity_term.topology_key)).any(|key| key == names::ZONE)
    })
}

fn keeps_together(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_some_and(|terms| terms.iter().any(|term| term.topology_key == names::ZONE))
}

fn spreads(spec: &PodSpec) -> bool {
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints.into_iter().any(|c| c.topology_key == names::ZONE && c.when_unsatisfiable == "DoNotSchedule")
}

/// `LimitRange`s that put requests into module Pods for what bases do not offer.
pub(super) fn limit_ranges(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let limits = seen(LIMIT_RANGES, &facts.limit_ranges)?;
    let mut namespaces: BTreeSet<&str> = facts.module_namespaces.iter().flatten().map(String::as_str).collect();
    namespaces.extend(facts.deployments.iter().flatten().filter_map(|d| d.metadata.namespace.as_deref()));
    let status = facts.base.as_ref().and_then(|base| base.status.as_ref());
    let offers =
        |resource: &str| status.and_then(|s| s.allocatable.as_ref()).is_some_and(|all| all.contains_key(resource));
    let mut found = Vec::new();
    for range in limits {
        let namespace = range.metadata.namespace.as_deref().unwrap_or_default();
        if !namespaces.contains(namespace) {
            continue;
        }
        let items = range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == "Container");
        // What is set by default, or must be: both end up as requests (Kubernetes convention).
        let requested: BTreeSet<&str> = items
            .flat_map(|item| [&item.default_request, &item.default, &item.min])
            .flatten()
            .flat_map(|all| all.keys().map(String::as_str))
            .collect();
        let name = range.metadata.name.as_deref().unwrap_or_default();
        let lacking: Vec<_> = requested.iter().copied().filter(|resource| !offers(resource)).collect();
        if !lacking.is_empty() {
            let text = format!(
                "{namespace}/{name} makes module Pods ask for {}, which bases do not offer: they stay Pending",
                lacking.join(", ")
            );
            found.push(
                Finding::new(LIMIT_RANGES, Level::Problem, text)
                    .advise("Keep modules in a namespace without it, or set these requests to 0 in their template"),
            );
        } else if requested.contains("memory") {
            let text = format!(
                "{namespace}/{name} makes module Pods ask for memory: on a base with -XX:MaxMetaspaceSize only as many fit as \
                 add up to it"
            );
            found.push(
                Finding::new(LIMIT_RANGES, Level::Warning, text)
                    .advise("Set the modules' own requests in their template"),
            );
        }
    }
    if found.is_empty() {
        let text = format!("none in the {} namespaces with modules stands in a module's way", namespaces.len());
        found.push(Finding::new(LIMIT_RANGES, Level::Ok, text));
    }
    Ok(found)
}
