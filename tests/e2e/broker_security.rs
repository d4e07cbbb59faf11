//! A broker with the access lists of `examples/mosquitto`: a base speaks for itself only, and hears only what is its own.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use modulet_testkit::{
    broker::{BrokerAddress, Mosquitto, Spy},
    control_plane::{ControlPlane, certificates::Authority},
    ports::free_port,
};
use rumqttc::{ConnectionError, Event, Packet, QoS};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    faults_help::bound,
    stage::{SOON, Stage},
};

/// The files as they are documented, but for paths, ports, the environment, and the TLS of bases, which simulated ones
/// do not speak.
async fn documented(env: &str) -> Result<(TempDir, Mosquitto, u16)> {
    let directory = tempfile::Builder::new().prefix("modulet-mosquitto-").tempdir()?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mosquitto");
    let [bases, modulet] = [free_port()?, free_port()?];
    for file in ["mosquitto.conf", "bases.acl", "modulet.acl"] {
        let text = fs::read_to_string(examples.join(file))?;
        let text = text.replace("koupleless_dev", &format!("koupleless_{env}"));
        let text = text.replace("/etc/mosquitto", &directory.path().display().to_string());
        let (of_bases, of_modulet) = text.split_once("listener 8884").unwrap_or((&text, ""));
        let mut plain = of_bases.replace("listener 8883", &format!("user root\nlistener {bases} 127.0.0.1"));
        if file == "mosquitto.conf" {
            plain = plain.lines().filter(|line| !line.contains("broker.")).map(|line| format!("{line}\n")).collect();
            plain += &format!("listener {modulet} 127.0.0.1{of_modulet}");
            ensure!(plain.lines().filter(|line| line.starts_with("listener ")).count() == 2, "{plain}");
        }
        fs::write(directory.path().join(file), plain)?;
    }
    Authority::create(directory.path())?.server("broker")?;
    for user in ["base-1", "base-2", "base-3"] {
        Mosquitto::add_login(&directory.path().join("bases.passwords"), user, "a password").await?;
    }
    Mosquitto::add_login(&directory.path().join("modulet.passwords"), "modulet", "another password").await?;
    let broker = Mosquitto::start_as(&directory.path().join("mosquitto.conf"), login(bases, "base-3")).await?;
    Ok((directory, broker, modulet))
}

fn login(port: u16, user: &str) -> BrokerAddress {
    BrokerAddress { host: "127.0.0.1".into(), port, username: user.into(), password: "a password".into() }
}

/// What the broker answers to a CONNECT.
async fn refusal(address: &BrokerAddress) -> Result<String> {
    let (_client, mut events) = address.connect("somebody");
    match events.poll().await {
        Err(ConnectionError::ConnectionRefused(code)) => Ok(format!("{code:?}")),
        other => bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_speaks_for_itself_only_and_hears_only_what_is_its_own() -> Result<()> {
    let name = "broker-security";
    let (directory, broker, port) = documented(name).await?;
    let bases = broker.address().port;
    let stage = Stage::set_at(ControlPlane::shared().await?, broker, name, |options| {
        let ca = directory.path().join("ca.crt").display().to_string();
        let options = options.env("MQTT_PORT", port.to_string()).env("MQTT_CA_PATH", ca);
        options.env("MQTT_USERNAME", "modulet").env("MQTT_PASSWORD", "another password")
    })
    .await?;
    let options = |id: &str| modulet_testkit::base::BaseOptions { username: id.into(), ..stage.base_options(id) };
    let first = stage.base(options("base-1")).await?;
    let _second = stage.base(options("base-2")).await?;
    stage.create_pod(bound(&stage, "base-1", "biz1", "1")).await?;
    stage.pod_ready("biz1").await?;

    // One that has a login of its own, and calls its connection as modulet calls the one for commands.
    let (intruder, mut events) = login(bases, "base-3").connect(&format!("modulet@@@modulet-commands-{name}"));
    let (said, mut heard) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(message)) = event
                && said.send(message.topic).await.is_err()
            {
                return;
            }
        }
    });
    let topic = |below: &str| format!("koupleless_{name}/{below}");
    for filter in ["#".to_owned(), topic("+/+"), topic("base-1/installBiz"), topic("+/base/heart")] {
        intruder.subscribe(filter, QoS::AtLeastOnce).await?;
    }
    intruder.subscribe(topic("base-3/+"), QoS::AtLeastOnce).await?;
    let heart = |id: &str| {
        let data = json!({
            "baseMetadata": { "name": name, "version": "6.6.6" },
            "localIP": "192.0.2.66", "localHostName": id, "state": "activated",
        });
        json!({ "publishTimestamp": jiff::Timestamp::now().as_millisecond(), "data": data }).to_string()
    };
    let uninstall = json!({ "bizName": "biz1", "bizVersion": "1" }).to_string();
    let mut say = Vec::new();
    for retained in [false, true] {
        say.push((topic("base-1/base/heart"), heart("base-1"), retained));
        say.push((topic("base-9/base/heart"), heart("base-9"), retained));
        say.push((topic("base-1/uninstallBiz"), uninstall.clone(), retained));
        say.push((topic("base-1/base/simpleBiz"), json!({ "code": "SUCCESS", "data": [] }).to_string(), retained));
        say.push((topic("base-1/base/baseline"), "[]".to_owned(), retained));
    }
    // Its own come after them, so they are read after them.
    say.push((topic("base-3/health"), "{}".to_owned(), false));
    say.push((topic("base-3/base/heart"), heart("base-3"), false));
    for (topic, payload, retained) in say {
        intruder.publish(topic, QoS::AtLeastOnce, retained, payload).await?;
    }
    stage.node_ready(&stage.node_name("base-3"), "True").await?;
    assert!(stage.nodes().get_opt(&stage.node_name("base-9")).await?.is_none());
    let node = stage.nodes().get(&stage.node_name("base-1")).await?;
    assert!(!json!(node).to_string().contains("192.0.2.66"), "{}", json!(node));

    // modulet's commands reach whom they are for, and nobody else.
    stage.create_pod(bound(&stage, "base-1", "biz2", "1")).await?;
    stage.pod_ready("biz2").await?;
    assert_eq!((first.received("installBiz"), first.received("uninstallBiz")), (2, 0));
    let own = tokio::time::timeout(SOON, heard.recv()).await.context("its own commands")?.context("it went away")?;
    let mut all = vec![own];
    while let Ok(topic) = heard.try_recv() {
        all.push(topic);
    }
    assert!(all.iter().all(|heard| heard.starts_with(&topic("base-3/"))), "{all:?}");
    // Nobody was thrown off.
    assert!(stage.controller.metric("modulet_broker_errors_total", &[]).await? < 1.0);

    // What one side's logins are good for.
    assert_eq!(refusal(&login(bases, "modulet")).await?, "NotAuthorized");
    assert_eq!(refusal(&login(bases, "base-4")).await?, "NotAuthorized");
    let stranger = login(port, "base-1");
    let spy = Spy::start(&stranger, "#");
    assert!(tokio::time::timeout(Duration::from_secs(2), spy).await.map_or(true, |spy| spy.is_err()));
    let said = stage.controller.log_text();
    assert!(!said.contains("another password"), "{said}");
    stage.delete_pod("biz1").await.context("biz1")?;
    stage.ends_quietly().await
}
