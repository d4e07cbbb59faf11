//! What is odd about real bases over HTTP, and that no user notices.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{BizState, HttpBase, HttpOptions, SimulatedBase, UrlBehaviour},
    http::post,
    wait::eventually,
};
use serde_json::json;

use crate::{
    http_tunnel::{base, set, set_with, told},
    stage::{SOON, container_message, container_reason, is_ready, module_pod, url},
    workloads::workload,
};

fn with_image(mut pod: serde_json::Value, image: &str) -> serde_json::Value {
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|c| c.restart_count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_none_and_the_list_tells() -> Result<()> {
    let (stage, port) = set("http-cut").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    // The answer to the install, and to questions that come before it.
    base.cut_answers(2);
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(told(&base), ["install 1"]);
    // One that failed is not listed: it is told again at once, and its cause is known then.
    let image = "https://modules.example.com/biz2-broken-1-ark-biz.jar";
    base.cut_answers(1);
    stage.create_pod(with_image(module_pod(&stage.name, "biz2", &[("biz2", "1")]), image)).await?;
    let failed = |pod: &Pod| container_reason(pod) == Some("InstallFailed");
    stage.pod_until("biz2", "InstallFailed", failed).await?;
    stage.delete_pod("biz2").await?;
    base.cut_answers(1);
    stage.delete_pod("biz1").await?;
    assert_eq!(base.modules(), []);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_never_answered_an_install_is_told_again_when_it_answers_questions() -> Result<()> {
    let (stage, port) = set("http-mute").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    base.answers(false);
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    let limit = Duration::from_secs(90);
    eventually("the install", SOON, async || base.received("installBiz") > 0).await?;
    base.answers(true);
    base.wait_for_state("biz1", "1", Some(BizState::Activated), limit).await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(told(&base), ["install 1", "install 1"]);
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    stage.delete_pod("biz1").await?;
    stage.ends_quietly().await
}

/// Nothing is cancelled at the base when whoever asked goes away.
#[tokio::test(flavor = "multi_thread")]
async fn an_install_goes_on_without_us_and_is_not_ordered_twice() -> Result<()> {
    let (mut stage, port) = set("http-gone").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let image = "https://modules.example.com/biz1-slow-15000-1-ark-biz.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    base.wait_for_state("biz1", "1", Some(BizState::Resolved), SOON).await?;
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Resolved), "the machine is too slow for this test");
    stage.pod_ready("biz1").await?;
    assert_eq!(told(&base), ["install 1"]);
    stage.delete_pod("biz1").await?;
    assert_eq!(told(&base), ["install 1", "uninstall 1"]);
    stage.ends_quietly().await
}

/// Two bases with the stock hook on one host.
#[tokio::test(flavor = "multi_thread")]
async fn two_bases_with_one_identity_are_told_of() -> Result<()> {
    let (stage, port) = set("http-twins").await?;
    let one = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let other = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let (ours, theirs) = (one.port().to_string(), other.port().to_string());
    let line = stage.log_line(&["two ports say that they are this base", "base-1", &ours, &theirs]).await?;
    assert!(line.contains("metadata hook"), "{line}");
    // Commands go where the newest beat says.
    eventually("a question at the newest", SOON, async || other.received("queryAllBiz") > 0).await?;
    stage.ends_without_quiet("two JVMs take turns");
    Ok(())
}

/// A restart that takes as long as the pause between two beats: the next one comes when it is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_only_the_list_shows_is_found() -> Result<()> {
    let (stage, port) = set("http-in-turn").await?;
    let http = HttpOptions::new(port);
    let (begun, pause) = (tokio::time::Instant::now(), http.heartbeat);
    let base = base(&stage, stage.base_options("base-1"), http).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    let mut due = begun;
    while due < tokio::time::Instant::now() {
        due += pause;
    }
    tokio::time::sleep_until(due + Duration::from_millis(500)).await; // it has just beaten
    base.kill();
    tokio::time::sleep_until(due + pause).await;
    base.restart().await?;
    base.wait_for_state("biz1", "1", Some(BizState::Activated), SOON).await?;
    stage.pod_until("biz1", "Ready after a restart", |pod| is_ready(pod) && restarts(pod) == 1).await?;
    assert_eq!(told(&base), ["install 1", "install 1"]);
    stage.delete_pod("biz1").await?;
    stage.ends_quietly().await
}

/// How long it takes from a JVM's first word until it has its module: for a base over HTTP, which asks for nothing, and
/// one over MQTT, which asks for its baseline.
struct Race {
    http: Vec<Duration>,
    mqtt: Vec<Duration>,
}

impl Race {
    fn is_even(&self) -> Result<()> {
        let slowest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
        let (http, mqtt) = (slowest(&self.http), slowest(&self.mqtt));
        // It takes connections only some time after its first beat, and is tried again then.
        ensure!(http <= mqtt + Duration::from_millis(1500), "HTTP {:?}, MQTT {:?}", self.http, self.mqtt);
        Ok(())
    }
}

async fn active_http(base: &HttpBase) -> Result<()> {
    base.wait_for_state("biz1", "1", Some(BizState::Activated), SOON).await
}

async fn active_mqtt(base: &SimulatedBase) -> Result<()> {
    base.wait_for_state("biz1", "1", Some(BizState::Activated), SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_asks_for_nothing_has_its_modules_as_soon_as_one_that_asks() -> Result<()> {
    let (stage, port) = set_with("http-race", |options| options).await?;
    stage.apply(&workload(&stage, "DaemonSet", "biz1", None, "1")).await?;
    let (mut fresh, mut again) = (Race { http: vec![], mqtt: vec![] }, Race { http: vec![], mqtt: vec![] });
    let (mut over_http, mut over_mqtt) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let begun = Instant::now();
        let base = HttpBase::start(stage.base_options(&format!("http-{number}")), HttpOptions::new(port)).await?;
        active_http(&base).await?;
        fresh.http.push(begun.elapsed());
        over_http.push(base);
        let begun = Instant::now();
        let base = SimulatedBase::start(stage.base_options(&format!("mqtt-{number}"))).await?;
        active_mqtt(&base).await?;
        fresh.mqtt.push(begun.elapsed());
        over_mqtt.push(base);
    }
    eventually("all Pods Ready", SOON, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == 6, "{ready}");
        Ok(())
    })
    .await?;
    for (http, mqtt) in over_http.iter().zip(&over_mqtt) {
        let begun = Instant::now();
        http.restart().await?;
        active_http(http).await?;
        again.http.push(begun.elapsed());
        let begun = Instant::now();
        mqtt.restart().await?;
        active_mqtt(mqtt).await?;
        again.mqtt.push(begun.elapsed());
    }
    println!(
        "new: HTTP {:?}, MQTT {:?}; restarted: HTTP {:?}, MQTT {:?}",
        fresh.http, fresh.mqtt, again.http, again.mqtt
    );
    fresh.is_even().context("new bases")?;
    again.is_even().context("restarted bases")?;
    for base in &over_http {
        assert_eq!(told(base), ["install 1", "install 1"]);
    }
    stage.ends_quietly().await
}

/// Somebody else's install of the same module is under way: the base refuses ours, without a word in `data`.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_no_failure() -> Result<()> {
    let (stage, port) = set("http-conflict").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    base.set_url_behaviour("//by-hand/", UrlBehaviour::FetchesSlowly(Duration::from_secs(8)));
    let (address, body) = (
        format!("127.0.0.1:{}", base.port()),
        json!({"bizName": "biz1", "bizVersion": "1", "bizUrl": "http://by-hand/biz1.jar"}),
    );
    let by_hand = tokio::spawn(async move { post(&address, "/installBiz", &body).await });
    eventually("it at the base", SOON, async || base.received("installBiz") == 1).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    let (status, answer) = by_hand.await??;
    assert!(status == 200 && answer.contains("SUCCESS"), "{answer}");
    let ours = base.commands().into_iter().filter(|(_, body)| body["bizUrl"] == url("biz1", "1")).count();
    assert!((1..=3).contains(&ours), "{:?}", told(&base));
    let events = stage.events("biz1").await?;
    assert!(!events.iter().any(|reason| reason == "InstallFailed"), "{events:?}");
    stage.delete_pod("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jar_that_is_another_module_is_named_and_removed_over_http() -> Result<()> {
    let (stage, port) = set("http-mismatch").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    let image = "https://modules.example.com/other-9-ark-biz.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    let named = |pod: &Pod| {
        let message = container_message(pod).unwrap_or_default();
        container_reason(pod) == Some("ModuleMismatch") && message.contains("biz1:1") && message.contains("other:9")
    };
    stage.pod_until("biz1", "named", named).await?;
    eventually("the stray module removed", SOON, async || base.modules().is_empty()).await?;
    assert!(!is_ready(&stage.pods().get("biz1").await?));
    assert_eq!(told(&base), ["install 1", "uninstall 9"]);
    stage.delete_pod("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_gone_already_does_not_keep_its_pod() -> Result<()> {
    let (stage, port) = set("http-not-found").await?;
    let base = base(&stage, stage.base_options("base-1"), HttpOptions::new(port)).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    assert!(base.remove_by_hand("biz1", "1"));
    stage.delete_pod("biz1").await?;
    assert_eq!(told(&base), ["install 1", "uninstall 1"], "it answered that it has none");
    stage.ends_quietly().await
}

/// Questions wait behind installs then, and nobody takes that for silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_with_fewer_threads_than_it_says_gets_its_modules_all_the_same() -> Result<()> {
    let (stage, port) = set("http-few-threads").await?;
    let http = HttpOptions { threads: 2, ..HttpOptions::new(port) };
    let base = base(&stage, stage.base_options("base-1"), http).await?;
    for number in 0..4 {
        let name = format!("biz{number}");
        let image = format!("https://modules.example.com/{name}-slow-3000-1-ark-biz.jar");
        stage.create_pod(with_image(module_pod(&stage.name, &name, &[(&name, "1")]), &image)).await?;
    }
    for number in 0..4 {
        stage.pod_ready(&format!("biz{number}")).await?;
    }
    assert_eq!(told(&base).len(), 4, "{:?}", told(&base));
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    for number in 0..4 {
        stage.delete_pod(&format!("biz{number}")).await?;
    }
    stage.ends_quietly().await
}
