//! What follows from what was seen.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

use super::{
    facts::{Blind, Facts, Look, Zones},
    finding::{Finding, Level},
    rights::Scope,
};
use crate::k8s::{intruder, names, node_says_ready};

mod broker;
mod workloads;

const API_SERVER: &str = "API server";
const RIGHTS: &str = "rights";
const DAEMON_SETS: &str = "DaemonSets";
const ZONES: &str = "zones";
const POD_CIDRS: &str = "Pod CIDRs";
const CONTROLLERS: &str = "other controllers";
/// Names in one line.
const NAMED: usize = 5;

/// All findings, section by section.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut found = match &facts.version {
        Ok(version) => vec![Finding::new(API_SERVER, Level::Ok, format!("reached, {version}"))],
        Err(why) => vec![
            Finding::new(API_SERVER, Level::NoCluster, format!("cannot be asked: {why}"))
                .advise("Set KUBECONFIG, or run it in modulet's Pod: kubectl exec deployment/modulet -- modulet check"),
        ],
    };
    if facts.version.is_ok() {
        found.extend(rights(facts));
        found.extend(daemon_sets(facts));
        found.extend(zones(facts));
        found.extend(pod_cidrs(facts));
        found.extend(workloads::limit_ranges(facts));
        found.extend(controllers(facts));
    }
    found.extend(broker::broker(facts));
    found
}

/// What was seen, or the finding that it was not.
fn seen<'l, T>(section: &'static str, look: &'l Look<T>) -> Result<&'l T, Finding> {
    look.as_ref().map_err(|blind| match blind {
        Blind::Needs(right) => Finding::new(section, Level::CannotLook, format!("needs the right to {right}")),
        Blind::Failed(why) => Finding::new(section, Level::CannotLook, why.clone()),
    })
}

/// The first few names.
fn some<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<_> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

fn rights(facts: &Facts) -> Vec<Finding> {
    let who = facts.who.as_deref().unwrap_or("the user of the kubeconfig");
    // Rights that are missing, by what is not done without them.
    let (mut missing, mut blind) = (BTreeMap::<_, Vec<String>>::new(), None);
    for (right, granted) in &facts.rights {
        match granted {
            Ok(true) => {}
            Ok(false) => {
                let place = match right.scope {
                    Scope::Cluster => "",
                    Scope::Leases => " in kube-node-lease",
                    Scope::Own => " in its own namespace",
                };
                missing.entry(right.without).or_default().push(format!("{}{place}", right.name()));
            }
            Err(_) => blind = blind.or(seen(RIGHTS, granted).err()),
        }
    }
    if let Some(blind) = blind {
        return vec![blind];
    }
    if missing.is_empty() {
        return vec![Finding::new(
            RIGHTS,
            Level::Ok,
            format!("{who} has all {} that modulet needs", facts.rights.len()),
        )];
    }
    let said = |(without, names): (Option<&str>, Vec<String>)| {
        let (level, effect) = match without {
            None => (Level::Problem, "modulet cannot do its job"),
            Some(effect) => (Level::Warning, effect),
        };
        Finding::new(RIGHTS, level, format!("{who} may not {}: {effect}", names.join(", ")))
            .advise("The chart's role has all of them: charts/modulet/templates/rbac.yaml")
    };
    missing.into_iter().map(said).collect()
}

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
fn is_base(node: &Node, env: Option<&str>) -> bool {
    label(node, names::COMPONENT) == Some("vnode") && env.is_none_or(|env| label(node, names::ENV) == Some(env))
}

/// Whether a kubelet of its own is behind it.
fn is_ordinary(node: &Node) -> bool {
    !is_base(node, None) && label(node, names::TYPE) != Some(names::TYPE_VIRTUAL)
}

fn daemon_sets(facts: &Facts) -> Vec<Finding> {
    let sets = match seen(DAEMON_SETS, &facts.daemon_sets) {
        Ok(sets) => sets,
        Err(blind) => return vec![blind],
    };
    let bases = bases(facts);
    let found: Vec<_> = sets
        .iter()
        .filter_map(|set| bases.iter().find_map(|base| intruder(set, base)))
        .map(|found| {
            let (level, effect) = if found.rolls {
                (Level::Problem, "nothing but modules runs there, and its rolling updates wait for them for ever")
            } else {
                (Level::Warning, "nothing but modules runs there")
            };
            let text = format!("{}/{} puts Pods on bases: {effect}", found.namespace, found.name);
            Finding::new(DAEMON_SETS, level, text).advise(found.command())
        })
        .collect();
    if found.is_empty() {
        let text = format!("none of {} puts Pods on bases, except those of modules", sets.len());
        return vec![Finding::new(DAEMON_SETS, Level::Ok, text)];
    }
    found
}

fn zones(facts: &Facts) -> Vec<Finding> {
    let nodes = match seen(ZONES, &facts.nodes) {
        Ok(nodes) => nodes,
        Err(blind) => return vec![blind],
    };
    let zones: BTreeSet<_> =
        nodes.iter().filter(|node| is_ordinary(node)).filter_map(|node| label(node, names::ZONE)).collect();
    let zones: Vec<_> = zones.into_iter().collect();
    let per_base = match facts.zones {
        Zones::PerBase => true,
        Zones::None => false,
        Zones::Auto => zones.is_empty(),
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
        found.extend(workloads::spread_over_zones(facts));
    }
    found
}

fn pod_cidrs(facts: &Facts) -> Vec<Finding> {
    let nodes = match seen(POD_CIDRS, &facts.nodes) {
        Ok(nodes) => nodes,
        Err(blind) => return vec![blind],
    };
    let range = |node: &&Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).filter(|r| !r.is_empty());
    let of_bases: Vec<_> = nodes.iter().filter(|node| is_base(node, None)).filter_map(|node| range(&node)).collect();
    let of_others: Vec<_> = nodes.iter().filter(|node| is_ordinary(node)).filter_map(|node| range(&node)).collect();
    if !of_bases.is_empty() {
        let text = format!(
            "{} bases were given a range of Pod addresses ({}) that they do not use; the ranges bound how many Nodes there \
             can be, ordinary ones too",
            of_bases.len(),
            some(&of_bases)
        );
        return vec![Finding::new(POD_CIDRS, Level::Warning, text).advise(
            "Count your bases when you choose --cluster-cidr and --node-cidr-mask-size: docs/in-your-cluster.md",
        )];
    }
    if of_others.is_empty() {
        return vec![Finding::new(POD_CIDRS, Level::Ok, "no Node was given one")];
    }
    let text = format!(
        "{} Nodes were given a range of Pod addresses ({}): where a controller does that, each base takes one too, and they bound \
         how many Nodes there can be (docs/in-your-cluster.md)",
        of_others.len(),
        some(&of_others)
    );
    vec![Finding::new(POD_CIDRS, Level::Ok, text)]
}

/// Who keeps the Nodes of this environment, by Leases of those that are Ready: Kubernetes calls a Node that nobody renews
/// not Ready, so no clock is needed.
fn controllers(facts: &Facts) -> Vec<Finding> {
    let (env, me) = (&facts.env, &facts.client_id);
    let nodes = match seen(CONTROLLERS, &facts.nodes) {
        Ok(nodes) => nodes,
        Err(blind) => return vec![blind],
    };
    let ours: BTreeMap<_, _> = nodes
        .iter()
        .filter(|node| is_base(node, Some(env)) && node_says_ready(node))
        .filter_map(|node| Some((node.metadata.name.as_deref()?, node)))
        .collect();
    let mut found = Vec::new();
    match seen(CONTROLLERS, &facts.leases) {
        Err(blind) => found.push(blind),
        Ok(leases) => {
            let mut holders = BTreeMap::<&str, usize>::new();
            for lease in
                leases.iter().filter(|l| l.metadata.name.as_deref().is_some_and(|name| ours.contains_key(name)))
            {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                if let Some(holder) = holder.filter(|holder| !holder.is_empty()) {
                    let count = holders.entry(holder).or_default();
                    *count = count.saturating_add(1);
                }
            }
            let named: Vec<_> = holders.iter().map(|(holder, count)| format!("{holder} ({count} Nodes)")).collect();
            found.push(match holders.len() {
                0 => Finding::new(CONTROLLERS, Level::Ok, format!("nobody holds a Ready base of environment {env}")),
                1 if holders.contains_key(me.as_str()) => Finding::new(
                    CONTROLLERS,
                    Level::Ok,
                    format!("{me} holds the bases of environment {env}, and nobody else"),
                ),
                1 => one(env, &some(&named)),
                _ => Finding::new(
                    CONTROLLERS,
                    Level::Problem,
                    format!("{} hold Ready bases of environment {env}: every command is doubled", some(&named)),
                )
                .advise("Run one only: compare ENV of all controllers, and stop the others"),
            });
        }
    }
    // A modulet that was there before says so in its record.
    if let Ok(Some(writer)) = &facts.writer
        && found.iter().all(|finding| finding.level == Level::CannotLook)
    {
        let name = writer.rsplit_once('/').map_or(writer.as_str(), |(name, _)| name);
        if name == me {
            found.push(Finding::new(CONTROLLERS, Level::Ok, format!("the last writer of the record is {me}")));
        } else if !ours.is_empty() {
            found.push(one(env, name));
        }
    }
    let version = |node: &Node| Some(node.status.as_ref()?.node_info.as_ref()?.kubelet_version.clone());
    let strangers: Vec<_> = ours
        .iter()
        .filter(|(_, node)| version(node).is_none_or(|v| !v.contains("modulet")))
        .map(|(name, _)| *name)
        .collect();
    if !strangers.is_empty() {
        let text = format!("{} are kept by a controller that is not modulet", some(&strangers));
        found.push(
            Finding::new(CONTROLLERS, Level::Warning, text)
                .advise("Stop it before modulet starts; its Nodes and Pods are taken over: docs/migration.md"),
        );
    }
    found
}

/// Somebody else, alone.
fn one(env: &str, holder: &str) -> Finding {
    Finding::new(CONTROLLERS, Level::Warning, format!("{holder} holds the bases of environment {env}"))
        .advise("If that is not the controller that you mean (CLIENT_ID), stop it before modulet starts")
}

#[cfg(test)]
mod tests;
