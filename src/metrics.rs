//! All metrics in one place.

mod kubelet;
mod metaspace;
mod standing;

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

pub use kubelet::KubeletServed;
pub use metaspace::BaseMetaspace;
pub use standing::{PodsFor, Standing};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    result: &'static str,
}

/// The controller's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commands: Family<Named, Counter>,
    received: Family<Named, Counter>,
    refused: Family<Named, Counter>,
    writes: Family<Write, Counter>,
    bases: Family<Named, Gauge>,
    rollouts: Family<Named, Gauge>,
    queues: Family<Named, Gauge>,
    overflows: Family<Named, Counter>,
    failures: Family<Named, Counter>,
    /// 1 while connected to the broker, or where there is none.
    pub broker_connected: Gauge,
    /// 1 while this replica leads.
    pub leads: Gauge,
    /// How often it came to lead.
    pub leader_changes: Counter,
    /// 1 while most bases are silent at once and nobody is given up.
    pub bases_suspected: Gauge,
    /// 1 where another controller of the same environment is at work.
    pub contested: Gauge,
    /// Environments whose bases beat on this broker while nobody of our own is heard.
    pub environments_elsewhere: Gauge,
    /// Attempts to connect that failed, and connections lost.
    pub broker_errors: Counter,
    /// Watches that had to be started again.
    pub watch_errors: Counter,
    /// Pods on virtual Nodes.
    pub pods: Gauge,
    /// Bases' Nodes that were given a Pod CIDR, which they never use.
    pub nodes_with_pod_cidr: Gauge,
    probes: Family<Write, Counter>,
    bound_to_command: Histogram,
    reply_to_status: Histogram,
    step: Histogram,
    lateness: Gauge<f64, AtomicU64>,
    /// How things stand.
    pub standing: Standing,
    /// What the kubelet API does.
    pub kubelet: KubeletServed,
}

impl Metrics {
    /// Registers all of them.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("modulet");
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            commands: Family::default(),
            received: Family::default(),
            refused: Family::default(),
            writes: Family::default(),
            bases: Family::default(),
            rollouts: Family::default(),
            queues: Family::default(),
            overflows: Family::default(),
            failures: Family::default(),
            broker_connected: Gauge::default(),
            leads: Gauge::default(),
            leader_changes: Counter::default(),
            bases_suspected: Gauge::default(),
            contested: Gauge::default(),
            environments_elsewhere: Gauge::default(),
            broker_errors: Counter::default(),
            watch_errors: Counter::default(),
            pods: Gauge::default(),
            nodes_with_pod_cidr: Gauge::default(),
            probes: Family::default(),
            bound_to_command: seconds(),
            reply_to_status: seconds(),
            step: Histogram::new(exponential_buckets(0.000_01, 2.0, 15)),
            lateness: Gauge::default(),
            standing: Standing::new(&mut registry),
            kubelet: KubeletServed::new(&mut registry),
            registry: Registry::default(),
        };
        registry.register("commands", "Commands sent to bases, by command", metrics.commands.clone());
        registry.register("messages", "Messages received from bases, by kind", metrics.received.clone());
        registry.register("messages_refused", "Messages that could not be used, by reason", metrics.refused.clone());
        registry.register("api_writes", "Writes to the API server, by kind and result", metrics.writes.clone());
        registry.register("bases", "Bases, by state", metrics.bases.clone());
        registry.register("module_rollouts", "ModuleRollouts, by phase", metrics.rollouts.clone());
        registry.register("queue_depth", "Entries waiting, by queue", metrics.queues.clone());
        registry.register("queue_overflows", "Entries refused by a full queue", metrics.overflows.clone());
        registry.register("module_failures", "Installs and uninstalls that failed", metrics.failures.clone());
        registry.register(
            "broker_connected",
            "1 while connected to the broker, or where there is none",
            metrics.broker_connected.clone(),
        );
        registry.register("leads", "1 while this replica leads, 0 while it stands by", metrics.leads.clone());
        registry.register("leads_gained", "How often this replica came to lead", metrics.leader_changes.clone());
        let help = "1 where another controller orders modules in this environment";
        registry.register("other_controller", help, metrics.contested.clone());
        registry.register(
            "environments_elsewhere",
            "Other environments whose bases beat on the broker while none of this one is heard",
            metrics.environments_elsewhere.clone(),
        );
        let suspected = metrics.bases_suspected.clone();
        registry.register("bases_suspected", "1 while most bases are silent at once and nobody is given up", suspected);
        registry.register("broker_errors", "Failed or lost connections to the broker", metrics.broker_errors.clone());
        registry.register("watch_errors", "Watches of the API server that failed", metrics.watch_errors.clone());
        registry.register("probes", "Probes of modules, by kind and result", metrics.probes.clone());
        registry.register("pods", "Pods on virtual Nodes", metrics.pods.clone());
        let with_cidr = metrics.nodes_with_pod_cidr.clone();
        registry.register(
            "nodes_with_pod_cidr",
            "Bases' Nodes that were given a Pod CIDR, which they never use",
            with_cidr,
        );
        registry.register_with_unit(
            "bound_to_command",
            "From seeing a Pod bound to its first install command",
            Unit::Seconds,
            metrics.bound_to_command.clone(),
        );
        registry.register_with_unit(
            "reply_to_status",
            "From a base's list to the Pod status written",
            Unit::Seconds,
            metrics.reply_to_status.clone(),
        );
        registry.register_with_unit("step", "Deciding for one base", Unit::Seconds, metrics.step.clone());
        registry.register_with_unit(
            "engine_lateness",
            "How late the last timer was served",
            Unit::Seconds,
            metrics.lateness.clone(),
        );
        metrics.begin_at_zero();
        Self { registry, ..metrics }
    }

    /// Prometheus sees an increase only of what was there before.
    fn begin_at_zero(&self) {
        for queue in [
            "commands",
            "writes",
            "background",
            "record",
            "exchanges",
            "bases",
            "events",
            "events_of_one",
            "reports",
            "probes",
        ] {
            drop(self.overflows.get_or_create(&Named { name: queue }));
        }
        for kind in ["pod_status", "pod_delete", "node", "lease", "record"] {
            for result in ["ok", "refused", "unreachable"] {
                drop(self.writes.get_or_create(&Write { kind, result }));
            }
        }
        for reason in ["identity", "label", "size", "rate", "malformed", "retained", "address", "taken"] {
            drop(self.refused.get_or_create(&Named { name: reason }));
        }
        for command in ["installBiz", "uninstallBiz"] {
            drop(self.failures.get_or_create(&Named { name: command }));
        }
    }

    /// A command was handed to the broker's client.
    pub fn command_sent(&self, command: &'static str) {
        self.commands.get_or_create(&Named { name: command }).inc();
    }

    /// A message was understood.
    pub fn message_received(&self, kind: &'static str) {
        self.received.get_or_create(&Named { name: kind }).inc();
    }

    /// A message was not.
    pub fn message_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Named { name: reason }).inc();
    }

    /// A write to the API server ended.
    pub fn written(&self, kind: &'static str, result: &'static str) {
        self.writes.get_or_create(&Write { kind, result }).inc();
    }

    /// A queue was full.
    pub fn overflow(&self, queue: &'static str) {
        self.overflows.get_or_create(&Named { name: queue }).inc();
    }

    /// A probe ended.
    pub fn probed(&self, kind: &'static str, result: &'static str) {
        self.probes.get_or_create(&Write { kind, result }).inc();
    }

    /// An install or uninstall failed.
    pub fn module_failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Named { name: reason }).inc();
    }

    /// How many bases are in a state.
    pub fn set_bases(&self, state: &'static str, count: usize) {
        self.bases.get_or_create(&Named { name: state }).set(to_i64(count));
    }

    /// How many `ModuleRollout`s are in a phase.
    pub fn set_rollouts(&self, phase: &'static str, count: usize) {
        self.rollouts.get_or_create(&Named { name: phase }).set(to_i64(count));
    }

    /// How many entries wait in a queue.
    pub fn set_queue(&self, queue: &'static str, depth: usize) {
        self.queues.get_or_create(&Named { name: queue }).set(to_i64(depth));
    }

    /// A Pod's first install command was sent.
    pub fn observe_bound_to_command(&self, took: Duration) {
        self.bound_to_command.observe(took.as_secs_f64());
    }

    /// A status was written after a base's list.
    pub fn observe_reply_to_status(&self, took: Duration) {
        self.reply_to_status.observe(took.as_secs_f64());
    }

    /// One base was decided on.
    pub fn observe_step(&self, took: Duration) {
        self.step.observe(took.as_secs_f64());
    }

    /// A timer was served this late.
    pub fn set_lateness(&self, late: Duration) {
        self.lateness.set(late.as_secs_f64());
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
