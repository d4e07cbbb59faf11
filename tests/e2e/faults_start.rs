//! Faults around the start: proxies, variables that do nothing, an API server that is away, an environment that is not
//! the one that is meant.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use modulet_testkit::{
    base::{BaseOptions, Fleet, SimulatedBase},
    broker::Mosquitto,
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    ports::free_port,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    faults_help::lasts,
    stage::{SOON, log_line},
};

pub(crate) fn options(kubeconfig: &Path, broker: &Mosquitto, env: &str) -> ControllerOptions {
    ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), kubeconfig, broker.address()).env("ENV", env)
}

pub(crate) fn base_options(broker: &Mosquitto, env: &str) -> BaseOptions {
    let address = broker.address();
    BaseOptions {
        username: address.username.clone(),
        password: address.password.clone(),
        env: env.to_owned(),
        name: env.to_owned(),
        ..BaseOptions::new("base-1", address.port)
    }
}

pub(crate) async fn says(controller: &Controller, words: &[&str]) -> Result<String> {
    eventually(&format!("{words:?} in the log"), SOON, async || {
        log_line(controller, words).with_context(|| controller.log_text())
    })
    .await
}

pub(crate) async fn has_a_node(cluster: &ControlPlane, env: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster.client().await?);
    eventually("the Node", SOON, async || Ok(nodes.get(&format!("vnode.base-1.{env}")).await?)).await.map(drop)
}

/// A proxy that passes on what is asked for by CONNECT, all of it to one port of this machine, as one that knows names
/// that nobody else knows.
struct ConnectProxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ConnectProxy {
    async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heads = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to, Arc::clone(&heads)));
            }
        });
        Ok(Self { port, asked, task })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(mut client: TcpStream, to: u16, heads: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8(head)?);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A kubeconfig whose API server has a name that only a proxy knows (and that is in its certificate), and its port.
fn kubeconfig_with_name(cluster: &ControlPlane, directory: &Path) -> Result<(PathBuf, u16)> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(cluster.kubeconfig())?)?;
    let server = &mut config["clusters"][0]["cluster"]["server"];
    let port = server.as_str().and_then(|url| url.rsplit_once(':')).context("no port")?.1.parse()?;
    *server = json!(format!("https://kubernetes.default.svc:{port}"));
    let path = directory.join("kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok((path, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_it_starts_and_works_and_exceptions_are_honoured() -> Result<()> {
    const ENV: &str = "start-proxy";
    let cluster = ControlPlane::shared().await?;
    let (broker, directory) = (Mosquitto::start().await?, tempfile::tempdir()?);
    let (kubeconfig, port) = kubeconfig_with_name(cluster, directory.path())?;
    let proxy = ConnectProxy::start(port).await?;
    let options = options(&kubeconfig, &broker, ENV)
        .env("HTTPS_PROXY", format!("http://me:secret@127.0.0.1:{}", proxy.port))
        .env("NO_PROXY", "127.0.0.1,proxy.example.com,");
    let controller = Controller::start(options.clone()).await?;
    let _base = SimulatedBase::start(base_options(&broker, ENV)).await?;
    has_a_node(cluster, ENV).await?;
    let asked = proxy.asked();
    let connect = format!("CONNECT kubernetes.default.svc:{port} HTTP/1.1\r\n");
    assert!(asked.iter().all(|head| head.starts_with(&connect)), "{asked:?}");
    assert!(asked.iter().all(|head| head.to_lowercase().contains("proxy-authorization: basic ")), "{asked:?}");
    assert!(!controller.log_text().contains("secret"), "{}", controller.log_text());
    says(&controller, &["through a proxy", "127.0.0.1"]).await?;
    drop(controller);

    // The name is an exception now, and without the proxy nobody knows it.
    let before = proxy.asked().len();
    let controller = Controller::start_unready(options.env("NO_PROXY", "localhost,.svc,"))?;
    says(&controller, &["WARN", "cannot watch", "dns error"]).await?;
    assert_eq!(proxy.asked().len(), before, "it went through the proxy");
    Ok(())
}

/// As `make demo` and these tests on a machine whose way out is a proxy.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_this_machine_is_reached_without_a_proxy() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let options = options(cluster.kubeconfig(), &broker, "start-no-proxy");
    Controller::start(options.clone().env("HTTPS_PROXY", &nobody)).await?;
    Controller::start(options.env("https_proxy", &nobody).env("NO_PROXY", "a b,,:,")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_go_controller_that_do_nothing_are_named_in_one_line() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let options = options(cluster.kubeconfig(), &broker, "start-go");
    let set = options.clone().env("IS_CLUSTER", "true").env("TRACKER_CONFIG_PATH", "x").env("VNODE_WORKER_NUM", "8");
    let controller = Controller::start(set.env("KUBELET_PROXY_ENABLED", "false")).await?;
    let line = says(&controller, &["WARN", "variables of the Go controller", "IS_CLUSTER", "VNODE_WORKER_NUM"]).await?;
    assert!(line.contains("TRACKER_CONFIG_PATH (alert on Events"), "{line}");
    assert!(!controller.log_text().contains("KUBELET_PROXY"), "{}", controller.log_text());
    drop(controller);
    let controller = Controller::start(options.env("ENABLE_MQTT_TUNNEL", "true")).await?;
    assert!(!controller.log_text().contains("Go controller"), "{}", controller.log_text());
    Ok(())
}

/// CPU time of a process so far.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(')').context("odd stat")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on all of Linux' platforms
}

/// Bases say what there is to do, and nothing can be done before all watches have delivered.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_the_api_server_it_does_not_turn_in_circles() -> Result<()> {
    const FOR: Duration = Duration::from_secs(5);
    let cluster = ControlPlane::shared().await?;
    let (broker, directory) = (Mosquitto::start().await?, tempfile::tempdir()?);
    let (kubeconfig, _) = crate::starting::kubeconfig_at(cluster, directory.path(), free_port()?)?;
    let controller = Controller::start_unready(options(&kubeconfig, &broker, "start-idle"))?;
    says(&controller, &["connected to the broker"]).await?;
    let fleet = Fleet::start(BaseOptions { id: "fleet".into(), ..base_options(&broker, "start-idle") }, 20).await?;
    eventually("the heartbeats", SOON, async || {
        let heard = controller.metric("modulet_messages_total", &[("name", "heart")]).await?;
        ensure!(heard >= 20.0, "{heard}");
        Ok(())
    })
    .await?;
    let pid = controller.process()?.pid();
    let before = cpu_time(pid)?;
    lasts(FOR).await;
    let used = cpu_time(pid)?.saturating_sub(before);
    assert!(used < FOR / 10, "{used:?} of CPU in {FOR:?}");
    drop(fleet);
    Ok(())
}

/// A stock base says `default`, modulet has `dev`.
#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_heard_the_environments_that_beat_are_named() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let _base = SimulatedBase::start(base_options(&broker, "default")).await?;
    let controller = Controller::start(options(cluster.kubeconfig(), &broker, "start-elsewhere")).await?;
    let found = eventually("the environment", Duration::from_secs(90), async || {
        log_line(&controller, &["WARN", "no base of this environment is heard"]).context("no word")
    })
    .await?;
    assert!(found.contains("start-elsewhere") && found.contains("default (1 base)"), "{found}");
    assert!((controller.metric("modulet_environments_elsewhere", &[]).await? - 1.0).abs() < f64::EPSILON);
    // Nothing of it was taken for ours, and the connection stayed.
    for series in ["modulet_messages_total", "modulet_messages_refused_total", "modulet_broker_errors_total"] {
        let count = controller.metric(series, &[]).await?;
        assert!(count.abs() < f64::EPSILON, "{series} is {count}");
    }
    eventually("it has gone again", SOON, async || {
        let log = broker.log_tail(20);
        ensure!(log.contains("-elsewhere disconnected"), "{log}");
        Ok(())
    })
    .await
}
