//! Pods that are to be spread over zones.

use k8s_openapi::api::core::v1 as core;

use super::names;

/// Whether the Pod asks to be kept apart from others by zone. Where bases have no zone of their own, that keeps nobody
/// apart.
pub fn spreads_over_zones(pod: &core::Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let apart = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = apart.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let preferred = apart.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let constraints = spec.topology_spread_constraints.iter().flatten();
    required
        .map(|term| &term.topology_key)
        .chain(preferred.map(|weighted| &weighted.pod_affinity_term.topology_key))
        .chain(constraints.map(|constraint| &constraint.topology_key))
        .any(|key| key == names::ZONE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_way_to_spread_is_seen() {
        let term = |key: &str| json!({ "topologyKey": key, "labelSelector": {} });
        let anti = |how: &str, terms: Value| json!({ "affinity": { "podAntiAffinity": { how: terms } } });
        let spread = |key: &str| json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway" }] });
        let (hard, soft) =
            ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
        for (mut spec, expected) in [
            (json!({}), false),
            (anti(hard, json!([term(names::HOSTNAME)])), false),
            (anti(hard, json!([term(names::HOSTNAME), term(names::ZONE)])), true),
            (anti(soft, json!([{ "weight": 1, "podAffinityTerm": term(names::ZONE) }])), true),
            (spread(names::HOSTNAME), false),
            (spread(names::ZONE), true),
            (json!({ "affinity": { "podAffinity": { hard: [term(names::ZONE)] } } }), false),
        ] {
            spec["containers"] = json!([]);
            let pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            assert_eq!(spreads_over_zones(&pod), expected, "{spec}");
        }
    }
}
