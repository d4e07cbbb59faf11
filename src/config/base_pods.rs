//! Options of bases' own Pods.

use clap::Args;

use super::kubelet::parse_namespace;

/// Which Pods are told whether their modules are there.
#[derive(Args, Debug)]
pub(super) struct BasePodArgs {
    /// Namespaces, comma-separated, in which a base's own Pod with the readiness gate modulet.koupleless.io/modules-ready is told whether its modules are Ready [default: none]
    #[arg(long, env = "MODULET_BASE_POD_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE,…", value_parser = parse_namespace)]
    pub(super) base_pod_namespaces: Vec<String>,
}
