//! What modulet must be allowed to do: the same that the chart gives it.

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Right {
    /// What is done.
    pub(super) verb: &'static str,
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// In the plural; behind a slash the subresource.
    pub(super) resource: &'static str,
    /// Where.
    pub(super) scope: Scope,
    /// What does not happen without it; none: modulet does not do its job.
    pub(super) without: Option<&'static str>,
}

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In the namespace of the Leases of Nodes.
    Leases,
    /// In modulet's own namespace.
    Own,
    /// In the namespace of Kubernetes itself.
    System,
}

impl Right {
    /// As in `kubectl auth can-i`.
    pub(super) fn name(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        let (resource, sub) = self.resource.split_at(self.resource.find('/').unwrap_or(self.resource.len()));
        format!("{} {resource}{dot}{}{sub}", self.verb, self.group)
    }
}

/// Group, resources, verbs, where, what is not done without.
type Rule = (&'static str, &'static [&'static str], &'static [&'static str], Scope, Option<&'static str>);
/// In the order of the chart's file.
const RULES: [Rule; 12] = [
    ("", &["nodes"], &["list", "watch", "create", "patch", "delete"], Scope::Cluster, None),
    ("", &["nodes/status"], &["patch"], Scope::Cluster, None),
    ("", &["pods"], &["list", "watch", "delete"], Scope::Cluster, None),
    ("", &["pods/status"], &["patch"], Scope::Cluster, None),
    ("events.k8s.io", &["events"], &["create"], Scope::Cluster, Some("no Events say what happens to a module")),
    (
        "apps",
        &["replicasets", "controllerrevisions", "daemonsets"],
        &["list", "watch"],
        Scope::Cluster,
        Some(
            "which revision of a workload is the current one is not known, and a base's baseline lacks DaemonSets' modules",
        ),
    ),
    ("apps", &["deployments"], &["list", "watch"], Scope::Cluster, Some(NO_PEERS)),
    ("apps", &["deployments/scale"], &["patch"], Scope::Cluster, Some(NO_PEERS)),
    ("modulet.koupleless.io", &["modulerollouts"], &["list", "watch", "patch"], Scope::Cluster, Some(NO_ROLLOUTS)),
    ("modulet.koupleless.io", &["modulerollouts/status"], &["patch"], Scope::Cluster, Some(NO_ROLLOUTS)),
    ("coordination.k8s.io", &["leases"], &["create", "patch"], Scope::Leases, None),
    ("coordination.k8s.io", &["leases"], &["get", "list", "watch", "create", "update"], Scope::Own, None),
];
/// Only where bases are reached over HTTP.
const FOR_HTTP: Rule =
    ("", &["pods"], &["patch"], Scope::Own, Some("bases over HTTP do not find the replica that leads"));
/// Only where modulet serves the API of a kubelet.
const FOR_KUBELET: [Rule; 5] = [
    ("authentication.k8s.io", &["tokenreviews"], &["create"], Scope::Cluster, Some(NO_KUBELET)),
    ("authorization.k8s.io", &["subjectaccessreviews"], &["create"], Scope::Cluster, Some(NO_KUBELET)),
    ("", &["pods/log"], &["get"], Scope::Cluster, Some("no log of a module is read but in namespaces where it may")),
    (
        "",
        &["pods/portforward"],
        &["create"],
        Scope::Cluster,
        Some("no port is forwarded but in namespaces where it may"),
    ),
    // That of a role that Kubernetes has.
    ("", &["configmaps"], &["get"], Scope::System, Some(NO_KUBELET)),
];
/// Only where it has the cluster sign that one's certificate. What it may do to its own request and Secret goes by their
/// names, and is told by the log.
const FOR_CERTIFICATE: Rule = (
    "certificates.k8s.io",
    &["certificatesigningrequests"],
    &["create"],
    Scope::Cluster,
    Some("no certificate of the kubelet API is asked for"),
);
const NO_KUBELET: &str = "the kubelet API answers nobody";
const NO_PEERS: &str = "peer Deployments do not follow the number of bases";
const NO_ROLLOUTS: &str = "no workload is released in batches (ModuleRollout)";
/// The record, in modulet's own namespace.
const FOR_RECORD: Rule = (
    "",
    &["configmaps"],
    &["list", "watch", "create", "patch"],
    Scope::Own,
    Some("after a restart modules whose Pods went meanwhile stay on their bases"),
);

/// All of them; `http`: where bases are reached over HTTP, too; `kubelet`: where it serves the API of a kubelet;
/// `certificate`: where it asks for that one's.
pub(super) fn all(http: bool, kubelet: bool, certificate: bool) -> Vec<Right> {
    let rules = RULES
        .iter()
        .chain(http.then_some(&FOR_HTTP))
        .chain(FOR_KUBELET.iter().filter(|_| kubelet))
        .chain(certificate.then_some(&FOR_CERTIFICATE))
        .chain([&FOR_RECORD]);
    let mut all = Vec::new();
    for &(group, resources, verbs, scope, without) in rules {
        for &resource in resources {
            all.extend(verbs.iter().map(|&verb| Right { verb, group, resource, scope, without }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What stands between brackets behind a key.
    fn list(line: &str, key: &str) -> Option<Vec<String>> {
        let text =
            line.trim().trim_start_matches("- ").strip_prefix(key)?.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(text.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect())
    }

    #[test]
    fn they_are_what_the_chart_gives() {
        let chart = include_str!("../../charts/modulet/templates/rbac.yaml");
        let for_kubelet = include_str!("../../charts/modulet/templates/kubelet-rbac.yaml");
        let (mut given, mut groups, mut resources) = (BTreeSet::new(), Vec::new(), Vec::new());
        // Those for environments of modules are given in namespaces that only the chart's user knows.
        let mut is_named = false;
        for line in chart.split("environmentFrom").next().unwrap().lines().chain(for_kubelet.lines()) {
            groups = list(line, "apiGroups:").unwrap_or(groups);
            // Those for objects by their names are not looked at.
            is_named = line.contains("resourceNames:") || is_named && !line.contains("apiGroups:");
            resources = list(line, "resources:").unwrap_or(resources);
            for verb in list(line, "verbs:").filter(|_| !is_named).unwrap_or_default() {
                for resource in &resources {
                    given.insert(format!("{verb} {}/{resource}", groups[0]));
                }
            }
        }
        let of_chart = |right: &&Right| right.scope != Scope::System;
        let ours: BTreeSet<_> = all(true, true, true)
            .iter()
            .filter(of_chart)
            .map(|r| format!("{} {}/{}", r.verb, r.group, r.resource))
            .collect();
        assert!(ours.len() > 20);
        assert_eq!(ours, given);
    }

    #[test]
    fn their_names_are_those_of_kubectl() {
        let names: Vec<_> = all(true, true, true).iter().map(Right::name).collect();
        for name in
            ["create nodes", "patch nodes/status", "patch deployments.apps/scale", "create events.events.k8s.io"]
        {
            assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
        }
    }
}
