//! The broker hangs, refuses, repeats old messages; or one packet is too large for it or for us.

use std::time::Duration;

use anyhow::{Result, ensure};
use modulet_testkit::{
    base::{BaseOptions, Fleet, SimulatedBase},
    broker::{Mosquitto, Spy},
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    wait::eventually,
};
use serde_json::json;

use crate::{
    faults_help::{DEAD_AFTER, Log, UNREACHABLE_AFTER, bound, impatient, installed, lasts, still_runs},
    peers,
    stage::{SOON, Stage, container_message, have_their_baselines, is_ready},
    workloads::{ready_pods, told},
};

/// A connection that a command broke twice has broken for the last time.
const MOST_LOSSES: f64 = 2.0;
/// A whole fleet.
const BASES: usize = 20;

async fn losses(stage: &Stage) -> Result<f64> {
    stage.controller.metric("modulet_broker_errors_total", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_broker_does_not_take_fails_for_its_pod_alone() -> Result<()> {
    let broker = Mosquitto::start_configured("max_packet_size 20000").await?;
    let stage = Stage::set_at(ControlPlane::shared().await?, broker, "fault-packet", impatient).await?;
    let nodes = Log::of_nodes(&stage);
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "before", "1").await?;
    let mut large = bound(&stage, "base-1", "large", "1");
    large["spec"]["containers"][0]["env"] =
        json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "LARGE", "value": "x".repeat(30_000) }]);
    stage.create_pod(large).await?;
    let names_the_size = |message: &str| message.contains("large") && message.contains("bytes");
    stage
        .pod_until("large", "says that its command is too large", |pod| {
            !is_ready(pod) && container_message(pod).is_some_and(names_the_size)
        })
        .await?;
    installed(&stage, "base-1", "after", "1").await?;
    let lost = losses(&stage).await?;
    assert!(lost <= MOST_LOSSES, "the connection was lost {lost} times");
    // It is not tried again as soon as the connection is back.
    lasts(Duration::from_secs(8)).await;
    assert!(losses(&stage).await? <= MOST_LOSSES, "the connection was lost {} times", losses(&stage).await?);
    assert!(is_ready(&stage.pods().get("before").await?));
    assert_eq!(told(&base, "large"), [] as [String; 0]);
    let fell: Vec<_> = nodes.found().into_iter().filter(|n| n.contains("BaseUnreachable")).collect();
    assert_eq!(fell, [] as [String; 0]);
    stage.delete_pod("large").await?;
    stage.ends_quietly().await
}

/// Each base's command is another one, and any of them ends the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_take_is_found_once_for_a_whole_fleet() -> Result<()> {
    const FEW: usize = 6;
    let broker = Mosquitto::start_configured("max_packet_size 20000").await?;
    let stage = Stage::set_at(ControlPlane::shared().await?, broker, "fault-packets", impatient).await?;
    let fleet = Fleet::start(BaseOptions { id: "fleet".into(), ..stage.base_options("fleet") }, FEW).await?;
    for id in fleet.identities() {
        stage.node_ready(&stage.node_name(id), "True").await?;
    }
    let nodes = Log::of_nodes(&stage);
    let large = |number: usize| format!("large{number}");
    for (number, id) in fleet.identities().iter().enumerate() {
        let mut pod = bound(&stage, id, &large(number), "1");
        let value = "x".repeat(30_000 + 100 * number);
        pod["spec"]["containers"][0]["env"] =
            json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "LARGE", "value": value }]);
        stage.create_pod(pod).await?;
    }
    for number in 0..FEW {
        let says = |message: &str| message.contains("bytes") && message.contains("max_packet_size");
        let why = |pod: &k8s_openapi::api::core::v1::Pod| !is_ready(pod) && container_message(pod).is_some_and(says);
        stage.pod_until(&large(number), "says that its command is too large", why).await?;
    }
    for (number, id) in fleet.identities().iter().enumerate() {
        installed(&stage, id, &format!("small{number}"), "1").await?;
    }
    // Each loss but the first finds a size that was sent for the last time.
    let lost = losses(&stage).await?;
    assert!(lost <= 7.0, "the connection was lost {lost} times for {FEW} bases");
    assert_eq!(fleet.received("installBiz"), FEW);
    let fell: Vec<_> = nodes.found().into_iter().filter(|n| n.contains("BaseUnreachable")).collect();
    assert_eq!(fell, [] as [String; 0]);
    for number in 0..FEW {
        stage.delete_pod(&large(number)).await?;
    }
    stage.ends_quietly().await
}

/// A base that restarts asks for what belongs on it, and that is more than one packet can have.
#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_that_the_broker_does_not_take_in_one_packet_arrives_all_the_same() -> Result<()> {
    let broker = Mosquitto::start_configured("max_packet_size 20000").await?;
    let stage = Stage::set_at(ControlPlane::shared().await?, broker, "fault-baseline", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for number in 0..6 {
        let name = format!("biz{number}");
        let mut pod = bound(&stage, "base-1", &name, "1");
        pod["spec"]["containers"][0]["env"] =
            json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "LARGE", "value": "x".repeat(6_000) }]);
        stage.create_pod(pod).await?;
        stage.pod_ready(&name).await?;
    }
    base.restart().await?;
    eventually("all six again", SOON, async || {
        ensure!(base.modules().len() == 6, "{:?}", base.modules());
        Ok(())
    })
    .await?;
    for number in 0..6 {
        let again = |pod: &k8s_openapi::api::core::v1::Pod| {
            is_ready(pod) && json!(pod.status)["containerStatuses"][0]["restartCount"] == 1
        };
        stage.pod_until(&format!("biz{number}"), "Ready again", again).await?;
    }
    let lost = losses(&stage).await?;
    assert!(lost <= MOST_LOSSES, "the connection was lost {lost} times");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_larger_than_we_take_is_noticed_by_nobody_else() -> Result<()> {
    let mut stage = Stage::set_with("fault-retained", impatient).await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "before", "1").await?;
    let pods = Log::of_pods(&stage, |pod| {
        (pod.metadata.name.as_deref() == Some("before") && !is_ready(pod)).then(|| "not Ready".to_owned())
    });
    let nodes = Log::of_nodes(&stage);
    let spy = Spy::start(stage.broker.address(), "nothing").await?;
    let topic = format!("koupleless_{}/evil/base/heart", stage.name);
    let five_mib = vec![b'x'; 5 << 20];
    // Once, then each second, then retained, for each connection that is yet to come.
    for _ in 0..3 {
        spy.publish(&topic, five_mib.clone()).await?;
        lasts(Duration::from_secs(1)).await;
    }
    spy.publish_retained(&topic, five_mib).await?;
    installed(&stage, "base-1", "after", "1").await?;
    stage.controller.restart().await?;
    installed(&stage, "base-1", "after-a-restart", "1").await?;
    lasts(2 * UNREACHABLE_AFTER).await;
    assert_eq!(nodes.found(), [] as [String; 0]);
    assert_eq!(pods.found(), [] as [String; 0]);
    still_runs(&stage).await?;
    stage.ends_quietly().await
}

/// It stands still for longer than any base may be silent, and nobody is blamed for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_makes_no_node_fall_and_no_peer_deployment_shrink() -> Result<()> {
    const HANGS: Duration = Duration::from_secs(40);
    let stage = Stage::set("fault-hang").await?;
    let fleet = Fleet::start(BaseOptions { id: "fleet".into(), ..stage.base_options("fleet") }, BASES).await?;
    have_their_baselines(&fleet).await?;
    peers::applied(&stage).await?;
    ready_pods(&stage, "0.0.1", BASES).await?;
    stage.ends_quietly().await?;
    let scaled = peers::generation(&stage).await?;
    let (nodes, pods) =
        (Log::of_nodes(&stage), Log::of_pods(&stage, |pod| (!is_ready(pod)).then(|| "not Ready".to_owned())));
    for pause in [HANGS, Duration::from_secs(15)] {
        stage.broker.pause().await?;
        lasts(pause).await;
        stage.broker.resume().await?;
        lasts(Duration::from_secs(10)).await;
    }
    assert_eq!(nodes.found(), [] as [String; 0]);
    assert_eq!(pods.found(), [] as [String; 0]);
    assert_eq!(peers::generation(&stage).await?, scaled);
    // And it does its work again.
    let first = &fleet.identities()[0];
    stage.create_pod(bound(&stage, first, "after", "1")).await?;
    stage.pod_ready("after").await?;
    assert_eq!((fleet.received("installBiz"), fleet.received("uninstallBiz")), (BASES + 1, 0));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_most_bases_fall_silent_at_once_nothing_is_deleted_and_it_is_said() -> Result<()> {
    let stage = Stage::set_with("fault-most", impatient).await?;
    let fleet = Fleet::start(BaseOptions { id: "fleet".into(), ..stage.base_options("fleet") }, BASES).await?;
    have_their_baselines(&fleet).await?;
    peers::applied(&stage).await?;
    ready_pods(&stage, "0.0.1", BASES).await?;
    let scaled = peers::generation(&stage).await?;
    let nodes = Log::of_nodes(&stage);
    let silent = BASES * 3 / 4;
    (0..silent).for_each(|number| fleet.hang(number));
    lasts(UNREACHABLE_AFTER + DEAD_AFTER + Duration::from_secs(10)).await;
    let gone: Vec<_> = nodes.found().into_iter().filter(|text| text.ends_with("gone")).collect();
    assert_eq!(gone, [] as [String; 0]);
    assert_eq!(peers::generation(&stage).await?, scaled, "the peer Deployment was scaled");
    stage.log_line(&["WARN", "silent at once"]).await?;

    (0..silent).for_each(|number| fleet.resume(number));
    ready_pods(&stage, "0.0.1", BASES).await?;
    assert_eq!((fleet.received("installBiz"), fleet.received("uninstallBiz")), (BASES, 0));
    stage.ends_quietly().await
}

/// The same two, alone, are dead when they are silent: most of a few is no suspicion.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_few_bases_all_may_be_dead() -> Result<()> {
    let stage = Stage::set_with("fault-few", impatient).await?;
    for id in ["base-1", "base-2"] {
        let base = stage.base(stage.base_options(id)).await?;
        base.kill();
    }
    for id in ["base-1", "base-2"] {
        stage.node_gone(&stage.node_name(id)).await?;
    }
    stage.ends_quietly().await
}

/// Started with another broker, where there is not one base: as after a wrong address or a wrong environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_hears_nobody_at_all_leaves_all_nodes_as_they_are() -> Result<()> {
    let mut stage = Stage::set_with("fault-nobody", impatient).await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let name = stage.node_name("base-1");
    installed(&stage, "base-1", "biz1", "1").await?;
    stage.ends_quietly().await?;
    stage.controller.terminate().await?;
    let before = stage.nodes().get(&name).await?;
    let nodes = Log::of_nodes(&stage);
    let nowhere = Mosquitto::start().await?;
    let options = ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), stage.cluster.kubeconfig(), nowhere.address());
    let mut second = Controller::start_unready(impatient(options.env("ENV", &stage.name)))?;
    lasts(UNREACHABLE_AFTER + DEAD_AFTER + Duration::from_secs(12)).await;
    assert_eq!(nodes.found(), [] as [String; 0]);
    let now = stage.nodes().get(&name).await?;
    assert_eq!((&now.metadata.uid, json!(now.spec)), (&before.metadata.uid, json!(before.spec)));
    assert!(is_ready(&stage.pods().get("biz1").await?));

    second.terminate().await?;
    stage.controller.restart().await?;
    stage.pod_ready("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_heartbeat_is_no_sign_of_life() -> Result<()> {
    let mut stage = Stage::set_with("fault-ghost", impatient).await?;
    let spy = Spy::start(stage.broker.address(), &format!("koupleless_{}/+/base/heart", stage.name)).await?;
    let honest = stage.base(stage.base_options("base-1")).await?;
    let beat = |all: &[modulet_testkit::broker::Message]| all.first().map(modulet_testkit::broker::Message::text);
    let text = spy.wait_for("a heartbeat", SOON, beat).await?;
    stage.controller.terminate().await?;
    let ghost = format!("koupleless_{}/ghost/base/heart", stage.name);
    spy.publish_retained(&ghost, text.replace("base-1", "ghost")).await?;
    // One that was there once and is gone: its old beat does not bring it back.
    let gone = format!("koupleless_{}/base-1/base/heart", stage.name);
    spy.publish_retained(&gone, text).await?;
    honest.kill();
    stage.controller.restart().await?;
    let _witness = stage.base(stage.base_options("base-2")).await?;
    stage.node_gone(&stage.node_name("base-1")).await?;
    let seen = stage.nodes().get_opt(&stage.node_name("ghost")).await?;
    assert!(seen.is_none(), "a Node for a base that was never there");
    stage.ends_quietly().await
}

/// Its own connection is the one that is lost: the bases go on beating, and old beats wait nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_taken_by_another_client_comes_back_without_harm() -> Result<()> {
    let stage = Stage::set_with("fault-thief", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let nodes = Log::of_nodes(&stage);
    // The broker throws the earlier one of two clients with one id out.
    let (_client, mut events) = stage.broker.address().connect("koupleless@@@modulet-under-test");
    events.poll().await?;
    drop(events);
    installed(&stage, "base-1", "after", "1").await?;
    assert_eq!(nodes.found(), [] as [String; 0]);
    assert_eq!(SimulatedBase::received(&base, "installBiz"), 1);
    stage.ends_quietly().await
}
