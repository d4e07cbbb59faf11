//! Certificates of brokers and clients, and what is renewed without a restart.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::SimulatedBase,
    broker::{Clients, Mosquitto, Tls},
    control_plane::ControlPlane,
    controller::Controller,
    ports::free_port,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_start::{base_options, has_a_node, options, says},
    stage::SOON,
};

fn lines_with(controller: &Controller, words: &[&str]) -> usize {
    controller.log_text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

fn certificate(name: &str) -> String {
    format!("{}/tests/data/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A broker that shows this certificate, and where.
async fn broker_with(certificate_name: &str, further: &str) -> Result<(Mosquitto, u16)> {
    let port = free_port()?;
    let (crt, key) = (format!("{certificate_name}.crt"), format!("{certificate_name}.key"));
    let listener =
        format!("listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n{further}", certificate(&crt), certificate(&key));
    Ok((Mosquitto::start_configured(&listener).await?, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_that_is_in_the_file_is_the_brokers_by_whatever_name() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let (broker, port) = broker_with("self-signed", "").await?;
    let options = options(cluster.kubeconfig(), &broker, "start-self-signed").env("MQTT_PORT", port.to_string());
    Controller::start(options.clone().env("MQTT_CA_PATH", certificate("self-signed.crt"))).await?;

    // Another one's is not.
    let controller = Controller::start_unready(options.env("MQTT_CA_PATH", certificate("authority.crt")))?;
    says(&controller, &["WARN", "no connection to the broker", "invalid peer certificate", "MQTT_CA_PATH"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_work_are_told_with_what_to_do() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    for (shown, words) in [
        ("version-1-broker", &["X.509 version 1", "version 3", "subjectAltName"][..]),
        ("common-name", &["MQTT_BROKER", "subjectAltName", "common name does not count"]),
    ] {
        let (broker, port) = broker_with(shown, "").await?;
        let options = options(cluster.kubeconfig(), &broker, shown).env("MQTT_PORT", port.to_string());
        let options = options.env("MQTT_CA_PATH", certificate("authority.crt"));
        let controller = Controller::start_unready(options)?;
        let line = says(&controller, &["WARN", "no connection to the broker", "invalid peer certificate"]).await?;
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    // TLS, and nobody there who speaks it.
    let broker = Mosquitto::start().await?;
    let options = options(cluster.kubeconfig(), &broker, "start-no-tls");
    let controller = Controller::start_unready(options.env("MQTT_CA_PATH", certificate("authority.crt")))?;
    says(&controller, &["WARN", "no connection to the broker"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_version_1_is_shown_to_those_who_take_it() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let asks = format!("cafile {}\nrequire_certificate true\n", certificate("authority.crt"));
    let (broker, port) = broker_with("good", &asks).await?;
    let options = options(cluster.kubeconfig(), &broker, "start-version-1").env("MQTT_PORT", port.to_string());
    let options = options
        .env("MQTT_CA_PATH", certificate("authority.crt"))
        .env("MQTT_CLIENT_CRT_PATH", certificate("version-1-client.crt"))
        .env("MQTT_CLIENT_KEY_PATH", certificate("version-1-client.key"));
    Controller::start(options).await?;

    // In a kubeconfig, as files: the API server does not know its authority, and says so, so it was shown.
    let directory = tempfile::tempdir()?;
    let mut config: Value = serde_json::from_str(&fs::read_to_string(cluster.kubeconfig())?)?;
    let files = ["client-certificate", "client-key"].map(str::to_owned);
    config["users"][0]["user"] = json!({
        files[0].clone(): certificate("version-1-client.crt"),
        files[1].clone(): certificate("version-1-client.key"),
    });
    let path = directory.path().join("kubeconfig");
    fs::write(&path, config.to_string())?;
    let controller = Controller::start_unready(crate::faults_start::options(&path, &broker, "start-version-1"))?;
    says(&controller, &["WARN", "cannot watch", "Unauthorized"]).await?;
    drop(controller);

    // And inside of it: it does not start, and says what to do.
    config["users"][0]["user"] = json!({
        "client-certificate-data": base64(&fs::read(certificate("version-1-client.crt"))?),
        "client-key-data": base64(&fs::read(certificate("version-1-client.key"))?),
    });
    fs::write(&path, config.to_string())?;
    let controller = Controller::start_unready(crate::faults_start::options(&path, &broker, "start-version-1"))?;
    says(&controller, &["modulet: ", "X.509 version 1", "client-certificate and client-key (files)"]).await?;
    assert_eq!(controller.process()?.wait().await?.code(), Some(1));
    Ok(())
}

/// As a kubeconfig has it: what a Secret's data is written as.
fn base64(bytes: &[u8]) -> Value {
    json!(k8s_openapi::ByteString(bytes.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_authority_needs_no_file() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let (broker, port) = broker_with("good", "").await?;
    let options = options(cluster.kubeconfig(), &broker, "start-public").env("MQTT_PORT", port.to_string());
    let options = options.env("MODULET_MQTT_TLS", "true");
    Controller::start(options.clone().env("SSL_CERT_FILE", certificate("authority.crt"))).await?;
    let controller = Controller::start_unready(options)?;
    says(&controller, &["no connection to the broker", "not signed by", "that this system trusts"]).await?;
    Ok(())
}

/// Both brokers' files are in a directory of their own each.
fn copy_all(from: &Tls, to: &Tls) -> Result<()> {
    let directory = |tls: &Tls| tls.ca.parent().map(Path::to_owned).context("no directory");
    for name in ["ca.crt", "broker.crt", "broker.key", "client.crt", "client.key"] {
        fs::copy(directory(from)?.join(name), directory(to)?.join(name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_certificates_that_are_renewed_need_no_restart_and_each_cause_of_an_outage_is_said_once()
-> Result<()> {
    const ENV: &str = "start-rotate";
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start_tls(Clients::Certificates).await?;
    let renewed = Mosquitto::start_tls(Clients::Certificates).await?;
    let (tls, new) = (broker.tls().context("no TLS")?, renewed.tls().context("no TLS")?);
    let (name, password) = (tls.ca.with_file_name("name"), tls.ca.with_file_name("password"));
    fs::write(&name, "rotating\n")?;
    fs::write(&password, "the first\n")?;
    broker.stop().await?;
    broker.set_password("rotating", "the first").await?;
    broker.start_again().await?;
    let options = options(cluster.kubeconfig(), &broker, ENV)
        .env("MQTT_PORT", tls.port.to_string())
        .env("MQTT_CA_PATH", tls.ca.display().to_string())
        .env("MQTT_CLIENT_CRT_PATH", tls.certificate.display().to_string())
        .env("MQTT_CLIENT_KEY_PATH", tls.key.display().to_string())
        .env("MQTT_USERNAME", "")
        .env("MQTT_PASSWORD", "")
        .env("MQTT_USERNAME_FILE", name.display().to_string())
        .env("MQTT_PASSWORD_FILE", password.display().to_string());
    let controller = Controller::start(options).await?;
    let _base = SimulatedBase::start(base_options(&broker, ENV)).await?;
    has_a_node(cluster, ENV).await?;

    let errors = async || controller.metric("modulet_broker_errors_total", &[]).await;
    broker.stop().await?;
    says(&controller, &["no connection to the broker", "Connection refused"]).await?;
    copy_all(new, tls)?;
    broker.set_password("rotating", "the second").await?;
    broker.start_again().await?;
    let refused = ["no connection to the broker", "Connection refused, return code: `NotAuthorized`"];
    says(&controller, &refused).await?;
    broker.stop().await?;
    let before = errors().await?;
    eventually("two more tries", SOON, async || {
        ensure!(errors().await? >= before + 2.0);
        Ok(())
    })
    .await?;
    broker.start_again().await?;
    fs::write(&password, "the second")?;
    eventually("the connection", SOON, async || {
        ensure!(lines_with(&controller, &["INFO", "connected to the broker"]) == 2, "{}", controller.log_text());
        Ok(())
    })
    .await?;
    controller.wait_ready(SOON).await?;
    assert_eq!(lines_with(&controller, &["no connection to the broker", "os error"]), 1, "{}", controller.log_text());
    assert_eq!(lines_with(&controller, &refused), 1, "{}", controller.log_text());
    assert!(!controller.log_text().contains("the second"), "{}", controller.log_text());
    Ok(())
}
