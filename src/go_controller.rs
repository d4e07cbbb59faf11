//! The variables of the Go module-controller, all of them: what stands in a manifest that was written for it must not
//! be passed over without a word.

/// Those that modulet has too, under the same name and with the same meaning.
pub const SUPPORTED: [&str; 15] = [
    "CLIENT_ID",
    "ENV",
    "NAMESPACE",
    "ENABLE_MQTT_TUNNEL",
    "MQTT_BROKER",
    "MQTT_PORT",
    "MQTT_USERNAME",
    "MQTT_PASSWORD",
    "MQTT_CLIENT_PREFIX",
    "MQTT_CA_PATH",
    "MQTT_CLIENT_CRT_PATH",
    "MQTT_CLIENT_KEY_PATH",
    "ENABLE_HTTP_TUNNEL",
    "HTTP_TUNNEL_LISTEN_PORT",
    "REPORT_HOOKS",
];

/// The others, and what to do instead.
pub const OTHERS: [(&str, &str); 8] = [
    ("IS_CLUSTER", "run several replicas of modulet instead: one of them leads, and takes thousands of bases"),
    ("WORKLOAD_MAX_LEVEL", "leave it out: no work is shared among controllers"),
    ("VNODE_WORKER_NUM", "leave it out: there are no workers to count"),
    ("KUBELET_PROXY_ENABLED", "kubectl logs is switched on by MODULET_KUBELET_API_ADDRESS"),
    ("KUBELET_PROXY_PORT", "see KUBELET_PROXY_ENABLED"),
    ("ENABLE_MODULE_DEPLOYMENT_CONTROLLER", "leave it out: peer Deployments are always looked after"),
    (
        "ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE",
        "leave it out: it is on for each Deployment with the label virtual-kubelet.koupleless.io/strategy: peer",
    ),
    ("TRACKER_CONFIG_PATH", "alert on Events and /metrics instead"),
];

/// Switched on or off, and off is how modulet is.
const SWITCHES: [&str; 2] = ["IS_CLUSTER", "KUBELET_PROXY_ENABLED"];
/// Switched on or off, and on is how modulet is.
const ALWAYS_ON: [&str; 2] = ["ENABLE_MODULE_DEPLOYMENT_CONTROLLER", "ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE"];

/// What is asked for and not done, in one line; none where nothing is. `value` is what a variable is set to.
pub fn not_supported(value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_asked = |name: &str, value: String| {
        // The Go controller knows "true" alone; all else is off.
        let is_on = value == "true";
        let as_we_are = SWITCHES.contains(&name) && !is_on || ALWAYS_ON.contains(&name) && is_on;
        !value.is_empty() && !as_we_are
    };
    let named: Vec<_> = OTHERS
        .iter()
        .filter(|(name, _)| value(name).is_some_and(|value| is_asked(name, value)))
        .map(|(name, advice)| format!("{name} ({advice})"))
        .collect();
    (!named.is_empty()).then(|| named.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Option<String> {
        not_supported(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_named_with_what_to_do_instead() {
        for (name, advice) in OTHERS {
            let value = if ALWAYS_ON.contains(&name) { "false" } else { "true" };
            assert_eq!(of(&[(name, value)]), Some(format!("{name} ({advice})")));
        }
        let all: Vec<_> = SWITCHES.iter().map(|name| (*name, "true")).collect();
        let line = of(&all).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(SWITCHES.iter().all(|name| line.contains(name)), "{line}");
    }

    #[test]
    fn what_is_as_modulet_is_or_not_set_is_not_named() {
        assert_eq!(of(&[]), None);
        for name in SWITCHES {
            assert_eq!(of(&[(name, "false")]), None);
            assert_eq!(of(&[(name, "")]), None);
            assert_eq!(of(&[(name, "True")]), None, "the Go controller takes it as off");
        }
        for name in ALWAYS_ON {
            assert_eq!(of(&[(name, "true")]), None);
        }
        for name in SUPPORTED {
            assert_eq!(of(&[(name, "x")]), None);
        }
    }
}
