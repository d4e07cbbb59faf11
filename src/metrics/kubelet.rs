//! What the kubelet API does.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Write;

/// Of the kubelet API.
#[derive(Debug, Default)]
pub struct KubeletServed {
    requests: Family<Write, Counter>,
    /// Logs that it hands on now.
    pub logs: Gauge,
    /// Port-forwards that it hands on now.
    pub forwards: Gauge,
}

impl KubeletServed {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self::default();
        let help = "Requests to the kubelet API, by endpoint and result";
        registry.register("kubelet_requests", help, all.requests.clone());
        registry.register("kubelet_logs", "Logs that the kubelet API hands on now", all.logs.clone());
        let help = "Port-forwards that the kubelet API hands on now";
        registry.register("kubelet_port_forwards", help, all.forwards.clone());
        all
    }

    /// It answered.
    pub fn answered(&self, kind: &'static str, result: &'static str) {
        self.requests.get_or_create(&Write { kind, result }).inc();
    }
}
