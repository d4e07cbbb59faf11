//! The command line and the environment.

mod http_tunnel;
mod kubelet;
mod mqtt;
mod reports;
mod words;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser, builder::Resettable};
use ipnet::IpNet;

use crate::{
    api::Hooks,
    check::Subcommand,
    domain::{MetaspaceRules, Settings},
    k8s::{ModuleUrls, ProbeRules, UrlPrefix},
    kubelet::KubeletConfig,
    telemetry::LogFormat,
    tunnel::{AddressRanges, http::HttpConfig, mqtt::MqttConfig},
};
use http_tunnel::HttpTunnelArgs;
use kubelet::{KubeletArgs, parse_namespace};
use mqtt::MqttArgs;
use reports::ReportArgs;
pub use words::{SharedModuleNames, ZonePerBase};
use words::{parse_client_id, parse_env, random_id};

/// The kubelet for modules: makes every Koupleless base a Kubernetes Node and every module a Pod on it.
///
/// Runs until it is told to stop. Every option can be given by the environment variable that stands
/// beside it; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(version, about)]
#[expect(clippy::struct_excessive_bools, reason = "each is one option")]
pub struct Args {
    /// Kubeconfig file. Without it: the service account of the Pod it runs in, else ~/.kube/config
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", hide_env_values = true)]
    kubeconfig: Option<PathBuf>,

    /// Environment: part of the MQTT topics and of the Nodes' names, in lower case
    #[arg(long, env = "ENV", default_value = "dev", value_parser = parse_env)]
    env: String,

    /// Name of this replica: part of its MQTT client id and holder of its Nodes' Leases. Each has another [default: random]
    #[arg(long, env = "CLIENT_ID", value_parser = parse_client_id)]
    client_id: Option<String>,

    /// Namespace the controller itself runs in: its record is there (Events about Nodes are in "default", as a kubelet's)
    #[arg(long, env = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// Whether to lead only while no other replica of this environment does. Off: run one replica, and stop it before the next is started
    #[arg(long, env = "MODULET_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    leader_election: bool,

    /// Name of the Pod that it runs in: a container that starts anew leads at once if the one before it did
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: Option<String>,

    #[command(flatten)]
    mqtt: MqttArgs,

    #[command(flatten)]
    http_tunnel: HttpTunnelArgs,

    #[command(flatten)]
    kubelet: KubeletArgs,

    /// Namespaces, comma-separated, in which a base's own Pod with the readiness gate modulet.koupleless.io/modules-ready is told whether its modules are Ready [default: none]
    #[arg(long, env = "MODULET_BASE_POD_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE,…", value_parser = parse_namespace)]
    base_pod_namespaces: Vec<String>,

    /// Address for /healthz, /readyz and /metrics, and, from the loopback address only, /debug/bases
    #[arg(long, env = "MODULET_HTTP_ADDRESS", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    http_address: SocketAddr,

    /// What to log, as level or target=level, comma-separated: error, warn, info, debug, trace
    #[arg(long, env = "MODULET_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// How log lines look
    #[arg(long, env = "MODULET_LOG_FORMAT", default_value = "text", value_enum)]
    log_format: LogFormat,

    /// Pods that fit on one base
    #[arg(long, env = "MODULET_MAX_PODS", default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max_pods: u32,

    /// Give each Node a zone of its own (topology.kubernetes.io/zone), so that anti-affinity spreads modules one per base. auto: while no ordinary Node has a zone
    #[arg(
        long,
        env = "MODULET_ZONE_PER_BASE",
        default_value = "auto",
        value_enum,
        ignore_case = true,
        hide_possible_values = true,
        value_name = "auto|true|false"
    )]
    zone_per_base: ZonePerBase,

    /// Add the taint schedule.koupleless.io/node-env={env}:NoExecute, as newer Go controllers do
    #[arg(long, env = "MODULET_ENV_TAINT", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    env_taint: bool,

    /// Silence after which a base that was asked is called unreachable, in seconds
    #[arg(long, env = "MODULET_UNREACHABLE_AFTER", default_value_t = 28, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=600))]
    unreachable_after: u64,

    /// Absence after which a base's Node is deleted, in seconds
    #[arg(long, env = "MODULET_DEAD_AFTER", default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    dead_after: u64,

    /// How long a superseded Pod stays visible, in seconds
    #[arg(long, env = "MODULET_SUPERSEDED_TTL", default_value_t = 60, value_name = "SECONDS")]
    superseded_ttl: u64,

    /// How often each base is asked for its modules when nothing happens, in seconds
    #[arg(long, env = "MODULET_LIST_EVERY", default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    list_every: u64,

    /// What modules' URLs must begin with, comma-separated [default: all but the base's own files and addresses of clouds' metadata]
    #[arg(long, env = "MODULET_MODULE_URLS", value_delimiter = ',', value_name = "URL,…")]
    module_urls: Vec<UrlPrefix>,

    /// Ranges in which bases' addresses are, comma-separated; others are not believed, and over HTTP not listened to [default: all]
    #[arg(long, env = "MODULET_BASE_ADDRESSES", value_delimiter = ',', value_name = "CIDR,…")]
    base_addresses: Vec<IpNet>,

    /// Whether Pods of several namespaces may use one module name on one base: allow, and tell; or refuse the later one
    #[arg(
        long,
        env = "MODULET_SHARED_MODULE_NAMES",
        default_value = "allow",
        value_enum,
        hide_possible_values = true,
        value_name = "allow|refuse"
    )]
    shared_module_names: SharedModuleNames,

    /// Share of its limit in percent above which a base's metaspace is low: its Node is under memory pressure until it is 10 below that
    #[arg(long, env = "MODULET_METASPACE_LOW", default_value_t = 95, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(50..=100))]
    metaspace_low: u64,

    /// Whether a module that will not fit into what is left of its base's metaspace waits. Off: it is installed all the same
    #[arg(long, env = "MODULET_METASPACE_WAIT", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    metaspace_wait: bool,

    /// Whether metrics have metaspace and classes of each base: four series for each
    #[arg(long, env = "MODULET_METRICS_PER_BASE", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    metrics_per_base: bool,

    /// Whether the startup, readiness and liveness probes of module Pods are done, as by a kubelet. Off: an Event names them
    #[arg(long, env = "MODULET_PROBES", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    probes: bool,

    /// Hosts, comma-separated, that a probe may name beside the base's address; *: all. Whoever may create Pods can have modulet connect to them
    #[arg(long, env = "MODULET_PROBE_HOSTS", value_delimiter = ',', value_name = "HOST,…")]
    probe_hosts: Vec<String>,

    #[command(flatten)]
    reports: ReportArgs,

    #[command(subcommand)]
    command: Option<Subcommand>,
}

impl Args {
    /// Reads command line and environment; ends the process where they can't be understood.
    /// A variable that is empty counts as not set: that is how manifests leave something out.
    pub fn from_command_line() -> Self {
        let command = Self::whole_command().mut_args(|arg| {
            let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
            if empty { arg.env(Resettable::Reset) } else { arg }
        });
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// A subcommand takes all options too, before its name and behind it.
    fn whole_command() -> clap::Command {
        Self::command().mut_args(|arg| arg.global(true))
    }

    /// What to do instead of running, if anything.
    pub fn subcommand(&self) -> Option<Subcommand> {
        self.command.clone()
    }
}

/// The configuration, checked, with nothing left open.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kubeconfig file, if not the default places.
    pub kubeconfig: Option<PathBuf>,
    /// Environment, in lower case.
    pub env: String,
    /// Its own namespace.
    pub namespace: String,
    /// Name of this controller.
    pub client_id: String,
    /// Tells this process from all others, also from one with the same client id.
    pub process: String,
    /// Lead only while no other replica does.
    pub leader_election: bool,
    /// The Pod that it runs in.
    pub pod_name: Option<String>,
    /// How to reach the broker; none: no tunnel.
    pub mqtt: Option<MqttConfig>,
    /// How bases reach us over HTTP; none: not at all.
    pub http_tunnel: Option<HttpConfig>,
    /// The API of a kubelet for bases' Nodes; none: there is none.
    pub kubelet: Option<KubeletConfig>,
    /// Namespaces in which bases' own Pods are told whether their modules are there.
    pub base_pod_namespaces: Vec<String>,
    /// Address for health and metrics.
    pub http_address: SocketAddr,
    /// What to log.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Pods that fit on one base.
    pub max_pods: u32,
    /// A zone for each Node.
    pub zone_per_base: ZonePerBase,
    /// The second taint.
    pub env_taint: bool,
    /// Times and limits of the core.
    pub settings: Settings,
    /// Where modules may come from.
    pub module_urls: ModuleUrls,
    /// Which probes are done.
    pub probes: ProbeRules,
    /// Figures of each base are metrics.
    pub metrics_per_base: bool,
    /// Where bases are.
    pub base_addresses: AddressRanges,
    /// Module names of several namespaces.
    pub shared_module_names: SharedModuleNames,
    /// Who is told of failures.
    pub hooks: Option<Hooks>,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        let client_id = args.client_id.unwrap_or_else(random_id);
        let mqtt = args.mqtt.config(&client_id, &args.env);
        let base_addresses = AddressRanges::new(args.base_addresses);
        let http_tunnel = args.http_tunnel.config(&base_addresses);
        let unreachable_after = Duration::from_secs(args.unreachable_after);
        Self {
            kubeconfig: args.kubeconfig,
            env: args.env,
            kubelet: args.kubelet.config(&args.namespace),
            namespace: args.namespace,
            process: random_id(),
            client_id,
            leader_election: args.leader_election,
            pod_name: args.pod_name,
            mqtt,
            http_tunnel,
            base_pod_namespaces: args.base_pod_namespaces,
            http_address: args.http_address,
            log: args.log,
            log_format: args.log_format,
            max_pods: args.max_pods,
            zone_per_base: args.zone_per_base,
            env_taint: args.env_taint,
            module_urls: ModuleUrls::new(args.module_urls),
            probes: ProbeRules { on: args.probes, hosts: args.probe_hosts },
            metrics_per_base: args.metrics_per_base,
            base_addresses,
            shared_module_names: args.shared_module_names,
            hooks: args.reports.hooks(),
            settings: Settings {
                unreachable_after,
                ask_after: unreachable_after.mul_f64(0.43),
                dead_after: Duration::from_secs(args.dead_after),
                superseded_ttl: Duration::from_secs(args.superseded_ttl),
                list_every: Duration::from_secs(args.list_every),
                metaspace: MetaspaceRules { low_above: args.metaspace_low, waits: args.metaspace_wait },
                ..Settings::default()
            },
        }
    }
}

#[cfg(test)]
mod tests;
