//! Starting and stopping while what it needs is away, and ways to log in at the broker.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{BaseOptions, SimulatedBase},
    broker::{BrokerAddress, Clients, Mosquitto, Tls},
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    ports::free_port,
    process::Signal,
    proxy::Proxy,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, log_line};

fn options(kubeconfig: &Path, broker: &BrokerAddress, env: &str) -> ControllerOptions {
    ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), kubeconfig, broker).env("ENV", env)
}

fn base_options(broker: &BrokerAddress, env: &str) -> BaseOptions {
    BaseOptions {
        username: broker.username.clone(),
        password: broker.password.clone(),
        env: env.to_owned(),
        name: env.to_owned(),
        ..BaseOptions::new("base-1", broker.port)
    }
}

/// A kubeconfig whose API server is at another port of this machine, and the real one's address.
pub(crate) fn kubeconfig_at(cluster: &ControlPlane, directory: &Path, port: u16) -> Result<(PathBuf, String)> {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(cluster.kubeconfig())?)?;
    let server = &mut config["clusters"][0]["cluster"]["server"];
    let real = server.as_str().and_then(|s| s.strip_prefix("https://")).context("no server")?.to_owned();
    *server = json!(format!("https://127.0.0.1:{port}"));
    let path = directory.join("kubeconfig");
    std::fs::write(&path, config.to_string())?;
    Ok((path, real))
}

/// Waits until there is a line with these words in the log.
async fn says(controller: &Controller, words: &[&str]) -> Result<String> {
    eventually(&format!("{words:?} in the log"), SOON, async || {
        log_line(controller, words).with_context(|| controller.log_text())
    })
    .await
}

/// It lives, is not ready, and says what it waits for.
async fn waits_for(controller: &Controller, what: &str) -> Result<()> {
    eventually("the answer of /readyz", SOON, async || {
        controller.get("/healthz").await?;
        let error = controller.get("/readyz").await.err().context("it is ready")?.to_string();
        ensure!(error.contains("503") && error.contains("waiting for:") && error.contains(what), "{error}");
        Ok(())
    })
    .await
}

/// SIGTERM ends it in order, and quickly.
async fn ends_quickly(controller: &Controller) -> Result<()> {
    let process = controller.process()?;
    let asked = Instant::now();
    process.signal(Signal::TERM)?;
    let exit = process.wait().await?;
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    assert_eq!(exit.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_broker_and_begins_when_it_comes() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    broker.stop().await?;
    let options = options(cluster.kubeconfig(), broker.address(), "start-broker");
    let mut controller = Controller::start_unready(options)?;
    says(&controller, &["watches have delivered"]).await?;
    waits_for(&controller, "MQTT broker").await?;
    says(&controller, &["WARN", "no connection to the broker", "Connection refused"]).await?;
    ends_quickly(&controller).await?;

    controller.kill9().await?;
    let restarted = async {
        broker.start_again().await?;
        let _base = SimulatedBase::start(base_options(broker.address(), "start-broker")).await?;
        eventually("the Node", SOON, async || {
            let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(cluster.client().await?);
            Ok(nodes.get("vnode.base-1.start-broker").await?)
        })
        .await
    };
    let (ready, node) = tokio::join!(controller.restart(), restarted);
    ready?;
    node?;
    ends_quickly(&controller).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_api_server_and_begins_when_it_comes() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let directory = tempfile::tempdir()?;
    let port = free_port()?;
    let (kubeconfig, real) = kubeconfig_at(cluster, directory.path(), port)?;
    let broker = Mosquitto::start().await?;
    let start = || Controller::start_unready(options(&kubeconfig, broker.address(), "start-api"));

    let controller = start()?;
    waits_for(&controller, "API server watches").await?;
    says(&controller, &["WARN", "cannot watch", "Connection refused"]).await?;
    says(&controller, &["connected to the broker"]).await?;
    ends_quickly(&controller).await?;

    let controller = start()?;
    waits_for(&controller, "API server watches").await?;
    let base = SimulatedBase::start(base_options(broker.address(), "start-api")).await?;
    let forwarder = Proxy::start(port, &real).await?;
    controller.wait_ready(SOON).await?;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(cluster.client().await?);
    eventually("the Node", SOON, async || Ok(nodes.get("vnode.base-1.start-api").await?)).await?;
    assert!(base.connected());
    let complaints = controller.log_text().lines().filter(|line| line.contains("cannot watch")).count();
    assert!(complaints <= modulet::api::Watched::COUNT, "one for each watch: {}", controller.log_text());
    drop(forwarder);
    ends_quickly(&controller).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_it_does_not_get_ready() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let options = options(cluster.kubeconfig(), broker.address(), "start-password").env("MQTT_PASSWORD", "wrong");
    let controller = Controller::start_unready(options)?;
    let line = says(&controller, &["WARN", "no connection to the broker", "NotAuthorized"]).await?;
    assert!(!line.contains("wrong"), "the password is in the log: {line}");
    waits_for(&controller, "MQTT broker").await?;
    ends_quickly(&controller).await
}

fn over_tls(kubeconfig: &Path, broker: &Mosquitto, tls: &Tls, env: &str) -> ControllerOptions {
    options(kubeconfig, broker.address(), env)
        .env("MQTT_PORT", tls.port.to_string())
        .env("MQTT_CA_PATH", tls.ca.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_and_an_unknown_authority_is_refused() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let (broker, stranger) =
        (Mosquitto::start_tls(Clients::Passwords).await?, Mosquitto::start_tls(Clients::Passwords).await?);
    let (tls, other) = (broker.tls().context("no TLS")?, stranger.tls().context("no TLS")?);
    let options = over_tls(cluster.kubeconfig(), &broker, tls, "start-tls");
    let controller = Controller::start(options.clone()).await?;
    ends_quickly(&controller).await?;

    let controller = Controller::start_unready(options.env("MQTT_CA_PATH", other.ca.display().to_string()))?;
    says(&controller, &["WARN", "no connection to the broker", "invalid peer certificate"]).await?;
    waits_for(&controller, "MQTT broker").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_where_it_is_asked_for() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start_tls(Clients::Certificates).await?;
    let tls = broker.tls().context("no TLS")?;
    let without = over_tls(cluster.kubeconfig(), &broker, tls, "start-certificate");
    let with = without
        .clone()
        .env("MQTT_CLIENT_CRT_PATH", tls.certificate.display().to_string())
        .env("MQTT_CLIENT_KEY_PATH", tls.key.display().to_string());
    let controller = Controller::start(with).await?;
    ends_quickly(&controller).await?;

    let controller = Controller::start_unready(without)?;
    says(&controller, &["WARN", "no connection to the broker", "ertificate"]).await?;
    waits_for(&controller, "MQTT broker").await
}
