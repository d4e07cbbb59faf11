//! Builds every part, joins them, and takes them down in order.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{info, warn};

use crate::{
    api::{self, EventSink, Reader, Writer},
    config::Config,
    engine::{self, Edges},
    http::{self, Readiness},
    metrics::Metrics,
    tunnel::{Topics, mqtt},
};

/// Requests to the API server at a time, for Pods and Nodes. Each is a connection of its own (HTTP/1).
const WRITES: usize = 32;
/// The same for Leases and ledgers: they must neither wait behind a burst of others nor hold it up.
const BACKGROUND_WRITES: usize = 8;
/// Facts that wait for the engine. Full: the edge waits, and with it the broker or the API server.
const FACTS: usize = 4096;
/// Writes that wait. One for each Pod and Node is the most there can be at a time; a full queue is tried again.
const WAITING_WRITES: usize = 32 * 1024;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Something that waiting does not mend: a port in use, a file that can't be read, no cluster configured.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // rustls wants to be told which cryptography to use; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new());
    let readiness = Arc::new(Readiness::default());
    let listener = http::listen(config.http_address).await?;
    let client = client(&config).await?;
    let (watched_to, watched) = mpsc::channel(FACTS);
    let (written_to, written) = mpsc::channel(FACTS);
    let (read_to, read) = mpsc::channel(FACTS);
    let (tunnel_to, tunnel) = mpsc::channel(FACTS);
    let topics = Topics::new(&config.env);
    let commands = match &config.mqtt {
        Some(mqtt) => Some(mqtt::start(mqtt, topics, tunnel_to, Arc::clone(&metrics))?),
        None => {
            warn!("no tunnel is switched on: no base can be reached (ENABLE_MQTT_TUNNEL)");
            None
        }
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        env = config.env,
        client_id = config.client_id,
        http = %listener.local_addr()?,
        "modulet starts"
    );
    api::watch(&client, &config.namespace, &config.env, &watched_to, &metrics);
    let writer = |name, permits| {
        Writer::start(name, client.clone(), permits, WAITING_WRITES, written_to.clone(), Arc::clone(&metrics))
    };
    let statuses = writer("writes", WRITES);
    let edges = Edges {
        tunnel,
        watched,
        written,
        read,
        reader: Reader::start(client.clone(), read_to, Arc::clone(&metrics)),
        commands,
        background: writer("background", BACKGROUND_WRITES),
        record: writer("record", 1),
        events: EventSink::start(client.clone(), config.client_id.clone(), statuses.open(), Arc::clone(&metrics)),
        writer: statuses,
    };

    let (stop, stopped) = watch::channel(false);
    let mut http_stopped = stopped.clone();
    let http = tokio::spawn(http::serve(listener, Arc::clone(&metrics), Arc::clone(&readiness), async move {
        let _ = http_stopped.changed().await;
    }));
    let engine = tokio::spawn(engine::run(config, edges, metrics, readiness, stopped));

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM, stopping"),
        _ = interrupt.recv() => info!("SIGINT, stopping"),
    }
    stop.send_replace(true);
    engine.await.context("the engine failed")?;
    // Open connections of scrapers are not waited for.
    let _ = tokio::time::timeout(Duration::from_millis(200), http).await;
    info!("stopped");
    Ok(())
}

async fn client(config: &Config) -> anyhow::Result<Client> {
    let kube_config = match &config.kubeconfig {
        Some(path) => {
            let kubeconfig =
                Kubeconfig::read_from(path).with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?
        }
        None => {
            kube::Config::infer().await.context("no cluster: set KUBECONFIG, or run in a Pod with a service account")?
        }
    };
    Client::try_from(kube_config).context("cannot make a Kubernetes client")
}
