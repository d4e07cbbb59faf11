//! Builds every part, joins them, and takes them down in order.

use std::sync::Arc;

use anyhow::Context;
use futures::future::OptionFuture;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use crate::{
    api::{self, Candidate, Clients, EventSink, Gated, Place, Proxies, Reader, ReportSink, Writer},
    config::{Config, ZonePerBase},
    engine::{self, Commands, Edges},
    go_controller,
    http::{self, Readiness},
    kubelet,
    lead::Lead,
    metrics::Metrics,
    picture::Pictures,
    probes::Prober,
    tasks::{TaskEnd, Tasks},
    tunnel::{
        Topics, http as http_tunnel,
        mqtt::{self, Way},
    },
};

/// Requests to the API server at a time, for Pods and Nodes. Each is a connection of its own (HTTP/1).
const WRITES: usize = 32;
/// The same for Leases and ledgers: they must neither wait behind a burst of others nor hold it up.
const BACKGROUND_WRITES: usize = 8;
/// Facts that wait for the engine. Full: the edge waits, and with it the broker or the API server.
const FACTS: usize = 4096;
/// Writes that wait. One for each Pod and Node is the most there can be at a time; a full queue is tried again.
const WAITING_WRITES: usize = 32 * 1024;

/// The task that ends first when the process is told to,
const ENGINE: &str = "engine";
/// and the one that ends after it.
const ELECTION: &str = "election";

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Something that waiting does not mend: a port in use, a file that can't be read, no cluster configured, or a part
/// that ended though it must not.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // rustls wants to be told which cryptography to use; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = http::listen(config.http_address).await?;
    let heartbeats = OptionFuture::from(config.http_tunnel.as_ref().map(http_tunnel::listen)).await.transpose()?;
    let kubelet = config.kubelet.as_ref().map(kubelet::listen).transpose()?;
    let proxies = Proxies::from_env();
    let cluster = cluster(&config).await?;
    let clients = Clients::new(cluster.clone(), &proxies).context("cannot make a Kubernetes client")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let env = config.env.clone();
    let mut parts = Parts::start(config, listener, heartbeats, &clients, &proxies)?;
    if let Some(listener) = kubelet {
        let (lead, events, metrics) = (parts.lead.clone(), parts.events.clone(), Arc::clone(&parts.metrics));
        let around = kubelet::Around { cluster: (cluster, proxies), topics: Topics::new(&env), lead, events, metrics };
        kubelet::start(&mut parts.tasks, listener, around)?;
    }
    let told = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    parts.run(told).await?;
    info!("stopped");
    Ok(())
}

/// All that runs.
struct Parts {
    tasks: Tasks,
    metrics: Arc<Metrics>,
    lead: Lead,
    events: EventSink,
    stop: watch::Sender<bool>,
    release: watch::Sender<bool>,
}

/// Why it ended by itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Task(#[from] TaskEnd),
    /// As leaders of Kubernetes' own components do: a process that led has much in its hands that is void now.
    #[error("another replica leads: {0}")]
    Lost(String),
}

impl Parts {
    fn start(
        config: Config,
        listener: TcpListener,
        heartbeats: Option<http_tunnel::Listener>,
        clients: &Clients,
        proxies: &Proxies,
    ) -> anyhow::Result<Self> {
        let (config, metrics) = (Arc::new(config), Arc::new(Metrics::new()));
        let mut tasks = Tasks::default();
        let (watched_to, watched) = mpsc::channel(FACTS);
        let (written_to, written) = mpsc::channel(FACTS);
        let (read_to, read) = mpsc::channel(FACTS);
        let (tunnel_to, tunnel) = mpsc::channel(FACTS);
        let (probed_to, probed) = mpsc::channel(FACTS);
        let topics = Topics::new(&config.env);
        let lead = if config.leader_election { Lead::standby() } else { Lead::alone() };
        // Where there is no broker it is as if it were always there.
        metrics.broker_connected.set(i64::from(config.mqtt.is_none()));
        let (broker, has_broker) = watch::channel(config.mqtt.is_none());
        let mut commands = Commands::default();
        if let Some(mqtt) = &config.mqtt {
            let (topics, metrics, way) = (topics.clone(), Arc::clone(&metrics), Way { lead: lead.clone(), broker });
            let started = mqtt::start(&mut tasks, mqtt, topics, tunnel_to.clone(), metrics, way)?;
            commands.mqtt = Some(started);
        }
        if let Some(listener) = heartbeats {
            let (metrics, lead) = (Arc::clone(&metrics), lead.clone());
            commands.http = Some(http_tunnel::start(&mut tasks, listener, topics, tunnel_to, metrics, lead));
        }
        let no_tunnel = commands.mqtt.is_none() && commands.http.is_none();
        if no_tunnel {
            warn!(
                "no tunnel is switched on, no base can be reached: leave out ENABLE_MQTT_TUNNEL or set it to true, or set \
                 ENABLE_HTTP_TUNNEL to true"
            );
        }
        let readiness = Arc::new(Readiness { no_tunnel, ..Readiness::default() });
        info!(
            version = env!("CARGO_PKG_VERSION"),
            env = config.env,
            client_id = config.client_id,
            http = %listener.local_addr()?,
            "modulet starts"
        );
        if let Some(variables) = go_controller::not_supported(|name| std::env::var(name).ok()) {
            warn!(variables, "these variables of the Go controller do nothing here");
        }
        let zones = config.zone_per_base == ZonePerBase::Auto;
        let place = Place { namespace: &config.namespace, env: &config.env, zones };
        api::watch(&mut tasks, &clients.watches, place, &lead, &watched_to, &metrics);
        let client = &clients.requests;
        let gated = Gated::new(client.clone(), lead.clone());
        let mut writer = |name, permits| {
            let (report, metrics) = (written_to.clone(), Arc::clone(&metrics));
            Writer::start(&mut tasks, name, gated.clone(), permits, WAITING_WRITES, report, metrics)
        };
        let (statuses, background) = (writer("writes", WRITES), writer("background", BACKGROUND_WRITES));
        let record = writer("record", 1);
        let (instance, open) = (config.client_id.clone(), statuses.open());
        let reports = config.hooks.clone().map(|hooks| {
            let (lead, metrics) = (lead.clone(), Arc::clone(&metrics));
            ReportSink::start(&mut tasks, hooks, &config.env, proxies.clone(), lead, metrics)
        });
        let reports = reports.transpose()?;
        let events = EventSink::start(&mut tasks, gated.clone(), instance, open, Arc::clone(&metrics));
        let edges = Edges {
            tunnel,
            watched,
            probed,
            written,
            read,
            reader: Reader::start(&mut tasks, client.clone(), read_to, Arc::clone(&metrics)),
            commands,
            prober: Prober::start(&mut tasks, probed_to, Arc::clone(&metrics), lead.clone())?,
            background,
            record,
            events: events.clone(),
            reports,
            writer: statuses,
        };
        let (stop, stopped) = watch::channel(false);
        let (release, released) = watch::channel(false);
        if config.leader_election {
            let candidate = Candidate {
                env: config.env.clone(),
                namespace: config.namespace.clone(),
                replica: config.client_id.clone(),
                process: config.process.clone(),
                pod: config.pod_name.clone(),
                is_marked: config.http_tunnel.is_some(),
            };
            let (client, lead, metrics) = (client.clone(), lead.clone(), Arc::clone(&metrics));
            tasks.spawn(ELECTION, api::elect(candidate, client, lead, has_broker, released, events.clone(), metrics));
        } else {
            metrics.leads.set(1);
        }
        let pictures = Arc::new(Pictures::default());
        let serving = http::serve(listener, Arc::clone(&metrics), Arc::clone(&readiness), Arc::clone(&pictures));
        tasks.spawn("HTTP server", async {
            if let Err(error) = serving.await {
                error!(%error, "health and metrics cannot be served");
            }
        });
        let engine = engine::run(config, edges, Arc::clone(&metrics), readiness, pictures, lead.clone(), stopped);
        tasks.spawn(ENGINE, engine);
        Ok(Self { tasks, metrics, lead, events, stop, release })
    }

    /// Runs until it is `told` to stop, and then for as long as the engine needs to save what a restart would lose.
    /// Then the lead is given back.
    async fn run(&mut self, told: impl Future<Output = &'static str>) -> Result<(), Ended> {
        tokio::select! {
            biased;
            to = self.lead.lost() => return Err(Ended::Lost(to)),
            end = self.tasks.end() => return Err(end.into()),
            signal = told => info!("{signal}, stopping"),
        }
        self.stop.send_replace(true);
        self.tasks.end_of(ENGINE).await?;
        self.release.send_replace(true);
        Ok(self.tasks.end_of(ELECTION).await?)
    }
}

/// The cluster that the configuration names.
pub(crate) async fn cluster(config: &Config) -> anyhow::Result<kube::Config> {
    match &config.kubeconfig {
        Some(path) => {
            let options = KubeConfigOptions::default();
            let named = async { kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await };
            named.await.with_context(|| format!("cannot use the kubeconfig {}", path.display()))
        }
        None => {
            kube::Config::infer().await.context("no cluster: set KUBECONFIG, or run in a Pod with a service account")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use clap::Parser;

    use super::*;
    use crate::config::Args;

    /// All parts, with an API server and a broker that are not there.
    async fn parts() -> Parts {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::from(Args::parse_from(["modulet", "--mqtt-broker", "127.0.0.1", "--mqtt-port", "1"]));
        config.http_address = "127.0.0.1:0".parse().unwrap();
        let listener = http::listen(config.http_address).await.unwrap();
        let clients =
            Clients::new(kube::Config::new("http://127.0.0.1:1".parse().unwrap()), &Proxies::default()).unwrap();
        Parts::start(config, listener, None, &clients, &Proxies::default()).unwrap()
    }

    #[tokio::test]
    async fn whichever_part_ends_the_process_ends_and_says_which() {
        let names = parts().await.tasks.names();
        let watches = names.iter().filter(|name| name.starts_with("watch of ")).count();
        assert_eq!(watches, api::Watched::COUNT);
        let writers = ["writer of background", "writer of events", "writer of record", "writer of writes"];
        for other in [ENGINE, ELECTION, "HTTP server", "probes", "reader", "tunnel", "version of the API server"]
            .iter()
            .chain(&writers)
        {
            assert!(names.iter().any(|name| name == other), "{other} is not among {names:?}");
        }
        assert_eq!(names.len(), watches + 11, "{names:?}");
        for name in &names {
            let mut parts = parts().await;
            parts.tasks.break_off(name);
            let end = tokio::time::timeout(Duration::from_secs(5), parts.run(pending())).await;
            let Ended::Task(end) = end.expect("at once").unwrap_err() else { panic!("another reason") };
            assert_eq!(end.name, *name);
        }
    }

    #[tokio::test]
    async fn what_is_told_to_stop_stops_in_order() {
        let mut parts = parts().await;
        assert_eq!(parts.run(async { "SIGTERM" }).await, Ok(()));
    }
}
