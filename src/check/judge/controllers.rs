//! Who else keeps the bases of this environment.

use std::collections::BTreeMap;

use super::{
    nodes::is_base,
    words::{CONTROLLERS, seen, some},
};
use crate::check::{
    facts::Facts,
    finding::{Finding, Level},
};
use crate::k8s::{is_by_modulet, node_says_ready};

/// Who keeps the Nodes of this environment, by Leases of those that are Ready: Kubernetes calls a Node that nobody renews
/// not Ready, so no clock is needed.
pub(super) fn controllers(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    // Which of our replicas leads is the election's business.
    let (env, me) = (&facts.env, facts.leader.as_ref().unwrap_or(&facts.client_id));
    let nodes = seen(CONTROLLERS, &facts.nodes)?;
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
    let strangers: Vec<_> = ours.iter().filter(|(_, node)| !is_by_modulet(node)).map(|(name, _)| *name).collect();
    if !strangers.is_empty() {
        let text = format!("{} are kept by a controller that is not modulet", some(&strangers));
        found.push(
            Finding::new(CONTROLLERS, Level::Warning, text)
                .advise("Stop it before modulet starts; its Nodes and Pods are taken over: docs/migration.md"),
        );
    }
    Ok(found)
}

/// Somebody else, alone.
fn one(env: &str, holder: &str) -> Finding {
    Finding::new(CONTROLLERS, Level::Warning, format!("{holder} holds the bases of environment {env}"))
        .advise("If that is not the controller that you mean (CLIENT_ID), stop it before modulet starts")
}
