//! Bases that are reached over HTTP, without a broker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, HttpBase, HttpOptions, SimulatedBase},
    controller::ControllerOptions,
    http::post,
    ports::free_port,
    wait::eventually,
};
use serde_json::json;

use crate::{
    stage::{SOON, Stage, container_message, container_reason, is_ready, module_pod},
    workloads::{deployment, ready_pods, rolled_out},
};

/// A stage whose controller has the HTTP tunnel alone, and the port that bases beat at.
pub(crate) async fn set(name: &str) -> Result<(Stage, u16)> {
    set_with(name, |options| options.env("ENABLE_MQTT_TUNNEL", "false")).await
}

pub(crate) async fn set_with(
    name: &str,
    adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
) -> Result<(Stage, u16)> {
    let port = free_port()?;
    let options = |options: ControllerOptions| {
        adapt(options.env("ENABLE_HTTP_TUNNEL", "true").env("HTTP_TUNNEL_LISTEN_PORT", port.to_string()))
    };
    Ok((Stage::set_with(name, options).await?, port))
}

pub(crate) async fn base(stage: &Stage, options: BaseOptions, http: HttpOptions) -> Result<HttpBase> {
    let node = stage.node_name(&options.id);
    let base = HttpBase::start(options, http).await?;
    stage.node_ready(&node, "True").await?;
    Ok(base)
}

/// Installs, switches and uninstalls, in order.
pub(crate) fn told(base: &HttpBase) -> Vec<String> {
    let word = |(command, body): (String, serde_json::Value)| {
        let word = match (command.as_str(), body["installStrategy"].as_str()) {
            ("installBiz", Some("uninstallThenInstall")) => "switch",
            ("installBiz", _) => "install",
            ("uninstallBiz", _) => "uninstall",
            ("switchBiz", _) => "switch over",
            _ => "other",
        };
        format!("{word} {}", body["bizVersion"].as_str().unwrap_or_default())
    };
    base.commands().into_iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_comes_to_a_base_over_http_and_goes_with_its_pod() -> Result<()> {
    let (stage, port) = set("http-main").await?;
    // It refuses connections for a time after its first beat, longer than real ones do.
    let http = HttpOptions { opens_after: Duration::from_millis(900), ..HttpOptions::new(port) };
    let base = base(&stage, stage.base_options("base-1"), http).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    let pod = stage.pod_ready("biz1").await?;
    assert_eq!(pod.status.and_then(|s| s.pod_ip).as_deref(), Some("192.0.2.10"));
    stage.delete_pod("biz1").await?;
    assert_eq!(base.modules(), []);
    assert_eq!(told(&base), ["install 1", "uninstall 1"]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_and_its_undo_come_out_over_http() -> Result<()> {
    let (stage, port) = set("http-update").await?;
    let options = BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") };
    let base = base(&stage, options, HttpOptions::new(port)).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 1, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    stage.apply(&deployment(&stage, "biz1", 1, "2", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "2", 1).await?;
    base.wait_for_state("biz1", "1", None, SOON).await?;
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "1", 1).await?;
    base.wait_for_state("biz1", "2", None, SOON).await?;
    assert_eq!(told(&base), ["install 1", "install 2", "uninstall 1", "install 1", "uninstall 2"]);
    stage.ends_quietly().await
}

/// A base with default settings keeps a second version deactivated. Over HTTP it can be told to switch, without fetching
/// the jar again and without a moment in which nothing serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_with_default_settings_is_switched_without_a_gap() -> Result<()> {
    let (stage, port) = set("http-switch").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 1, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    let base = std::sync::Arc::new(base);
    let looked_at = std::sync::Arc::clone(&base);
    let looks = tokio::spawn(async move {
        let mut looks = 0_usize;
        while looked_at.state_of("biz1", "1").is_some() {
            let active = looked_at.modules().iter().filter(|m| m.2 == BizState::Activated).count();
            ensure!(active == 1, "{:?}", looked_at.modules());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(looks)
    });
    stage.apply(&deployment(&stage, "biz1", 1, "2", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    ready_pods(&stage, "2", 1).await?;
    let looks = tokio::time::timeout(SOON, looks).await???;
    assert!(looks > 100, "looked {looks} times only");
    assert_eq!(told(&base), ["install 1", "install 2", "switch over 2", "uninstall 1"]);
    stage.ends_quietly().await
}

/// A wait that ends at once, over and over, is seen by nobody but who pays for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_a_broker_that_has_nothing_to_do_does_nothing() -> Result<()> {
    let (stage, port) = set("http-idle").await?;
    let _base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let pid = stage.controller.process()?.pid();
    // User and system time, in steps of 10 ms: behind the name, which may have blanks (proc(5)).
    let used = || -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<_> = text.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    };
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(4)).await; // what is looked for is that nothing happens
    let used = used()? - before;
    assert!(used < 100, "{used} of 400 steps with one base that is at rest");
    stage.ends_quietly().await
}

/// It is told in the way of bases over MQTT then, and asked to switch no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_knows_no_switch_is_updated_all_the_same() -> Result<()> {
    let (stage, port) = set("http-no-switch").await?;
    let http = HttpOptions { switches: false, ..HttpOptions::new(port) };
    let base = base(&stage, stage.base_options("base-1"), http).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    for version in ["1", "2", "3"] {
        stage.apply(&deployment(&stage, "biz1", 1, version, &limits)).await?;
        rolled_out(&stage, "deployment/biz1").await?;
        ready_pods(&stage, version, 1).await?;
    }
    let switches = told(&base).iter().filter(|word| word.starts_with("switch over")).count();
    assert_eq!(switches, 1, "{:?}", told(&base));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_restarts_without_a_word_gets_its_modules_back_at_its_first_beat() -> Result<()> {
    let (stage, port) = set("http-restart").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    base.restart().await?;
    let begun = Instant::now();
    base.wait_for_state("biz1", "1", Some(BizState::Activated), Duration::from_secs(8)).await?;
    assert!(begun.elapsed() < Duration::from_secs(8));
    let restarted = |pod: &k8s_openapi::api::core::v1::Pod| {
        let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        is_ready(pod) && statuses.clone().all(|c| c.restart_count == 1)
    };
    stage.pod_until("biz1", "Ready again after one restart", restarted).await?;
    assert_eq!(told(&base), ["install 1", "install 1"]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_away_finds_all_as_it_was() -> Result<()> {
    let (mut stage, port) = set("http-away").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    stage.controller.kill9().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.controller.restart().await?;
    stage.create_pod(module_pod(&stage.name, "biz2", &[("biz2", "1")])).await?;
    stage.pod_ready("biz2").await?;
    assert!(is_ready(&stage.pods().get("biz1").await?));
    stage.delete_pod("biz1").await?;
    stage.delete_pod("biz2").await?;
    assert_eq!(told(&base), ["install 1", "install 1", "uninstall 1", "uninstall 1"]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_over_http_says_its_root_cause() -> Result<()> {
    let (stage, port) = set("http-broken").await?;
    let _base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    pod["spec"]["containers"][0]["image"] = json!("https://modules.example.com/biz1-broken-1-ark-biz.jar");
    stage.create_pod(pod).await?;
    let failed = |pod: &k8s_openapi::api::core::v1::Pod| container_reason(pod) == Some("InstallFailed");
    let pod = stage.pod_until("biz1", "InstallFailed", failed).await?;
    let message = container_message(&pod).context("no message")?;
    assert!(message.starts_with("java.lang.IllegalStateException") && !message.contains("Internal Error"), "{message}");
    stage.delete_pod("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_a_base_over_http_is_its_own() -> Result<()> {
    let (stage, port) = set("http-silent").await?;
    let silent = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let hung = base(&stage, stage.base_options("base-2"), HttpOptions::new(port)).await?;
    let mute = base(&stage, stage.base_options("base-3"), HttpOptions::new(port)).await?;
    let well = base(&stage, stage.base_options("base-4"), HttpOptions::new(port)).await?;
    // One is dead, one beats and does not answer, one answers and does not beat.
    silent.kill();
    hung.answers(false);
    mute.beats(false);
    let node = stage.node_name("base-1");
    eventually("the dead one not Ready", Duration::from_secs(60), async || {
        let node = stage.nodes().get(&node).await?;
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        ensure!(conditions.clone().any(|c| c.type_ == "Ready" && c.status != "True"));
        Ok(())
    })
    .await?;
    for id in ["base-2", "base-3", "base-4"] {
        stage.node_ready(&stage.node_name(id), "True").await?;
    }
    assert_eq!(well.received("installBiz"), 0);
    hung.answers(true);
    silent.restart().await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_at_work_still_answers_questions() -> Result<()> {
    let (stage, port) = set("http-busy").await?;
    // Health says two cores, so four threads: one is always left for a question.
    let http = HttpOptions { threads: 4, ..HttpOptions::new(port) };
    let base = base(&stage, stage.base_options("base-1"), http).await?;
    eventually("its health", SOON, async || {
        ensure!(base.received("health") > 0);
        Ok(())
    })
    .await?;
    for number in 0..6 {
        let name = format!("biz{number}");
        let mut pod = module_pod(&stage.name, &name, &[(&name, "1")]);
        pod["spec"]["containers"][0]["image"] =
            json!(format!("https://modules.example.com/{name}-slow-6000-1-ark-biz.jar"));
        stage.create_pod(pod).await?;
    }
    let limit = Duration::from_secs(20);
    eventually("installs under way", limit, async || {
        ensure!(base.received("installBiz") >= 1);
        Ok(())
    })
    .await?;
    let (asked, begun) = (base.received("queryAllBiz"), Instant::now());
    eventually("a list amid the installs", limit, async || {
        ensure!(base.received("queryAllBiz") > asked + 1);
        Ok(())
    })
    .await?;
    assert!(begun.elapsed() < limit);
    for number in 0..6 {
        stage.pod_ready(&format!("biz{number}")).await?;
    }
    assert_eq!(told(&base).len(), 6, "{:?}", told(&base));
    assert_eq!(base.busiest(), 3, "three at once, and one thread for questions");
    for number in 0..6 {
        stage.delete_pod(&format!("biz{number}")).await?;
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_heartbeat_is_refused_and_harms_nobody() -> Result<()> {
    let (stage, port) = set("http-forged").await?;
    let _base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let address = format!("127.0.0.1:{port}");
    let beat = |identity: &str| {
        json!({
            "baseMetadata": { "identity": identity, "name": "app", "version": "1", "clusterName": "default" },
            "localIP": "192.0.2.1", "localHostName": "h", "port": 1, "state": "activated",
        })
    };
    for (path, body, status) in [
        ("/heartbeat", json!("hello"), 400),
        ("/heartbeat", json!({}), 400),
        ("/heartbeat", beat("Not A Name"), 400),
        ("/heartbeat", json!({ "text": "x".repeat(100_000) }), 413),
        ("/elsewhere", json!({}), 404),
        ("/queryBaseline", json!({ "name": "app" }), 400),
    ] {
        let (answer, _) = post(&address, path, &body).await?;
        assert_eq!(answer, status, "{path} {}", body.to_string().chars().take(80).collect::<String>());
    }
    let (status, baseline) =
        post(&address, "/queryBaseline", &json!({ "identity": "base-1", "name": "app", "version": "1" })).await?;
    assert_eq!((status, baseline.as_str()), (200, "[]"));
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    stage.delete_pod("biz1").await?;
    let ours = format!("virtual-kubelet.koupleless.io/env={}", stage.name);
    let nodes = stage.nodes().list(&kube::api::ListParams::default().labels(&ours)).await?;
    assert_eq!(nodes.items.len(), 1, "no Node of what was refused");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_belongs_to_the_tunnel_that_it_was_last_heard_on() -> Result<()> {
    let (stage, port) = set_with("http-both", |options| options).await?;
    let over_http = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let over_mqtt = stage.base(stage.base_options("base-2")).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    stage.delete_pod("biz1").await?;
    // What the broker's end means for others means nothing for a base over HTTP.
    over_mqtt.kill();
    // The same base comes back over the other tunnel.
    over_http.kill();
    let moved = SimulatedBase::start(stage.base_options("base-1")).await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    let mut pod = module_pod(&stage.name, "biz2", &[("biz2", "1")]);
    pod["spec"]["nodeName"] = json!(stage.node_name("base-1"));
    stage.create_pod(pod).await?;
    stage.pod_ready("biz2").await?;
    assert_eq!(
        moved.received("installBiz") + moved.received("baseline"),
        2,
        "a baseline that is empty, and an install"
    );
    stage.delete_pod("biz2").await?;
    stage.ends_quietly().await
}
