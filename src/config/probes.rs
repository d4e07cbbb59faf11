//! Options of probes.

use clap::Args;

use crate::k8s::ProbeRules;

/// What is probed.
#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    /// Whether the startup, readiness and liveness probes of module Pods are done, as by a kubelet. Off: an Event names them
    #[arg(long, env = "MODULET_PROBES", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    probes: bool,

    /// Hosts, comma-separated, that a probe may name beside the base's address; *: all. Whoever may create Pods can have modulet connect to them
    #[arg(long, env = "MODULET_PROBE_HOSTS", value_delimiter = ',', value_name = "HOST,…")]
    probe_hosts: Vec<String>,
}

impl ProbeArgs {
    /// Which probes are done.
    pub(super) fn rules(self) -> ProbeRules {
        ProbeRules { on: self.probes, hosts: self.probe_hosts }
    }
}
