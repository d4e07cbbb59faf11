//! The API of a kubelet, for the Nodes of bases: what `kubectl logs` and its like need next to `kubectl get pods`.
//!
//! One endpoint serves all Nodes: the paths for logs, exec and port-forward name namespace, Pod and container, never the
//! Node (Kubernetes convention), so every Node has this one's address. All replicas serve it: what it needs to know
//! stands in the cluster, and the engine is never asked. It runs on a thread and a runtime of its own: whoever reads logs
//! takes nothing of the engine's time.

mod access;
mod answer;
mod asked;
mod authorities;
mod base;
mod cache;
mod certificate;
mod entries;
mod handing;
mod kept;
mod logs;
mod pods;
mod port_forward;
mod questions;
mod review;
mod routes;
mod server;
mod service;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use futures::future::{Either, pending};
use tracing::error;

use crate::{
    api::{Clients, EventSink, Proxies},
    k8s::KubeletEndpoint,
    lead::Lead,
    metrics::Metrics,
    tasks::Tasks,
    tunnel::Topics,
};
use asked::Asking;
pub use asked::Place;
use authorities::Authorities;
use certificate::Certificate;
pub use certificate::Source;
use service::Kubelet;

/// How it is set up.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// What Nodes say of it.
    pub endpoint: KubeletEndpoint,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its certificate comes from.
    pub certificate: Source,
    /// Namespaces whose Pods may be bases of modules in other namespaces.
    pub base_namespaces: Vec<String>,
}

/// The port is open, and the certificate is good.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    certificate: Certificate,
    base_namespaces: Vec<String>,
}

/// What it needs of the process.
#[derive(Debug)]
pub struct Around {
    /// The API server, and the proxies to it.
    pub cluster: (kube::Config, Proxies),
    /// Which Nodes are ours.
    pub topics: Topics,
    /// Which replica writes.
    pub lead: Lead,
    /// Where Events go.
    pub events: EventSink,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// Reads the files and opens the port: what is wrong with them is told at the start.
///
/// # Errors
/// The port is in use, or a file is no good.
pub fn listen(config: &KubeletConfig) -> anyhow::Result<Listener> {
    let certificate = Certificate::new(config.endpoint.address, &config.certificate);
    let certificate = certificate.context("cannot serve the kubelet API")?;
    let socket = std::net::TcpListener::bind(config.listen).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = socket.with_context(|| {
        format!("cannot listen on {} for the kubelet API (MODULET_KUBELET_API_LISTEN)", config.listen)
    })?;
    Ok(Listener { socket, certificate, base_namespaces: config.base_namespaces.clone() })
}

/// Serves it for ever, on a thread that ends with `tasks`.
///
/// # Errors
/// There is no thread to be had.
pub fn start(tasks: &mut Tasks, listener: Listener, around: Around) -> anyhow::Result<()> {
    let started = tasks.spawn_thread("kubelet API", move || serve(listener, around));
    started.context("cannot start a thread for the kubelet API")
}

/// Clients belong to the runtime that makes them.
async fn serve(listener: Listener, around: Around) {
    let Around { cluster: (cluster, proxies), topics, lead, events, metrics } = around;
    let clients = match Clients::new(cluster, &proxies) {
        Ok(clients) => clients,
        Err(error) => return error!(%error, "the kubelet API has no client for the API server"),
    };
    let socket = match tokio::net::TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => return error!(%error, "the kubelet API cannot be served"),
    };
    let asking = match &listener.certificate {
        Certificate::Asked(shown, place, address) => {
            let (client, place, address, shown) = (clients.requests.clone(), place.clone(), *address, shown.clone());
            Either::Left(Asking { client, place, address, lead, events, shown }.run())
        }
        Certificate::Made(_) | Certificate::Files(_) => Either::Right(pending()),
    };
    let (authorities, reads) = Authorities::new(clients.requests.clone());
    let kubelet = Kubelet::new(clients, topics, listener.base_namespaces, metrics);
    tokio::select! {
        () = reads => {}
        () = asking => {}
        () = server::run(server::CONNECTIONS, socket, listener.certificate, authorities, Arc::new(kubelet)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn config() -> KubeletConfig {
        KubeletConfig {
            endpoint: KubeletEndpoint { address: [127, 0, 0, 1].into(), port: 10_250 },
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: Source::Made,
            base_namespaces: Vec::new(),
        }
    }

    fn around(cluster: kube::Config) -> Around {
        let (events, _) = EventSink::new(Arc::default());
        let (topics, lead) = (Topics::new("dev"), Lead::alone());
        Around { cluster: (cluster, Proxies::default()), topics, lead, events, metrics: Arc::default() }
    }

    #[tokio::test]
    async fn it_listens_as_long_as_the_tasks_live_and_its_end_is_theirs() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = listen(&config()).unwrap();
        let address = listener.socket.local_addr().unwrap();
        let taken = listen(&KubeletConfig { listen: address, ..config() }).unwrap_err().to_string();
        assert!(taken.contains("MODULET_KUBELET_API_LISTEN"), "{taken}");
        // An API server that is not there keeps nothing from being served.
        let cluster = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let mut tasks = Tasks::default();
        start(&mut tasks, listener, around(cluster.clone())).unwrap();
        tokio::net::TcpStream::connect(address).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), tasks.end()).await.is_err(), "it ended");
        drop(tasks);
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "it listens on");
            tokio::task::yield_now().await;
        }

        // One that cannot be served ends the task, and with it the process.
        let mut nowhere = cluster;
        nowhere.auth_info.client_certificate = Some("/nowhere.crt".to_owned());
        nowhere.auth_info.client_key = Some("/nowhere.key".to_owned());
        let mut tasks = Tasks::default();
        start(&mut tasks, listen(&config()).unwrap(), around(nowhere)).unwrap();
        let end = tokio::time::timeout(Duration::from_secs(10), tasks.end()).await.unwrap();
        assert_eq!((&*end.name, end.panic), ("kubelet API", None));
    }
}
