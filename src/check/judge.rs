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
        let sections = [
            rights(facts),
            Ok(environments(facts)),
            nodes::daemon_sets(facts),
            nodes::zones(facts),
            nodes::pod_cidrs(facts),
            workloads::limit_ranges(facts),
            controllers::controllers(facts),
        ];
        found.extend(sections.into_iter().flat_map(|found| found.unwrap_or_else(|blind| vec![blind])));
    }
    found.extend(broker::broker(facts));
    found.extend(heartbeats::heartbeats(facts));
    found
}

fn rights(facts: &Facts) -> Result<Vec<Finding>, Finding> {
    let who = facts.who.as_deref().unwrap_or("the user of the kubeconfig");
    // Rights that are missing, by what is not done without them.
    let mut missing = BTreeMap::<_, Vec<String>>::new();
    for (right, granted) in &facts.rights {
        if !*seen(RIGHTS, granted)? {
            let place = match right.scope {
                Scope::Cluster => "",
                Scope::Leases => " in kube-node-lease",
                Scope::Own => " in its own namespace",
                Scope::System => " in kube-system",
            };
            missing.entry(right.without).or_default().push(format!("{}{place}", right.name()));
        }
    }
    if missing.is_empty() {
        let text = format!("{who} has all {} that modulet needs", facts.rights.len());
        return Ok(vec![Finding::new(RIGHTS, Level::Ok, text)]);
    }
    let said = |(without, names): (Option<&str>, Vec<String>)| {
        let (level, effect) = match without {
            None => (Level::Problem, "modulet cannot do its job"),
            Some(effect) => (Level::Warning, effect),
        };
        Finding::new(RIGHTS, level, format!("{who} may not {}: {effect}", names.join(", ")))
            .advise("The chart's role has all of them: charts/modulet/templates/rbac.yaml")
    };
    Ok(missing.into_iter().map(said).collect())
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
