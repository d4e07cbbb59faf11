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
    registry::{Metric, Registry, Unit},
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
        let to = &mut registry;
        let times = |shortest| Histogram::new(exponential_buckets(shortest, 2.0, 15));
        let metrics = Self {
            standing: Standing::new(to),
            kubelet: KubeletServed::new(to),
            commands: metric(to, "commands", "Commands sent to bases, by command"),
            received: metric(to, "messages", "Messages received from bases, by kind"),
            refused: metric(to, "messages_refused", "Messages that could not be used, by reason"),
            writes: metric(to, "api_writes", "Writes to the API server, by kind and result"),
            bases: metric(to, "bases", "Bases, by state"),
            rollouts: metric(to, "module_rollouts", "ModuleRollouts, by phase"),
            queues: metric(to, "queue_depth", "Entries waiting, by queue"),
            overflows: metric(to, "queue_overflows", "Entries refused by a full queue"),
            failures: metric(to, "module_failures", "Installs and uninstalls that failed"),
            broker_connected: metric(to, "broker_connected", "1 while connected to the broker, or where there is none"),
            leads: metric(to, "leads", "1 while this replica leads, 0 while it stands by"),
            leader_changes: metric(to, "leads_gained", "How often this replica came to lead"),
            contested: metric(to, "other_controller", "1 where another controller orders modules in this environment"),
            environments_elsewhere: metric(
                to,
                "environments_elsewhere",
                "Other environments whose bases beat on the broker while none of this one is heard",
            ),
            bases_suspected: metric(
                to,
                "bases_suspected",
                "1 while most bases are silent at once and nobody is given up",
            ),
            broker_errors: metric(to, "broker_errors", "Failed or lost connections to the broker"),
            watch_errors: metric(to, "watch_errors", "Watches of the API server that failed"),
            probes: metric(to, "probes", "Probes of modules, by kind and result"),
            pods: metric(to, "pods", "Pods on virtual Nodes"),
            nodes_with_pod_cidr: metric(
                to,
                "nodes_with_pod_cidr",
                "Bases' Nodes that were given a Pod CIDR, which they never use",
            ),
            bound_to_command: in_seconds(
                to,
                "bound_to_command",
                "From seeing a Pod bound to its first install command",
                times(0.001),
            ),
            reply_to_status: in_seconds(
                to,
                "reply_to_status",
                "From a base's list to the Pod status written",
                times(0.001),
            ),
            step: in_seconds(to, "step", "Deciding for one base", times(0.000_01)),
            lateness: in_seconds(to, "engine_lateness", "How late the last timer was served", Gauge::default()),
            registry,
        };
        metrics.begin_at_zero();
        metrics
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

/// A metric under its name, of which nothing is said yet.
fn metric<M: Metric + Clone + Default>(to: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    to.register(name, help, metric.clone());
    metric
}

/// One that counts seconds, which its name says too.
fn in_seconds<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
