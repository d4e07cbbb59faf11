//! How things stand at present: what waits, for how long, and what is not as it should be.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{metaspace::Metaspaces, to_i64};

/// The commit that it was built from, where whoever builds it says so.
const REVISION: Option<&str> = option_env!("MODULET_REVISION");
/// Why a base is refused: its id can't be a name, something else of it can't be a label, there are too many, or new ones
/// come too fast.
const REFUSED: [&str; 4] = ["identity", "label", "too_many", "too_fast"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct For {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Pods of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodsFor {
    /// How many.
    pub count: usize,
    /// For how long the first of those that should be Ready has not been.
    pub oldest: Duration,
}

/// What is looked at every two seconds, and what is counted beside it.
#[derive(Debug, Default)]
pub struct Standing {
    pods: Family<For, Gauge>,
    waits: Family<For, Seconds>,
    foreign: Gauge,
    lists: Seconds,
    leases: Seconds,
    refused: Family<For, Counter>,
    reports: Family<Ended, Counter>,
    /// How much metaspace bases use.
    pub metaspace: Metaspaces,
}

impl Standing {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self { metaspace: Metaspaces::new(registry), ..Self::default() };
        let revision = REVISION.filter(|revision| !revision.is_empty()).unwrap_or("unknown");
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", revision)];
        registry.register("build", "What runs", Info::new(build.to_vec()));
        registry.register("pods_by_reason", "Pods on virtual Nodes, by what they wait for", all.pods.clone());
        registry.register_with_unit(
            "oldest_wait",
            "For how long the first of the Pods that wait for this has not been Ready",
            Unit::Seconds,
            all.waits.clone(),
        );
        registry.register("foreign_pods", "Pods on virtual Nodes that are no modules", all.foreign.clone());
        registry.register_with_unit(
            "oldest_list",
            "How long ago the reachable base that said nothing for longest listed its modules",
            Unit::Seconds,
            all.lists.clone(),
        );
        registry.register_with_unit(
            "oldest_lease_renewal",
            "How long ago the Node's Lease that has waited for longest was renewed",
            Unit::Seconds,
            all.leases.clone(),
        );
        registry.register("bases_refused", "Messages of bases that get no Node, by reason", all.refused.clone());
        registry.register("reports", "Failures reported to hooks, by result", all.reports.clone());
        // Prometheus sees an increase only of what was there before.
        REFUSED.iter().for_each(|reason| drop(all.refused.get_or_create(&For { reason })));
        ["ok", "failed"].iter().for_each(|result| drop(all.reports.get_or_create(&Ended { result })));
        all
    }

    /// How many Pods wait for what. All reasons there are, so that none stays as it was.
    pub fn set_pods(&self, reason: &'static str, pods: PodsFor) {
        self.pods.get_or_create(&For { reason }).set(to_i64(pods.count));
        self.waits.get_or_create(&For { reason }).set(pods.oldest.as_secs_f64());
    }

    /// How many Pods are no modules.
    pub fn set_foreign(&self, count: usize) {
        self.foreign.set(to_i64(count));
    }

    /// How old the oldest list and the oldest renewal are.
    pub fn set_oldest(&self, list: Duration, lease: Duration) {
        self.lists.set(list.as_secs_f64());
        self.leases.set(lease.as_secs_f64());
    }

    /// A base that is not known was refused.
    pub fn base_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&For { reason }).inc();
    }

    /// A hook took a report, or did not.
    pub fn reported(&self, ok: bool) {
        self.reports.get_or_create(&Ended { result: if ok { "ok" } else { "failed" } }).inc();
    }
}
