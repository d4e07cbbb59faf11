//! What is released: a module, its version, and how many.

use serde_json::{Value, json};

use super::world::NAME;

/// How a version behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// It starts slowly.
    Slow,
    /// It does not start.
    Broken,
}

/// A workload as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// None: a `DaemonSet`, on all bases.
    pub(crate) replicas: Option<usize>,
    pub(crate) version: u32,
    pub(crate) kind: Kind,
}

impl Workload {
    /// `Deployment` or `DaemonSet`.
    pub(crate) fn resource(&self) -> &'static str {
        if self.replicas.is_some() { "Deployment" } else { "DaemonSet" }
    }

    /// As one would write it.
    pub(crate) fn object(&self) -> Value {
        let Self { name, version, .. } = self;
        let mark = match self.kind {
            Kind::Good => "",
            Kind::Slow => "slow-900-",
            Kind::Broken => "broken-",
        };
        let url = format!("https://modules.example.com/{name}-{mark}{version}-ark-biz.jar");
        let version = version.to_string();
        let labels = json!({
            "module-controller.koupleless.io/component": "module",
            "module.koupleless.io/name": name, "module.koupleless.io/version": version, "app": name,
        });
        let mut pod = json!({
            "containers": [{ "name": name, "image": url, "env": [{ "name": "BIZ_VERSION", "value": version }] }],
            "nodeSelector": { "base.koupleless.io/name": NAME },
            "terminationGracePeriodSeconds": 3,
            "tolerations": [{
                "key": "schedule.koupleless.io/virtual-node", "operator": "Equal", "value": "True", "effect": "NoExecute",
            }],
        });
        let mut spec = json!({ "selector": { "matchLabels": { "app": name } } });
        if let Some(replicas) = self.replicas {
            spec["replicas"] = json!(replicas);
            spec["strategy"] = json!({ "rollingUpdate": { "maxSurge": "30%", "maxUnavailable": "25%" } });
            // At most one of each version on a base.
            pod["affinity"] = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": { "matchLabels": {
                    "module.koupleless.io/name": name, "module.koupleless.io/version": version,
                } },
                "topologyKey": "kubernetes.io/hostname",
            }] } });
        } else {
            spec["updateStrategy"] = json!({ "rollingUpdate": { "maxUnavailable": 4 } });
        }
        spec["template"] = json!({ "metadata": { "labels": labels }, "spec": pod });
        json!({ "apiVersion": "apps/v1", "kind": self.resource(), "metadata": { "name": name }, "spec": spec })
    }
}
