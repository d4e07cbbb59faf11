//! The simulated base against the recordings of real ones: what a real base was sent is sent to the
//! simulated one, and the answers must be the same but for times, paths and measurements.

#[path = "wire_sim/http.rs"]
mod http;
#[path = "wire_sim/normal.rs"]
mod normal;
#[path = "wire_sim/recording.rs"]
mod recording;
#[path = "wire_sim/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use modulet_testkit::base::{Activation, BaseOptions, SimulatedBase, UrlBehaviour};
use modulet_testkit::broker::Mosquitto;

use recording::{Line, scenarios};
use scene::{SPEED, Scene};

/// Scenarios that are not replayed, each with its reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("connection-lost-2s", "depends on when the cut falls between heartbeats; own test in base_faults.rs"),
    ("connection-lost-over-a-heartbeat", "the same; own test in base_faults.rs"),
    ("connection-lost-during-install", "the same; own test in base_faults.rs"),
    ("duplicate-identity", "which of two bases answers is left to chance"),
];

/// The recorded base, with the switches that a scenario's name tells.
fn options(name: &str, lines: &[Line]) -> BaseOptions {
    let mut options = BaseOptions { reconnect: Duration::from_millis(100), ..BaseOptions::default() };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(heart) = lines.iter().find(|line| line.topic.ends_with("/base/heart")) {
        let data = &heart.payload["data"];
        options.id = text(&data["baseMetadata"]["identity"]);
        options.name = text(&data["baseMetadata"]["name"]);
        options.version = text(&data["baseMetadata"]["version"]);
        options.cluster = text(&data["baseMetadata"]["clusterName"]);
        options.ip = text(&data["localIP"]);
        options.host_name = text(&data["localHostName"]);
    }
    // Each scenario has an environment of its own, so that all can be played at once.
    name.clone_into(&mut options.env);
    name.clone_into(&mut options.client_prefix);
    match name {
        "second-version-activate-new" => options.activation = Activation::ActivateNew,
        "second-version-multi-active" => options.activation = Activation::MultiActive,
        "broken-module-auto-uninstall-false" | "broken-update-auto-uninstall-false" => {
            options.keep_broken = true;
        }
        "sofaark-3.1.7-empty-state-record" => options.empty_state_records = true,
        "sofaark-3.1.7-broken-kept" => {
            options.empty_state_records = true;
            options.keep_broken = true;
        }
        "non-ascii-payload-posix-locale" => options.posix_locale = true,
        // The query that waits for a worker must not overtake the ends of the other four installs.
        "five-slow-installs" => options.latency = Duration::from_millis(60),
        // The stock hook's name is not the application's.
        "identity-stock-hook" => options.master = Some("testbase".to_owned()),
        "env-upper-case" => options.env = name.to_uppercase(),
        "identity-plus-only-other-base" => "+".clone_into(&mut options.id),
        _ => {}
    }
    options
}

/// The recording's modules that no convention of URLs tells.
fn prepare(base: &SimulatedBase) {
    let broken = || UrlBehaviour::Broken { cause: "this module is broken on purpose".to_owned() };
    let unfit = |message: &str| UrlBehaviour::NotFetchable { message: message.to_owned() };
    base.set_url_behaviour("biz1-0.0.4-ark-biz.jar", broken());
    base.set_url_behaviour("bizbroken-0.0.1-ark-biz.jar", broken());
    base.set_url_behaviour(":18999/", unfit("java.net.ConnectException: Connection refused"));
    base.set_url_behaviour("notajar.jar", unfit("java.util.zip.ZipException: zip END header not found"));
    base.set_url_behaviour("plain.jar", unfit("java.lang.IllegalArgumentException: Biz Name must not be empty!"));
    base.set_url_behaviour(
        "modules/bizä.jar",
        unfit("java.io.FileNotFoundException: /srv/koupleless/modules/bizä.jar (No such file or directory)"),
    );
    base.set_url_behaviour(
        "modules/biz??.jar",
        unfit("java.io.FileNotFoundException: /srv/koupleless/modules/biz??.jar (No such file or directory)"),
    );
}

async fn play(name: &str, lines: &[Line], broker: &Mosquitto) -> Result<()> {
    let mut options = options(name, lines);
    let address = broker.address();
    options.host.clone_from(&address.host);
    options.port = address.port;
    options.username.clone_from(&address.username);
    options.password.clone_from(&address.password);
    let mut scene = Scene::open(address, name, &options).await?;
    let mut base = None;
    let mut clock = None;
    for line in lines {
        let early = line.to_base && line.t_ms < 1000;
        if base.is_none() && !early {
            let started = SimulatedBase::start(options.clone()).await?;
            prepare(&started);
            clock = Some((tokio::time::Instant::now(), line.t_ms));
            base = Some(started);
        }
        if let (Some(base), true) =
            (&base, line.step.contains("while the base is down") || line.step.contains("of the stopped base"))
        {
            base.kill();
        }
        if line.step == "kill -9 and start again" {
            base.as_ref().context("no base")?.restart().await?;
        }
        if line.to_base {
            if let Some((since, first)) = clock {
                let due = Duration::from_millis(line.t_ms.saturating_sub(first)) / SPEED;
                tokio::time::sleep_until(since + due).await;
            }
            scene.send(line).await?;
        } else {
            scene.expect(line).await?;
        }
    }
    scene.close().await?;
    if name == "identity-plus-only-other-base" {
        let modules = base.context("no base")?.modules();
        if modules.len() != 1 {
            bail!("the base called + has not executed the other's command: {modules:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_scenarios() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let all = scenarios()?;
    for (left_out, _) in LEFT_OUT {
        assert!(all.contains_key(*left_out), "{left_out} is no recorded scenario");
    }
    let played: BTreeMap<_, _> =
        all.iter().filter(|(name, _)| LEFT_OUT.iter().all(|(left_out, _)| left_out != name)).collect();
    let results = join_all(played.iter().map(|(name, lines)| play(name, lines, &broker))).await;
    let mut failures = Vec::new();
    for ((name, _), result) in played.iter().zip(results) {
        if let Err(error) = result {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), played.len(), failures.join("\n\n"));
    assert!(played.len() >= 72, "only {} scenarios played", played.len());
    Ok(())
}
