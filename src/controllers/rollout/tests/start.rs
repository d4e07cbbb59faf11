//! Where every story begins.

use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::k8s::rollout::Phase;

pub(super) const BASES: usize = 8;

pub(super) fn spec(steps: Value) -> Value {
    json!({ "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" }, "steps": steps })
}

/// One base, then half of them, then all; somebody confirms.
pub(super) fn confirmed() -> Value {
    spec(json!([{ "replicas": 1, "pause": {} }, { "replicas": "50%", "pause": {} }, { "replicas": "100%" }]))
}

/// Every base has the first version.
pub(super) fn installed(surge: usize, unavailable: usize, spec: Value, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(BASES, surge, unavailable, spec, seed);
    cluster.runs(30);
    assert_eq!((cluster.with("1"), cluster.status().phase), (BASES, Some(Phase::Idle)));
    cluster
}
