//! What follows from what was seen.

mod broker;
mod controllers;
mod heartbeats;
mod nodes;
mod words;
mod workloads;

use std::collections::BTreeMap;

use super::{
    facts::Facts,
    finding::{Finding, Level},
    rights::Scope,
};
use words::{API_SERVER, RIGHTS, seen, some};

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
        found.extend(environments(facts));
        found.extend(nodes::daemon_sets(facts));
        found.extend(nodes::zones(facts));
        found.extend(nodes::pod_cidrs(facts));
        found.extend(workloads::limit_ranges(facts));
        found.extend(controllers::controllers(facts));
    }
    found.extend(broker::broker(facts));
    found.extend(heartbeats::heartbeats(facts));
    found
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
                    Scope::System => " in kube-system",
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

/// Rights to read what the environments of modules refer to: the chart gives them by namespace.
fn environments(facts: &Facts) -> Vec<Finding> {
    let mut missing = BTreeMap::<_, Vec<&str>>::new();
    for (namespace, kind, granted) in &facts.referred {
        if granted == &Ok(false) {
            missing.entry(*kind).or_default().push(namespace);
        }
    }
    let who = facts.who.as_deref().unwrap_or("the user of the kubeconfig");
    let said = |(kind, namespaces): (&str, Vec<&str>)| {
        let text =
            format!("{who} may not get {kind} in {}: modules there that refer to them do not start", some(&namespaces));
        Finding::new(RIGHTS, Level::Problem, text)
            .advise("The chart's value rbac.environmentFrom names these namespaces")
    };
    missing.into_iter().map(said).collect()
}

#[cfg(test)]
mod tests;
