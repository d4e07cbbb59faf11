//! All the parts: a control plane, a broker, two replicas behind proxies of their own, and bases.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex as StdMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use kube::Client;
use modulet_testkit::{
    audit::AuditLog,
    base::{Activation, BaseOptions, SimulatedBase},
    broker::{BrokerAddress, Mosquitto},
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    proxy::Proxy,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{event::FOREIGN, faults::BASES, strike::Component};

/// Environment, namespace and name of the bases.
pub(crate) const NAME: &str = "chaos";
/// How many replicas there are.
pub(crate) const REPLICAS: usize = 2;

/// A replica, and its ways.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) controller: Mutex<Controller>,
    pub(crate) to_broker: Proxy,
    pub(crate) to_api_server: Proxy,
}

/// A base, and where it says that it is.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) jvm: SimulatedBase,
    ip: StdMutex<(usize, String)>,
}

pub(crate) struct World {
    pub(crate) client: Client,
    // In the order in which they are to end.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) bases: Vec<Base>,
    pub(crate) broker: Mosquitto,
    pub(crate) cluster: ControlPlane,
    pub(crate) audit: AuditLog,
    /// What something is being done to.
    pub(crate) busy: StdMutex<HashSet<Component>>,
    directory: PathBuf,
}

impl World {
    /// Starts all but the bases; logs go to the directory.
    pub(crate) async fn start(directory: &Path, impatient: bool) -> Result<Self> {
        let accounts: Vec<_> = (0..REPLICAS).map(|number| format!("default:{}", replica_name(number))).collect();
        let audit = AuditLog::of(directory, &accounts.iter().map(String::as_str).collect::<Vec<_>>())?;
        // One of its own, that says who writes what.
        let cluster = ControlPlane::start(audit.control_plane()).await?;
        let client = cluster.client().await?;
        cluster.create_namespace(NAME).await?;
        let broker = Mosquitto::start_configured("log_type all").await?;
        for number in 0..REPLICAS {
            broker.set_password(&replica_name(number), "a password").await?;
        }
        broker.stop().await?;
        broker.start_again().await?;
        let mut replicas = Vec::new();
        for number in 0..REPLICAS {
            replicas.push(replica(&cluster, &broker, directory, number, impatient).await?);
        }
        let (bases, busy) = (Vec::new(), StdMutex::default());
        Ok(Self { client, replicas, bases, broker, cluster, audit, busy, directory: directory.to_owned() })
    }

    /// Starts the bases, each with a module of somebody else's.
    pub(crate) async fn start_bases(&mut self) -> Result<()> {
        for number in 0..BASES {
            let address = self.broker.address();
            let ip = address_of(number, 0);
            let options = BaseOptions {
                env: NAME.into(),
                name: NAME.into(),
                username: address.username.clone(),
                password: address.password.clone(),
                host: address.host.clone(),
                ip: ip.clone(),
                activation: match number % 5 {
                    0 | 1 => Activation::Default,
                    2 | 3 => Activation::ActivateNew,
                    _ => Activation::MultiActive,
                },
                ..BaseOptions::new(&format!("base-{number}"), address.port)
            };
            let jvm = SimulatedBase::start(options).await?;
            jvm.install_by_hand(FOREIGN, "1");
            self.bases.push(Base { jvm, ip: StdMutex::new((0, ip)) });
        }
        Ok(())
    }

    /// Starts replicas that ended, until it is dropped: as a kubelet does.
    pub(crate) async fn keep_replicas(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await; // a kubelet takes a moment, too
            for replica in &self.replicas {
                // Who holds it does something to it.
                if let Ok(mut controller) = replica.controller.try_lock() {
                    let _ = controller.start_again();
                }
            }
        }
    }

    /// Copies the logs that are elsewhere to the directory.
    pub(crate) async fn save_logs(&self) -> Result<()> {
        for (number, replica) in self.replicas.iter().enumerate() {
            let log = replica.controller.lock().await.log_path().to_owned();
            fs::copy(log, self.directory.join(format!("{}.log", replica_name(number))))?;
        }
        fs::copy(self.broker.log_path(), self.directory.join("broker.log"))?;
        Ok(())
    }
}

impl Base {
    /// Where it says that it is.
    pub(crate) fn ip(&self) -> String {
        self.ip.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// It is elsewhere after its next start.
    pub(crate) fn moves(&self, number: usize) {
        let mut ip = self.ip.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = ip.0 + 1;
        *ip = (moved, address_of(number, moved));
        self.jvm.set_ip_silently(&ip.1);
    }

    /// A new JVM, as soon as it finds the broker; somebody gives it the foreign module again.
    pub(crate) async fn restart(&self) -> Result<()> {
        eventually("a base that starts", Duration::from_secs(60), async || self.jvm.restart().await).await?;
        self.jvm.install_by_hand(FOREIGN, "1");
        Ok(())
    }
}

/// Name of a replica, its user at the broker and its service account.
pub(crate) fn replica_name(number: usize) -> String {
    format!("replica-{number}")
}

/// The number of the base that a Node is.
pub(crate) fn base_of(node: &str) -> Option<usize> {
    node.strip_prefix("vnode.base-")?.strip_suffix(&format!(".{NAME}"))?.parse().ok()
}

fn address_of(base: usize, moved: usize) -> String {
    format!("10.7.{}.{}", moved % 250, base + 1)
}

async fn replica(
    cluster: &ControlPlane,
    broker: &Mosquitto,
    directory: &Path,
    number: usize,
    impatient: bool,
) -> Result<Replica> {
    let name = replica_name(number);
    let path = cluster.kubeconfig_for_administrator(&name).await?;
    let mut config: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let server = &mut config["clusters"][0]["cluster"]["server"];
    let address = server.as_str().context("no server")?.trim_start_matches("https://").to_owned();
    let to_api_server = Proxy::start(0, &address).await?;
    *server = json!(format!("https://127.0.0.1:{}", to_api_server.port()));
    let kubeconfig = directory.join(format!("{name}.kubeconfig"));
    fs::write(&kubeconfig, config.to_string())?;
    let to_broker = Proxy::start(0, &format!("127.0.0.1:{}", broker.address().port)).await?;
    let address = BrokerAddress { port: to_broker.port(), username: name.clone(), ..broker.address().clone() };
    let mut options = ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), &kubeconfig, &address)
        .env("ENV", NAME)
        .env("CLIENT_ID", name)
        .env("MODULET_SUPERSEDED_TTL", "3")
        .env("MODULET_LOG", "info,modulet=debug");
    if impatient {
        options = options.env("MODULET_UNREACHABLE_AFTER", "10").env("MODULET_DEAD_AFTER", "10");
    }
    Ok(Replica { controller: Mutex::new(Controller::start(options).await?), to_broker, to_api_server })
}
