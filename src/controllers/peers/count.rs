//! Which bases count for a peer Deployment, judged by their Nodes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PodSpec, Taint, Toleration};

use super::facts::PeerNode;
use crate::k8s::{MEMORY_PRESSURE_TAINT, admits, is_tolerated, node_says_stopped};

/// Taints that say that a Node is away. Its Pods stay for as long as they tolerate that.
const AWAY: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];
/// What the API server gives every Pod that says nothing itself (Kubernetes convention, `DefaultTolerationSeconds`).
const DEFAULT: Duration = Duration::from_secs(300);

/// Whether a Node counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    /// It is Ready, and still has the taint of a Node that is not: the node controller takes it away in a moment, and the
    /// scheduler puts no Pod there before.
    Soon,
    /// It is not Ready, and its Pods would leave it then.
    Until(Instant),
    No,
}

/// Judges a Node for Pods of this template. A silence that the Pods would outlive is no reason to have fewer.
pub(super) fn counts(template: &PodSpec, node: &PeerNode<'_>, now: Instant) -> Counts {
    let Some(mut present) = node.node.unpack() else { return Counts::No };
    let mut away = Vec::new();
    if let Some(taints) = present.spec.as_mut().and_then(|spec| spec.taints.as_mut()) {
        away.extend(taints.iter().filter(|taint| AWAY.contains(&taint.key.as_str())).cloned());
        // Low metaspace keeps new Pods out, and takes none away that serves.
        taints.retain(|taint| !AWAY.contains(&taint.key.as_str()) && taint.key != MEMORY_PRESSURE_TAINT);
    }
    if !admits(template, &present) {
        return Counts::No;
    }
    let tolerations = template.tolerations.as_deref().unwrap_or_default();
    let Some(since) = node.not_ready_since else {
        let tolerated = |taint: &Taint| tolerations.iter().any(|toleration| is_tolerated(toleration, taint));
        // `NoExecute` is tolerated by every Pod for a time, with `DEFAULT` where it says nothing itself.
        let is_open = away.iter().all(|taint| taint.effect == "NoExecute" || tolerated(taint));
        return if is_open { Counts::Yes } else { Counts::Soon };
    };
    // Not a silence, but its own word.
    if node_says_stopped(&present) {
        return Counts::No;
    }
    let Some(patience) = patience(tolerations) else { return Counts::Yes };
    match since.checked_add(patience) {
        Some(until) if until <= now => Counts::No,
        Some(until) => Counts::Until(until),
        None => Counts::Yes,
    }
}

/// How long Pods with these tolerations stay on a Node that is away; none: for ever.
fn patience(tolerations: &[Toleration]) -> Option<Duration> {
    let of = |key: &str| {
        let taint = Taint { key: key.to_owned(), effect: "NoExecute".to_owned(), ..Taint::default() };
        let mut matching = tolerations.iter().filter(|t| is_tolerated(t, &taint)).peekable();
        if matching.peek().is_none() {
            return Some(DEFAULT);
        }
        // The shortest counts; one without a time is for ever (Kubernetes convention).
        matching.filter_map(|t| t.toleration_seconds).min().map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)))
    };
    AWAY.into_iter().filter_map(of).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    use super::*;
    use crate::{domain::BaseId, planning::Packed};

    fn judge(tolerations: &[Value], unschedulable: bool, not_ready_for: Option<u64>) -> Counts {
        let virtual_node = json!({ "key": "schedule.koupleless.io/virtual-node", "operator": "Exists" });
        let all: Vec<_> = [virtual_node].into_iter().chain(tolerations.iter().cloned()).collect();
        let template: PodSpec = serde_json::from_value(json!({ "containers": [], "tolerations": all })).unwrap();
        let away = json!({ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" });
        let ours = json!({ "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" });
        let taints = if not_ready_for.is_some() { vec![ours, away] } else { vec![ours] };
        let node: Node =
            serde_json::from_value(json!({ "spec": { "taints": taints, "unschedulable": unschedulable } })).unwrap();
        let node = Packed::new(&node);
        let now = Instant::now() + Duration::from_secs(100_000);
        let since = not_ready_for.and_then(|seconds| now.checked_sub(Duration::from_secs(seconds)));
        let base = BaseId::new("base-1");
        counts(&template, &PeerNode { base: &base, node: &node, not_ready_since: since }, now)
    }

    #[test]
    fn a_silence_counts_when_the_pods_would_leave_and_not_before() {
        let for_seconds = |seconds: i64| json!({ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        assert_eq!(judge(&[], false, None), Counts::Yes);
        assert!(matches!(judge(&[], false, Some(32)), Counts::Until(_)));
        assert!(matches!(judge(&[], false, Some(299)), Counts::Until(_)));
        assert_eq!(judge(&[], false, Some(300)), Counts::No);
        assert_eq!(judge(&[for_seconds(10)], false, Some(10)), Counts::No);
        assert!(matches!(judge(&[for_seconds(10)], false, Some(9)), Counts::Until(_)));
        assert!(matches!(judge(&[for_seconds(i64::MAX)], false, Some(9)), Counts::Until(_) | Counts::Yes));
        let everything = json!({ "operator": "Exists" });
        assert_eq!(judge(&[everything], false, Some(90_000)), Counts::Yes, "its Pods stay for ever");
    }

    #[test]
    fn a_node_that_the_scheduler_is_not_let_to_yet_counts_soon() {
        let judge = |tolerations: Value, taints: Value, since: Option<Instant>| {
            let template: PodSpec =
                serde_json::from_value(json!({ "containers": [], "tolerations": tolerations })).unwrap();
            let node: Node = serde_json::from_value(json!({ "spec": { "taints": taints } })).unwrap();
            let (base, node) = (BaseId::new("base-1"), Packed::new(&node));
            counts(&template, &PeerNode { base: &base, node: &node, not_ready_since: since }, Instant::now())
        };
        let new = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }]);
        let back = json!([{ "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" }]);
        let leaving = json!([{ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }]);
        assert_eq!(judge(json!([]), new.clone(), None), Counts::Soon);
        assert_eq!(judge(json!([]), back, None), Counts::Soon);
        assert_eq!(judge(json!([]), leaving, None), Counts::Yes);
        assert_eq!(judge(json!([{ "operator": "Exists" }]), new.clone(), None), Counts::Yes, "the scheduler may");
        assert!(matches!(judge(json!([]), new, Some(Instant::now())), Counts::Until(_)), "it is not Ready");
    }

    #[test]
    fn a_cordoned_node_counts_no_longer_at_once() {
        assert_eq!(judge(&[], true, None), Counts::No);
        assert_eq!(judge(&[], true, Some(5)), Counts::No);
    }

    #[test]
    fn a_base_with_low_metaspace_keeps_its_peer() {
        let judge = |taint: &str| {
            let template: PodSpec = serde_json::from_value(json!({ "containers": [] })).unwrap();
            let node = json!({ "spec": { "taints": [{ "key": taint, "effect": "NoSchedule" }] } });
            let node: Node = serde_json::from_value(node).unwrap();
            let (base, node) = (BaseId::new("base-1"), Packed::new(&node));
            counts(&template, &PeerNode { base: &base, node: &node, not_ready_since: None }, Instant::now())
        };
        assert_eq!(judge(MEMORY_PRESSURE_TAINT), Counts::Yes);
        assert_eq!(judge("maintenance"), Counts::No);
    }
}
