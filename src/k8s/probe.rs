//! The probes of a container, and those of them that are not done, with the reason.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use k8s_openapi::{
    api::core::v1::{self as core, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::limits;
use crate::domain::{Probe, ProbeAction, Probes};

/// Which probes are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRules {
    /// Any.
    pub on: bool,
    /// Hosts that a probe may name beside the base's address; `*`: all.
    pub hosts: Vec<String>,
}

impl Default for ProbeRules {
    fn default() -> Self {
        Self { on: true, hosts: Vec::new() }
    }
}

impl ProbeRules {
    /// Whoever writes a Pod must not choose what modulet talks to from where it is.
    fn allow(&self, host: &str, ip: Option<&str>) -> bool {
        ip == Some(host) || self.hosts.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(host))
    }
}

/// The probes of a container that are done; `ip` is the base's address. None: it has none of them.
pub(super) fn probes(container: &core::Container, rules: &ProbeRules, ip: Option<&str>) -> Option<Arc<Probes>> {
    let done = |probe: &Option<core::Probe>| probe.as_ref().and_then(|p| read(p, container, rules, ip).ok());
    let probes = Probes {
        startup: done(&container.startup_probe),
        readiness: done(&container.readiness_probe),
        liveness: done(&container.liveness_probe),
    };
    (probes != Probes::default()).then(|| Arc::new(probes))
}

/// Probes of a container that are not done: which, and why.
pub(super) fn refused(
    container: &core::Container,
    rules: &ProbeRules,
    ip: Option<&str>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let why = all.map(|(field, probe)| Some((field, read(probe.as_ref()?, container, rules, ip).err()?)));
    why.into_iter().flatten()
}

/// A probe with a kubelet's defaults, or why there is none.
fn read(
    probe: &core::Probe,
    container: &core::Container,
    rules: &ProbeRules,
    ip: Option<&str>,
) -> Result<Probe, &'static str> {
    if !rules.on {
        return Err("probes are switched off by MODULET_PROBES");
    }
    let action = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(get), ..) => http_get(get, container)?,
        (None, Some(socket), _) => {
            ProbeAction::TcpSocket { host: named(socket.host.as_ref()), port: port(&socket.port, container)? }
        }
        (None, None, Some(grpc)) => {
            let service = grpc.service.clone().unwrap_or_default();
            if service.len() > limits::URL_MAX {
                return Err("grpc.service is too long");
            }
            ProbeAction::Grpc { port: port(&IntOrString::Int(grpc.port), container)?, service }
        }
        _ if probe.exec.is_some() => return Err("exec: a module has no process to run it in"),
        _ => return Err("it says not how"),
    };
    if let ProbeAction::HttpGet { host: Some(host), .. } | ProbeAction::TcpSocket { host: Some(host), .. } = &action
        && !rules.allow(host, ip)
    {
        return Err("host: only the base's address, or one of MODULET_PROBE_HOSTS");
    }
    Ok(Probe {
        action,
        initial_delay: limits::wait(probe.initial_delay_seconds.unwrap_or(0).into()),
        period: Duration::from_secs(count(probe.period_seconds, 10).into()).min(limits::WAIT_MAX),
        timeout: Duration::from_secs(count(probe.timeout_seconds, 1).into()).min(limits::PROBE_TIMEOUT_MAX),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
    })
}

fn http_get(get: &HTTPGetAction, container: &core::Container) -> Result<ProbeAction, &'static str> {
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.len() > limits::URL_MAX || PathAndQuery::try_from(path.as_str()).is_err() {
        return Err("httpGet.path is too long, or none");
    }
    let headers: Vec<_> =
        get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect();
    let size: usize = headers.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
    let is_one = |(name, value): &(String, String)| {
        HeaderName::try_from(name.as_str()).is_ok() && HeaderValue::try_from(value.as_str()).is_ok()
    };
    if size > limits::PROBE_HEADERS_MAX || !headers.iter().all(is_one) {
        return Err("httpGet.httpHeaders are too long, or none");
    }
    Ok(ProbeAction::HttpGet {
        tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: named(get.host.as_ref()),
        port: port(&get.port, container)?,
        path,
        headers,
    })
}

fn named(host: Option<&String>) -> Option<String> {
    host.filter(|host| !host.is_empty()).cloned()
}

/// A number, or the name of one of the container's own ports.
fn port(port: &IntOrString, container: &core::Container) -> Result<u16, &'static str> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or("no port of the container has that name")
}

fn count(count: Option<i32>, default: u32) -> u32 {
    count.and_then(|c| u32::try_from(c).ok()).filter(|c| *c > 0).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(readiness: Value) -> core::Container {
        serde_json::from_value(json!({
            "name": "biz1", "ports": [{ "name": "web", "containerPort": 8080 }], "readinessProbe": readiness,
        }))
        .unwrap()
    }

    fn readiness(probe: Value, hosts: &[&str]) -> Result<Probe, &'static str> {
        let rules = ProbeRules { on: true, hosts: hosts.iter().map(|h| (*h).to_owned()).collect() };
        let container = container(probe);
        let ip = Some("10.0.0.1");
        let why = refused(&container, &rules, ip).next().map(|(_, why)| why);
        let probe = probes(&container, &rules, ip).and_then(|probes| probes.readiness.clone());
        probe.ok_or_else(|| why.unwrap_or("nothing is said"))
    }

    #[test]
    fn what_is_left_out_is_as_a_kubelet_has_it() {
        let probe = readiness(json!({ "httpGet": { "port": "web" } }), &[]).unwrap();
        let action =
            ProbeAction::HttpGet { tls: false, host: None, port: 8080, path: "/".to_owned(), headers: Vec::new() };
        assert_eq!((probe.action, probe.initial_delay), (action, Duration::ZERO));
        assert_eq!((probe.period, probe.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
        let all = json!({
            "httpGet": {
                "port": 8443, "path": "ready?full=1", "scheme": "HTTPS", "host": "10.0.0.1",
                "httpHeaders": [{ "name": "Host", "value": "shop.example.com" }],
            },
            "initialDelaySeconds": 5, "periodSeconds": 2, "timeoutSeconds": 600, "successThreshold": 2,
            "failureThreshold": 1,
        });
        let probe = readiness(all, &[]).unwrap();
        let ProbeAction::HttpGet { tls, host, port, path, headers } = &probe.action else { panic!("{probe:?}") };
        assert_eq!((*tls, host.as_deref(), *port, path.as_str()), (true, Some("10.0.0.1"), 8443, "/ready?full=1"));
        assert_eq!(*headers, [("Host".to_owned(), "shop.example.com".to_owned())]);
        assert_eq!((probe.initial_delay, probe.period), (Duration::from_secs(5), Duration::from_secs(2)));
        assert_eq!((probe.timeout, probe.success_threshold, probe.failure_threshold), (Duration::from_secs(60), 2, 1));
    }

    #[test]
    fn the_health_of_a_grpc_service_is_asked_for() {
        let action = |grpc: Value| readiness(json!({ "grpc": grpc }), &[]).unwrap().action;
        let all = ProbeAction::Grpc { port: 9000, service: "shop.Cart".to_owned() };
        assert_eq!(action(json!({ "port": 9000, "service": "shop.Cart" })), all);
        let least = ProbeAction::Grpc { port: 9000, service: String::new() };
        assert_eq!(action(json!({ "port": 9000 })), least);
    }

    #[test]
    fn what_is_not_done_says_why() {
        for (probe, words) in [
            (json!({ "exec": { "command": ["true"] } }), "exec"),
            (json!({ "grpc": { "port": 0 } }), "port"),
            (json!({ "grpc": { "port": 1, "service": "x".repeat(3000) } }), "grpc.service"),
            (json!({}), "how"),
            (json!({ "tcpSocket": { "port": "other" } }), "port"),
            (json!({ "tcpSocket": { "port": 0 } }), "port"),
            (json!({ "tcpSocket": { "port": 65_536 } }), "port"),
            (json!({ "tcpSocket": { "port": 1, "host": "10.0.0.2" } }), "MODULET_PROBE_HOSTS"),
            (json!({ "httpGet": { "port": 1, "host": "localhost" } }), "MODULET_PROBE_HOSTS"),
            (json!({ "httpGet": { "port": 1, "path": "/a b" } }), "path"),
            (json!({ "httpGet": { "port": 1, "path": "x".repeat(3000) } }), "path"),
            (json!({ "httpGet": { "port": 1, "httpHeaders": [{ "name": "a b", "value": "" }] } }), "Headers"),
            (json!({ "httpGet": { "port": 1, "httpHeaders": [{ "name": "a", "value": "b\nc" }] } }), "Headers"),
            (
                json!({ "httpGet": { "port": 1, "httpHeaders": [{ "name": "a", "value": "b".repeat(9000) }] } }),
                "Headers",
            ),
        ] {
            let why = readiness(probe.clone(), &[]).unwrap_err();
            assert!(why.contains(words), "{probe}: {why}");
        }
        for hosts in [["Other.example.com"], ["*"]] {
            assert!(readiness(json!({ "tcpSocket": { "port": 1, "host": "other.example.com" } }), &hosts).is_ok());
        }
        let off = ProbeRules { on: false, ..ProbeRules::default() };
        let container = container(json!({ "tcpSocket": { "port": 1 } }));
        assert_eq!(probes(&container, &off, None), None);
        assert!(refused(&container, &off, None).any(|(_, why)| why.contains("MODULET_PROBES")));
    }
}
