//! Whether a workload can be released in batches.

use k8s_openapi::api::apps::v1::{DaemonSetSpec, DeploymentSpec};

use super::{facts::Suits, order::size_of};

/// A Deployment keeps its old Pods until the new ones are Ready if it may not have fewer.
pub(super) fn deployment_suits(namespace: &str, name: &str, spec: &DeploymentSpec) -> Suits {
    let patch = |strategy: &str| {
        format!(
            "kubectl patch deployment {name} --namespace {namespace} --type merge --patch '{{\"spec\":{{\"strategy\":{strategy}}}}}'"
        )
    };
    let all_at_once = "{\"rollingUpdate\":{\"maxSurge\":\"100%\",\"maxUnavailable\":0}}";
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        let patch =
            patch("{\"type\":\"RollingUpdate\",\"rollingUpdate\":{\"maxSurge\":\"100%\",\"maxUnavailable\":0}}");
        return Suits::Refused(format!(
            "its strategy Recreate deletes all old Pods before there are new ones: {patch}"
        ));
    }
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    if rolling.and_then(|r| r.max_unavailable.as_ref()).is_none_or(|unavailable| size_of(unavailable, 100) > 0) {
        return Suits::Held(format!(
            "its maxUnavailable is not 0, so old Pods go before their bases have had their turn: {}",
            patch(all_at_once)
        ));
    }
    let replicas = spec.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0));
    let surge = rolling.and_then(|r| r.max_surge.as_ref());
    let surge = surge.map_or(replicas.div_ceil(4), |surge| size_of(surge, replicas));
    if surge >= replicas { Suits::ByBase } else { Suits::ByCount(surge.max(1)) }
}

/// A `DaemonSet` leaves it to others to delete its old Pods if it is told to.
pub(super) fn daemon_set_suits(namespace: &str, name: &str, spec: &DaemonSetSpec) -> Suits {
    let strategy = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    if strategy == Some("OnDelete") {
        return Suits::ByBase;
    }
    Suits::Refused(format!(
        "its update strategy is not OnDelete, so it deletes old Pods by itself: kubectl patch daemonset {name} \
         --namespace {namespace} --type merge --patch '{{\"spec\":{{\"updateStrategy\":{{\"type\":\"OnDelete\",\
         \"rollingUpdate\":null}}}}}}'"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(replicas: i32, strategy: Value) -> Suits {
        let spec = json!({ "replicas": replicas, "strategy": strategy, "selector": {}, "template": {} });
        deployment_suits("shop", "biz1", &serde_json::from_value(spec).unwrap())
    }

    fn rolling(surge: Value, unavailable: Value) -> Value {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
    }

    #[test]
    fn base_by_base_where_all_new_pods_come_at_once_and_no_old_one_goes_before() {
        for (surge, replicas, suits) in [
            (json!("100%"), 20, Suits::ByBase),
            (json!(20), 20, Suits::ByBase),
            (json!("30%"), 20, Suits::ByCount(6)),
            (json!("30%"), 3, Suits::ByCount(1)),
            (json!(1), 20, Suits::ByCount(1)),
            (json!(null), 20, Suits::ByCount(5)),
            (json!("100%"), 0, Suits::ByBase),
        ] {
            for unavailable in [json!(0), json!("0%")] {
                assert_eq!(deployment(replicas, rolling(surge.clone(), unavailable)), suits, "{surge} of {replicas}");
            }
        }
    }

    #[test]
    fn what_does_not_suit_says_what_to_do() {
        for held in [rolling(json!("100%"), json!("30%")), rolling(json!(1), json!(1)), json!({}), json!(null)] {
            let Suits::Held(words) = deployment(20, held.clone()) else { panic!("{held} is not held") };
            let patch = words.split_once("--patch '").unwrap().1.trim_end_matches('\'');
            let patch: Value = serde_json::from_str(patch).unwrap();
            assert_eq!(deployment(20, patch["spec"]["strategy"].clone()), Suits::ByBase);
            assert!(words.contains("kubectl patch deployment biz1 --namespace shop"), "{words}");
        }
        assert!(matches!(deployment(20, json!({ "type": "Recreate" })), Suits::Refused(_)));
        let daemons = |strategy: Value| {
            let spec = json!({ "updateStrategy": strategy, "selector": {}, "template": {} });
            daemon_set_suits("shop", "biz1", &serde_json::from_value(spec).unwrap())
        };
        assert_eq!(daemons(json!({ "type": "OnDelete" })), Suits::ByBase);
        assert!(matches!(daemons(json!({ "type": "RollingUpdate" })), Suits::Refused(_)));
        assert!(matches!(daemons(json!(null)), Suits::Refused(_)));
    }
}
