//! What the kubelet API does.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Write, metric};

/// Of the kubelet API.
#[derive(Debug)]
pub struct KubeletServed {
    requests: Family<Write, Counter>,
    /// Logs that it hands on now.
    pub logs: Gauge,
    /// Port-forwards that it hands on now.
    pub forwards: Gauge,
}

impl KubeletServed {
    pub(super) fn new(to: &mut Registry) -> Self {
        Self {
            requests: metric(to, "kubelet_requests", "Requests to the kubelet API, by endpoint and result"),
            logs: metric(to, "kubelet_logs", "Logs that the kubelet API hands on now"),
            forwards: metric(to, "kubelet_port_forwards", "Port-forwards that the kubelet API hands on now"),
        }
    }

    /// It answered.
    pub fn answered(&self, kind: &'static str, result: &'static str) {
        self.requests.get_or_create(&Write { kind, result }).inc();
    }
}
