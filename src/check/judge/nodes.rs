//! What the cluster's Nodes and `DaemonSet`s mean for bases, and bases for them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;

use super::{
    words::{DAEMON_SETS, POD_CIDRS, ZONES, seen, some},
    workloads,
};
use crate::check::{
    facts::Facts,
    finding::{Finding, Level},
};
use crate::{
    config::ZonePerBase,
    k8s::{intruder, names},
};

/// Nodes of this environment's bases, as they will be: what modulet does not write stays.
fn bases(facts: &Facts) -> Vec<Node> {
    let Some(typical) = &facts.base else { return Vec::new() };
    let there = facts.nodes.iter().flatten().filter(|node| is_base(node, Some(&facts.env)));
    let as_it_will_be = |node: &Node| {
        let mut node = node.clone();
        let kept = [names::BASE_NAME, names::BASE_VERSION, names::HOSTNAME, names::ZONE];
        let ours = typical.metadata.labels.iter().flatten().filter(|(key, _)| !kept.contains(&key.as_str()));
        let labels = node.metadata.labels.get_or_insert_default();
        labels.extend(ours.map(|(key, value)| (key.clone(), value.clone())));
        node
    };
    [typical.clone()].into_iter().chain(there.map(as_it_will_be)).collect()
}

fn label<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether it is the Node of a base, of that environment if one is named.
pub(super) fn is_base(node: &Node, env: Option<&str>) -> bool {
    label(node, names::COMPONENT) == Some("vnode") && env.is_none_or(|env| label(node, names::ENV) == Some(env))
}

/// Whether a kubelet of its own is behind it.
fn is_ordinary(node: &Node) -> bool {
    !is_base(node, None) && label(node, names::TYPE) != Some(names::TYPE_VIRTUAL)
}

pub(super) fn daemon_sets(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let sets = seen(DAEMON_SETS, &facts.daemon_sets)?;
    let bases = bases(facts);
    let mut found: Vec<_> = sets
        .iter()
        .filter_map(|set| bases.iter().find_map(|base| intruder(set, base)))
        .map(|found| {
            let text = format!(
                "{}/{} puts Pods on bases: nothing but modules runs there, and they count as ready so that its updates go on",
                found.namespace, found.name
            );
            Finding::new(DAEMON_SETS, Level::Warning, text).advise(found.command())
        })
        .collect();
    if found.is_empty() {
        let text = format!("none of {} puts Pods on bases, except those of modules", sets.len());
        found.push(Finding::new(DAEMON_SETS, Level::Ok, text));
    }
    Ok(found)
}

pub(super) fn zones(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let ordinary = seen(ZONES, &facts.nodes)?.iter().filter(|node| is_ordinary(node));
    let zones: BTreeSet<_> = ordinary.filter_map(|node| label(node, names::ZONE)).collect();
    let per_base = match facts.zone_per_base {
        ZonePerBase::True => true,
        ZonePerBase::False => false,
        ZonePerBase::Auto => zones.is_empty(),
    };
    let mut found = vec![match (zones.is_empty(), per_base) {
        (true, true) => Finding::new(ZONES, Level::Ok, "no ordinary Node has one; each base gets its own"),
        (true, false) => Finding::new(ZONES, Level::Ok, "no Node has one"),
        (false, false) => Finding::new(
            ZONES,
            Level::Ok,
            format!("ordinary Nodes have zones ({}), so bases get none of their own", some(&zones)),
        ),
        (false, true) => Finding::new(
            ZONES,
            Level::Problem,
            format!(
                "ordinary Nodes have zones ({}) and each base gets one of its own: Pods of others with a hard spread over \
                 {} may find no Node any more",
                some(&zones),
                names::ZONE
            ),
        )
        .advise("Set MODULET_ZONE_PER_BASE=false, and spread modules over kubernetes.io/hostname"),
    }];
    if !per_base {
        found.extend(workloads::spread_over_zones(facts).unwrap_or_else(|blind| vec![blind]));
    }
    Ok(found)
}

pub(super) fn pod_cidrs(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let nodes = seen(POD_CIDRS, &facts.nodes)?;
    let range = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).filter(|r| !r.is_empty());
    let of_bases: Vec<_> = nodes.iter().filter(|node| is_base(node, None)).filter_map(range).collect();
    let of_others: Vec<_> = nodes.iter().filter(|node| is_ordinary(node)).filter_map(range).collect();
    if !of_bases.is_empty() {
        let text = format!(
            "{} bases were given a range of Pod addresses ({}) that they do not use; the ranges bound how many Nodes there \
             can be, ordinary ones too",
            of_bases.len(),
            some(&of_bases)
        );
        return Ok(vec![Finding::new(POD_CIDRS, Level::Warning, text).advise(
            "Count your bases when you choose --cluster-cidr and --node-cidr-mask-size: docs/in-your-cluster.md",
        )]);
    }
    if of_others.is_empty() {
        return Ok(vec![Finding::new(POD_CIDRS, Level::Ok, "no Node was given one")]);
    }
    let text = format!(
        "{} Nodes were given a range of Pod addresses ({}): where a controller does that, each base takes one too, and they bound \
         how many Nodes there can be (docs/in-your-cluster.md)",
        of_others.len(),
        some(&of_others)
    );
    Ok(vec![Finding::new(POD_CIDRS, Level::Ok, text)])
}
