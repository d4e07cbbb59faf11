//! The command line and the environment.

mod mqtt;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser, builder::Resettable};

use crate::{check::Subcommand, domain::Settings, k8s::names, telemetry::LogFormat, tunnel::mqtt::MqttConfig};
use mqtt::MqttArgs;

/// The kubelet for modules: makes every Koupleless base a Kubernetes Node and every module a Pod on it.
///
/// Runs until it is told to stop. Every option can be given by the environment variable that stands
/// beside it; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// Kubeconfig file. Without it: the service account of the Pod it runs in, else ~/.kube/config
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", hide_env_values = true)]
    kubeconfig: Option<PathBuf>,

    /// Environment: part of the MQTT topics and of the Nodes' names, in lower case
    #[arg(long, env = "ENV", default_value = "dev", value_parser = parse_env)]
    env: String,

    /// Name of this controller: part of its MQTT client id and holder of its Nodes' Leases [default: random]
    #[arg(long, env = "CLIENT_ID", value_parser = parse_client_id)]
    client_id: Option<String>,

    /// Namespace the controller itself runs in: its record is there (Events about Nodes are in "default", as a kubelet's)
    #[arg(long, env = "NAMESPACE", default_value = "default")]
    namespace: String,

    #[command(flatten)]
    mqtt: MqttArgs,

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

    /// Give each Node a zone of its own (topology.kubernetes.io/zone), so that anti-affinity spreads modules one per base
    #[arg(long, env = "MODULET_ZONE_PER_BASE", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    zone_per_base: bool,

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
    pub instance: String,
    /// How to reach the broker; none: no tunnel.
    pub mqtt: Option<MqttConfig>,
    /// Address for health and metrics.
    pub http_address: SocketAddr,
    /// What to log.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Pods that fit on one base.
    pub max_pods: u32,
    /// A zone for each Node.
    pub zone_per_base: bool,
    /// The second taint.
    pub env_taint: bool,
    /// Times and limits of the core.
    pub settings: Settings,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        let client_id = args.client_id.unwrap_or_else(random_id);
        let mqtt = args.mqtt.config(&client_id);
        let unreachable_after = Duration::from_secs(args.unreachable_after);
        Self {
            kubeconfig: args.kubeconfig,
            env: args.env,
            namespace: args.namespace,
            instance: format!("{client_id}/{}", random_id()),
            client_id,
            mqtt,
            http_address: args.http_address,
            log: args.log,
            log_format: args.log_format,
            max_pods: args.max_pods,
            zone_per_base: args.zone_per_base,
            env_taint: args.env_taint,
            settings: Settings {
                unreachable_after,
                ask_after: unreachable_after.mul_f64(0.43),
                dead_after: Duration::from_secs(args.dead_after),
                superseded_ttl: Duration::from_secs(args.superseded_ttl),
                list_every: Duration::from_secs(args.list_every),
                ..Settings::default()
            },
        }
    }
}

fn parse_env(env: &str) -> Result<String, String> {
    let env = if env.is_empty() { "dev".to_owned() } else { env.to_lowercase() };
    let fits = env.len() <= 30 && !env.contains('.') && names::is_label_value(&env) && !env.contains('_');
    if fits { Ok(env) } else { Err("use up to 30 letters, digits and '-': it becomes part of Node names".to_owned()) }
}

fn parse_client_id(id: &str) -> Result<String, String> {
    if id.is_empty() {
        Err("it must not be empty; leave it out for a random one".to_owned())
    } else {
        Ok(id.to_owned())
    }
}

/// Unlike those of other controllers started at the same moment.
fn random_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("modulet-{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::whole_command().debug_assert();
    }

    #[test]
    fn a_subcommand_takes_the_options_on_both_sides_of_its_name() {
        let read = |words: &[&str]| {
            let matches = Args::whole_command().try_get_matches_from([&["modulet"], words].concat())?;
            let args = Args::from_arg_matches(&matches)?;
            let checks = args.subcommand().is_some();
            Ok::<_, clap::Error>((Config::from(args).env, checks))
        };
        assert_eq!(read(&["--env", "one"]).unwrap(), ("one".to_owned(), false));
        for words in [&["--env", "one", "check", "--strict"][..], &["check", "--strict", "--env", "one"]] {
            assert_eq!(read(words).unwrap(), ("one".to_owned(), true), "{words:?}");
        }
        for bad in [
            &["chekc"][..],
            &["check", "--env", "a.b"],
            &["check", "--listen", "x"],
            &["--strict"],
            &["check", "--service-account", "x"],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for bad in [
            ["--env", "a.b"],
            ["--env", "has space"],
            ["--mqtt-broker", "tcp://broker"],
            ["--mqtt-port", "0"],
            ["--mqtt-port", "x"],
            ["--http-address", "8080"],
            ["--client-id", ""],
            ["--mqtt-client-crt-path", "/crt"],
            ["--mqtt-client-key-path", "/key"],
            ["--unreachable-after", "0"],
        ] {
            assert!(Args::try_parse_from(["modulet"].iter().chain(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_of_its_options_switches_tls_on() {
        let config = |args: &[&str]| {
            let args = Args::try_parse_from([&["modulet"], args].concat()).unwrap();
            Config::from(args).mqtt.unwrap()
        };
        assert!(config(&[]).tls.is_none());
        assert!(config(&["--mqtt-tls"]).tls.unwrap().ca.is_none());
        assert!(config(&["--mqtt-ca-path", "/ca"]).tls.unwrap().ca.is_some());
        let identity = ["--mqtt-client-crt-path", "/crt", "--mqtt-client-key-path", "/key"];
        assert!(config(&identity).tls.unwrap().identity.is_some());
    }

    #[test]
    fn no_password_is_in_what_is_printed_for_developers() {
        let args = Args::try_parse_from(["modulet", "--mqtt-username", "u", "--mqtt-password", "do not show"]).unwrap();
        assert!(!format!("{:?}", Config::from(args)).contains("do not show"));
    }

    #[test]
    fn the_environment_is_folded_to_lower_case() {
        let config = Config::from(Args::try_parse_from(["modulet", "--env", "TEST"]).unwrap());
        assert_eq!(config.env, "test");
    }
}
