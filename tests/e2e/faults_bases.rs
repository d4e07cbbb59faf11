//! One base, or somebody who says that he is one: what he claims, how often, and what it does to the others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, PostParams};
use modulet_testkit::{
    base::{BaseOptions, BizState, SimulatedBase},
    broker::Spy,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::{
        DEAD_AFTER, Log, UNREACHABLE_AFTER, bound, impatient, installed, lasts, still_runs, told_becomes, waits,
    },
    stage::{SOON, Stage, container_message, is_ready, module_pod},
    workloads::{told, workload},
};

/// A base that was given up is asked now and then; in the first minutes more often than later.
const REMEMBERED: Duration = Duration::from_secs(100);
/// Installs that are measured before and during a flood.
const INSTALLS: usize = 12;

/// One module after the other; how long each takes from the creation of its Pod to Ready.
async fn latencies(stage: &Stage, base: &str, prefix: &str) -> Result<Vec<Duration>> {
    let mut all = Vec::new();
    for number in 0..INSTALLS {
        let begun = Instant::now();
        installed(stage, base, &format!("{prefix}{number}"), "1").await?;
        all.push(begun.elapsed());
    }
    all.sort_unstable();
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_floods_does_not_slow_the_others_down() -> Result<()> {
    let stage = Stage::set("fault-flood").await?;
    let _quiet = stage.base(stage.base_options("quiet")).await?;
    let loud = stage.base(stage.base_options("loud")).await?;
    latencies(&stage, "quiet", "warm").await?;
    let before = latencies(&stage, "quiet", "before").await?;
    let writes = async || stage.controller.metric("modulet_api_writes_total", &[("kind", "node")]).await;
    let written = writes().await?;

    let spy = Spy::start(stage.broker.address(), "nothing").await?;
    let below = format!("koupleless_{}/loud/base", stage.name);
    let list: Vec<_> =
        (0..20_000).map(|n| json!({ "name": format!("m{n}"), "version": "1", "state": "activated" })).collect();
    let list = json!({ "publishTimestamp": 1, "data": list }).to_string();
    let metadata = json!({ "identity": "loud", "name": stage.name, "version": "1.0.0", "clusterName": "default" });
    let flood = tokio::spawn(async move {
        for turn in 0_u64.. {
            let heart = json!({ "publishTimestamp": turn, "data": {
                "baseMetadata": metadata, "localIP": format!("192.0.2.{}", turn % 200 + 1), "localHostName": format!("host-{turn}"),
                "port": 0, "state": "activated",
            } });
            let question = json!({ "publishTimestamp": turn, "data": metadata });
            spy.publish(&format!("{below}/heart"), heart.to_string()).await?;
            spy.publish(&format!("{below}/queryBaseline"), question.to_string()).await?;
            if turn % 40 == 0 {
                spy.publish(&format!("{below}/simpleBiz"), list.clone()).await?;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    });
    let begun = Instant::now();
    let during = latencies(&stage, "quiet", "during").await;
    let lasted = begun.elapsed();
    flood.abort();
    let during = during?;
    let written = writes().await? - written;
    eprintln!(
        "install to Ready: median {:?} and worst {:?} before, median {:?} and worst {:?} during the flood; {written} writes of Nodes in {lasted:?}",
        before[INSTALLS / 2],
        before[INSTALLS - 1],
        during[INSTALLS / 2],
        during[INSTALLS - 1]
    );
    let most = 2 * before[INSTALLS / 2] + Duration::from_millis(50);
    assert!(during[INSTALLS / 2] <= most, "{:?} and {:?} before", during[INSTALLS / 2], before[INSTALLS / 2]);
    assert!(written <= 10.0 + 2.0 * lasted.as_secs_f64(), "{written} writes of Nodes in {lasted:?}");
    assert!(loud.connected());
    still_runs(&stage).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_invented_identities_do_not_keep_a_known_base_out() -> Result<()> {
    const STRANGERS: usize = 25_000;
    let mut stage = Stage::set_with("fault-invented", |options| impatient(options).env("MODULET_LOG", "warn")).await?;
    let known = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    let spy = Spy::start(stage.broker.address(), &format!("koupleless_{}/mark/base/+", stage.name)).await?;
    stage.controller.terminate().await?;
    known.drop_connection_for(Duration::from_secs(3));
    stage.controller.restart().await?;
    for stranger in 0..STRANGERS {
        let topic = format!("koupleless_{}/stranger-{stranger}/base/simpleBiz", stage.name);
        spy.publish(&topic, r#"{"publishTimestamp":1,"data":[]}"#).await?;
    }
    spy.publish(&format!("koupleless_{}/mark/base/simpleBiz", stage.name), r#"{"publishTimestamp":1,"data":[]}"#)
        .await?;
    spy.wait_for("the last stranger", SOON, |all| (!all.is_empty()).then_some(())).await?;
    let bases = stage.controller.metric("modulet_bases", &[]).await?;
    assert!(bases < 22_000.0, "{bases} are remembered");
    // One that has a Node, and one that comes anew while the others are still remembered.
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    installed(&stage, "base-1", "biz2", "1").await?;
    still_runs(&stage).await?;
    stage.log_line(&["WARN", "bases"]).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_busy_with_modules_that_hang_says_so_in_its_other_pods() -> Result<()> {
    let stage = Stage::set_with("fault-busy", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for number in 0..4 {
        let name = format!("hangs{number}");
        let mut pod = bound(&stage, "base-1", &name, "1");
        let url = format!("https://modules.example.com/{name}-slow-900000-1-ark-biz.jar");
        pod["spec"]["containers"][0]["image"] = json!(url);
        stage.create_pod(pod).await?;
    }
    eventually("four that hang", SOON, async || base.received("installBiz") == 4).await?;
    stage.create_pod(bound(&stage, "base-1", "waits", "1")).await?;
    stage
        .pod_until("waits", "says what the base is busy with", |pod| {
            container_message(pod).is_some_and(|message| message.contains("busy") && message.contains("hangs0"))
        })
        .await?;
    // They do not hold their places for ever.
    eventually("a place", Duration::from_secs(150), async || {
        let pod = stage.pods().get("waits").await?;
        ensure!(is_ready(&pod), "{}", container_message(&pod).unwrap_or_default());
        Ok(())
    })
    .await?;
    stage.ends_without_quiet("four modules still hang, and say for how long");
    Ok(())
}

/// One Pod of biz1 with that version on the stage's only base.
fn release(stage: &Stage, version: &str) -> Value {
    let mut release = workload(stage, "Deployment", "biz1", Some(1), version);
    release["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    release
}

async fn released(stage: &Stage, version: &str, limit: Duration) -> Result<Pod> {
    eventually(&format!("biz1:{version} Ready"), limit, async || {
        let pods = stage.pods_with(&format!("module.koupleless.io/version={version}")).await?;
        pods.iter().find(|pod| is_ready(pod)).cloned().with_context(|| format!("{} Pods", pods.len()))
    })
    .await
}

/// A real base's heart dies with a beat that falls into an outage; everything else works when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_comes_back_from_the_dead_without_a_heart_has_its_node_and_modules_again() -> Result<()> {
    let stage = Stage::set_with("fault-heartless", impatient).await?;
    let options = BaseOptions {
        heartbeat: Duration::from_secs(2),
        reconnect: Duration::from_millis(250),
        ..stage.base_options("base-1")
    };
    let base =
        stage.base(BaseOptions { activation: modulet_testkit::base::Activation::ActivateNew, ..options }).await?;
    stage.apply(&release(&stage, "1")).await?;
    released(&stage, "1", SOON).await?;
    base.drop_connection_for(Duration::from_secs(25));
    stage.node_gone(&stage.node_name("base-1")).await?;
    let beats = base.counters().heartbeats;
    // An update that is asked for meanwhile waits for it.
    stage.apply(&release(&stage, "2")).await?;
    eventually("the base is connected again", SOON, async || base.connected()).await?;
    released(&stage, "2", REMEMBERED).await?;
    assert_eq!(base.counters().heartbeats, beats, "its heart is dead");
    eventually("only the new version", SOON, async || {
        ensure!(base.modules() == [("biz1".to_owned(), "2".to_owned(), BizState::Activated)], "{:?}", base.modules());
        Ok(())
    })
    .await?;
    let told = told(&base, "biz1");
    assert!(!told[1..].contains(&"install 1".to_owned()), "what it kept was installed again: {told:?}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_installed_stays_ours_when_its_node_is_deleted_while_we_are_down() -> Result<()> {
    let mut stage = Stage::set_with("fault-node-gone", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    base.install_by_hand("by-hand", "1");
    for pod in ["stays", "goes"] {
        installed(&stage, "base-1", pod, "1").await?;
    }
    stage.ends_quietly().await?; // so that everything is on record
    stage.controller.terminate().await?;
    stage.nodes().delete(&stage.node_name("base-1"), &DeleteParams::default()).await?;
    stage.pods().delete("goes", &DeleteParams::default().grace_period(0)).await?;
    stage.controller.restart().await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    told_becomes(&base, "goes", &["install 1", "uninstall 1"]).await?;
    stage.delete_pod("stays").await?;
    told_becomes(&base, "stays", &["install 1", "uninstall 1"]).await?;
    lasts(Duration::from_secs(4)).await; // two lists
    assert_eq!(base.modules(), [("by-hand".to_owned(), "1".to_owned(), BizState::Activated)]);
    stage.ends_quietly().await
}

/// As the Go controller left it, with what others put there besides.
fn left_behind(stage: &Stage, id: &str) -> Result<Node> {
    let name = stage.node_name(id);
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": {
            "base.koupleless.io/name": stage.name, "base.koupleless.io/version": "1.0.0",
            "virtual-kubelet.koupleless.io/component": "vnode", "virtual-kubelet.koupleless.io/env": stage.name,
            "kubernetes.io/hostname": name, "example.com/team": "blue",
        } },
        "spec": { "taints": [
            { "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" },
            { "key": "schedule.koupleless.io/node-env", "value": stage.name, "effect": "NoExecute" },
        ] },
        "status": {
            "capacity": { "memory": "0", "pods": "2000", "example.com/gpus": "2" },
            "allocatable": { "memory": "0", "pods": "2000", "example.com/gpus": "2" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_another_controller_left_is_taken_over_without_a_repeated_write() -> Result<()> {
    let mut stage = Stage::set_with("fault-left", |options| options.env("MODULET_UNREACHABLE_AFTER", "5")).await?;
    stage.controller.terminate().await?;
    let name = stage.node_name("base-1");
    stage.nodes().create(&PostParams::default(), &left_behind(&stage, "base-1")?).await?;
    stage.controller.restart().await?;
    // Its base is away; then it comes.
    stage.ends_quietly().await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    stage.ends_quietly().await?;
    let node = json!(stage.nodes().get(&name).await?);
    assert_eq!(node["metadata"]["labels"]["example.com/team"], "blue");
    assert_eq!(node["status"]["capacity"]["example.com/gpus"], "2");
    assert_ne!(node["status"]["allocatable"]["memory"], "0", "a base without a limit has room");
    let taints = node["spec"]["taints"].to_string();
    assert!(!taints.contains("node-env"), "it is not wanted, and was a controller's of this kind: {taints}");
    base.restart().await?;
    stage.pod_ready("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_restarts_without_its_metaspace_limit_makes_no_repeated_write() -> Result<()> {
    let stage = Stage::set_with("fault-metaspace-unlimited", |options| options.env("MODULET_LIST_EVERY", "1")).await?;
    let limited =
        BaseOptions { metaspace: 268_435_456, heartbeat: Duration::from_secs(1), ..stage.base_options("base-1") };
    let base = stage.base(limited.clone()).await?;
    let name = stage.node_name("base-1");
    let memory = async || anyhow::Ok(json!(stage.nodes().get(&name).await?.status)["capacity"]["memory"].clone());
    eventually("its limit", SOON, async || {
        let memory = memory().await?;
        ensure!(memory == "268435456" || memory == "256Mi", "{memory}");
        Ok(())
    })
    .await?;
    base.kill();
    drop(base);
    let base = SimulatedBase::start(BaseOptions { metaspace: -1, ..limited }).await?;
    eventually("no limit", SOON, async || {
        let memory = memory().await?;
        ensure!(memory != "268435456" && memory != "256Mi", "{memory}");
        Ok(())
    })
    .await?;
    stage.ends_quietly().await?;
    assert!(base.connected());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_said_goodbye_stays_stopped_until_it_beats() -> Result<()> {
    let stage = Stage::set_with("fault-goodbye", |options| {
        options.env("MODULET_UNREACHABLE_AFTER", "5").env("MODULET_LIST_EVERY", "2")
    })
    .await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let node = stage.node_name("base-1");
    installed(&stage, "base-1", "biz1", "1").await?;
    // A question is under way: its answer comes after the goodbye.
    base.delay_replies(Duration::from_secs(1));
    let lists = base.received("queryAllBiz");
    eventually("a question", SOON, async || base.received("queryAllBiz") > lists).await?;
    base.say_goodbye();
    let stopped = stage.node_ready(&node, "False").await?;
    assert!(json!(stopped.status)["conditions"].to_string().contains("BaseStopped"));
    let nodes = Log::of_nodes(&stage);
    base.delay_replies(Duration::ZERO);
    lasts(Duration::from_secs(1)).await;
    let asked = base.received("health") + base.received("queryAllBiz");
    lasts(3 * UNREACHABLE_AFTER).await;
    assert_eq!(base.received("health") + base.received("queryAllBiz"), asked, "it is left alone");
    let ready = stage.nodes().get(&node).await?;
    let conditions = json!(ready.status)["conditions"].to_string();
    assert!(conditions.contains("BaseStopped"), "{conditions}");
    assert!(nodes.found().iter().all(|text| text.contains("BaseStopped")), "{:?}", nodes.found());

    base.set_ip("192.0.2.10"); // it beats again
    stage.node_ready(&node, "True").await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(told(&base, "biz1"), ["install 1"]);
    stage.ends_quietly().await
}

fn addresses(pod: &Pod) -> Value {
    let status = json!(pod.status);
    json!([status["podIP"], status["podIPs"], status["hostIP"], status["hostIPs"]])
}

async fn follows(stage: &Stage, pod: &str, ip: &str) -> Result<()> {
    let wanted = json!([ip, [{ "ip": ip }], ip, [{ "ip": ip }]]);
    stage.pod_until(pod, &format!("Ready at {ip}"), |pod| is_ready(pod) && addresses(pod) == wanted).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addresses_of_pods_follow_their_base() -> Result<()> {
    let stage = Stage::set_with("fault-address", impatient).await?;
    let base = stage.base(BaseOptions { ip: "192.0.2.20".into(), ..stage.base_options("base-1") }).await?;
    for pod in ["one", "two", "three"] {
        installed(&stage, "base-1", pod, "1").await?;
        follows(&stage, pod, "192.0.2.20").await?;
    }
    base.set_ip("192.0.2.21");
    for pod in ["one", "two", "three"] {
        follows(&stage, pod, "192.0.2.21").await.context("while it runs")?;
    }
    base.kill();
    base.set_ip_silently("192.0.2.22");
    base.restart().await?;
    for pod in ["one", "two", "three"] {
        follows(&stage, pod, "192.0.2.22").await.context("after a restart")?;
    }
    let node = json!(stage.nodes().get(&stage.node_name("base-1")).await?.status);
    assert!(node["addresses"].to_string().contains("192.0.2.22"), "{}", node["addresses"]);
    assert!(!node["addresses"].to_string().contains("192.0.2.21"), "{}", node["addresses"]);
    stage.ends_quietly().await
}

/// And what ran goes on with the address that it had.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused_and_said() -> Result<()> {
    let stage = Stage::set_with("fault-no-address", impatient).await?;
    let base = stage.base(BaseOptions { ip: "192.0.2.30".into(), ..stage.base_options("base-1") }).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    for odd in ["unknown", "base.example.com", "fe80::1%eth0", "999.0.2.1", "127.0.0.1"] {
        base.set_ip(odd);
        stage.log_line(&["WARN", odd]).await?;
        follows(&stage, "biz1", "192.0.2.30").await?;
    }
    installed(&stage, "base-1", "biz2", "1").await?;
    stage.ends_quietly().await
}

/// The list that has the module on it is older than the Pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_removed_by_hand_is_not_called_ready_by_an_old_list() -> Result<()> {
    let stage = Stage::set("fault-old-list").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    base.install_by_hand("biz1", "1");
    // It is on a list.
    let lists = base.received("queryAllBiz");
    stage.create_pod(module_pod(&stage.name, "other", &[("other", "1")])).await?;
    stage.pod_ready("other").await?;
    eventually("a list", SOON, async || base.received("queryAllBiz") > lists).await?;
    assert!(base.remove_by_hand("biz1", "1"));
    lasts(Duration::from_secs(1)).await;
    let lies = Log::of_pods(&stage, {
        let ready = |pod: &Pod| pod.metadata.name.as_deref() == Some("biz1") && is_ready(pod);
        move |pod| ready(pod).then(|| "Ready".to_owned())
    });
    stage.create_pod(bound(&stage, "base-1", "biz1", "1")).await?;
    eventually("Ready, rightly or not", SOON, async || !lies.found().is_empty()).await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated), "the Pod is Ready and nothing runs");
    stage.pod_ready("biz1").await?;
    assert_eq!(told(&base, "biz1"), ["install 1"]);
    stage.ends_quietly().await
}

/// Every heartbeat, list and answer about its health says the same as the one before.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_new_causes_no_write() -> Result<()> {
    let stage = Stage::set_with("fault-nothing-new", |options| options.env("MODULET_LIST_EVERY", "1")).await?;
    let options = BaseOptions { heartbeat: Duration::from_millis(200), ..stage.base_options("base-1") };
    let base = stage.base(options).await?;
    installed(&stage, "base-1", "good", "1").await?;
    let mut broken = bound(&stage, "base-1", "bad", "1");
    broken["spec"]["containers"][0]["env"] = json!([]);
    broken["metadata"]["labels"]["module.koupleless.io/version"] = json!("");
    stage.create_pod(broken).await?;
    waits(&stage, "bad", "InvalidModule", &[]).await?;
    let (hearts, lists) = (base.counters().heartbeats, base.received("queryAllBiz"));
    stage.ends_quietly().await?;
    assert!(base.counters().heartbeats > hearts + 5 && base.received("queryAllBiz") > lists + 1);
    lasts(DEAD_AFTER).await;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_metaspace_runs_out_says_so_on_its_node_until_there_is_enough_again() -> Result<()> {
    const MIB: u64 = 1 << 20;
    let stage = Stage::set("fault-metaspace").await?;
    let base = stage.base(BaseOptions { metaspace: 256 << 20, ..stage.base_options("base-1") }).await?;
    let node = stage.node_name("base-1");
    let pressure = async |status: &str, tainted: bool| {
        eventually(&format!("MemoryPressure {status}"), SOON, async || {
            let object = stage.nodes().get(&node).await?;
            let conditions = object.status.into_iter().flat_map(|s| s.conditions.unwrap_or_default());
            let memory = conditions.into_iter().find(|c| c.type_ == "MemoryPressure").context("none")?;
            let taints = object.spec.and_then(|s| s.taints).unwrap_or_default();
            let taint =
                taints.iter().any(|t| t.key == "node.kubernetes.io/memory-pressure" && t.effect == "NoSchedule");
            ensure!(memory.status == status && taint == tainted, "{memory:?} {taints:?}");
            Ok(memory)
        })
        .await
    };
    installed(&stage, "base-1", "biz1", "1").await?;
    pressure("False", false).await?;
    base.use_metaspace(250 * MIB);
    installed(&stage, "base-1", "biz2", "1").await?;
    let low = pressure("True", true).await?;
    assert_eq!(low.reason.as_deref(), Some("MetaspaceLow"));
    assert!(low.message.iter().any(|m| m.contains("250 of 256 MiB") && m.contains("restart the base")), "{low:?}");
    stage.event_with("biz1", &["Warning", "MetaspaceLow", "250 of 256 MiB"]).await?;
    stage.event_with("biz2", &["Warning", "MetaspaceLow"]).await?;
    // Its modules are served as before.
    stage.node_ready(&node, "True").await?;
    assert!(is_ready(&stage.pods().get("biz1").await?));
    // Restarted as it was told, it has it back.
    base.use_metaspace(60 * MIB);
    base.restart().await?;
    pressure("False", false).await?;
    stage.pod_ready("biz1").await?;
    stage.pod_ready("biz2").await?;
    eventually("the end of it in an Event of the Node", SOON, async || {
        let of_node = format!("involvedObject.name={node}");
        let told = stage.kubectl(&["-n", "default", "get", "events", "--field-selector", &of_node]).await?;
        let count = |reason: &str| told.lines().filter(|line| line.contains(reason)).count();
        ensure!(count("MetaspaceLow") == 1 && count("BaseHasMemory") == 1, "{told}");
        Ok(())
    })
    .await?;
    let told = stage.told_about("biz1").await?;
    assert_eq!(told.iter().filter(|event| event.contains("MetaspaceLow")).count(), 1, "{told:?}");
    stage.ends_quietly().await
}
