//! What is said of a broker.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use modulet_testkit::{
    base::{BaseOptions, SimulatedBase},
    broker::{BrokerAddress, Clients, Mosquitto},
    control_plane::ControlPlane,
};

use super::check;

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_the_broker_refuses_is_named() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let kubeconfig = cluster.kubeconfig();
    let ask = async |broker: &BrokerAddress, more: &[(&str, &str)]| {
        check(kubeconfig, broker, "check-broker", &["--listen", "0"], more).await
    };
    let broker = Mosquitto::start().await?;
    let said = ask(broker.address(), &[("MQTT_PASSWORD", "hunter-7")]).await?;
    said.has(&["[PROBLEM]", "refuses the login", "user name or password is wrong"])
        .has(&["MQTT_PASSWORD"])
        .ends_with(1);
    said.has_not("hunter-7");
    broker.stop().await?;
    let said = ask(broker.address(), &[]).await?;
    said.has(&["[PROBLEM]", "cannot be reached", "onnection refused"]).ends_with(1);
    let said = ask(broker.address(), &[("MQTT_BROKER", "no-such-host.invalid")]).await?;
    said.has(&["[PROBLEM] no-such-host.invalid", "cannot be reached"]).ends_with(1);

    let directory = tempfile::tempdir()?;
    let rules = directory.path().join("acl");
    let user = &broker.address().username;
    fs::write(&rules, format!("user {user}\ntopic read #\ntopic write koupleless_check-broker/+/health\n"))?;
    let strict = Mosquitto::start_configured(&format!("acl_file {}", rules.display())).await?;
    let said = ask(strict.address(), &[]).await?;
    said.has(&["[PROBLEM] refuses to publish to", "koupleless_check-broker/{base}/installBiz"])
        .has_not("{base}/health")
        .has(&["[ok] grants the subscriptions"])
        .ends_with(1);

    let tls = Mosquitto::start_tls(Clients::Certificates).await?;
    let files = tls.tls().context("no TLS")?;
    let port = files.port.to_string();
    let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key].map(|path| path.display().to_string());
    let mine = [("MQTT_PORT", port.as_str()), ("MQTT_CA_PATH", &ca)];
    let all = [mine[0], mine[1], ("MQTT_CLIENT_CRT_PATH", &certificate), ("MQTT_CLIENT_KEY_PATH", &key)];
    ask(tls.address(), &all).await?.has(&["[ok]", "logged in over TLS"]).has(&["[ok] lets commands be published"]);
    ask(tls.address(), &mine).await?.has(&["[PROBLEM]", "no TLS handshake"]).ends_with(1);
    let other = Mosquitto::start_tls(Clients::Passwords).await?;
    let other = other.tls().context("no TLS")?.ca.display().to_string();
    let foreign = [all[0], ("MQTT_CA_PATH", other.as_str()), all[2], all[3]];
    ask(tls.address(), &foreign).await?.has(&["[PROBLEM]", "no TLS handshake"]).ends_with(1);
    let said = ask(tls.address(), &[("MQTT_PORT", &port)]).await?;
    said.has(&["[PROBLEM]", "does not answer as an MQTT broker"]).has(&["MQTT_CA_PATH"]).ends_with(1);
    let said = ask(tls.address(), &[("MQTT_CA_PATH", "/nowhere")]).await?;
    said.has(&["[PROBLEM]", "cannot read /nowhere"]).ends_with(1);
    ask(tls.address(), &[("ENABLE_MQTT_TUNNEL", "false")]).await?.has(&["[PROBLEM] no tunnel"]).ends_with(1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bases_of_another_environment_are_named_where_ours_is_silent() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let address = broker.address();
    let options = BaseOptions {
        env: "check-other".into(),
        username: address.username.clone(),
        password: address.password.clone(),
        host: address.host.clone(),
        heartbeat: Duration::from_millis(200),
        ..BaseOptions::new("base-1", address.port)
    };
    let _base = SimulatedBase::start(options).await?;
    let said = check(cluster.kubeconfig(), address, "check-silent", &["--listen", "2"], &[]).await?;
    said.has(&["[warning] no base of environment check-silent was heard, but bases of check-other"]);
    Ok(())
}
