//! Bases of every protocol generation, and strangers who only pretend to be bases.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use modulet_testkit::{
    base::{Activation, BaseOptions, Generation, SimulatedBase},
    broker::Spy,
    wait::eventually,
};

use crate::stage::{SOON, Stage, container_message, container_reason, is_ready, module_pod, phase};

const ALL: [(&str, Generation); 5] = [
    ("2-1-5", Generation::V2_1_5),
    ("2-1-6", Generation::V2_1_6),
    ("2-1-7", Generation::V2_1_7),
    ("2-1-9", Generation::V2_1_9),
    ("2-1-11", Generation::V2_1_11),
];

/// A base whose name is also its Pods' prefix, registered.
async fn base(stage: &Stage, name: &str, generation: Generation, activation: Activation) -> Result<SimulatedBase> {
    let options = BaseOptions { name: name.to_owned(), activation, ..stage.base_options(name) };
    let base = SimulatedBase::start(options.of_generation(generation)).await?;
    if generation <= Generation::V2_1_6 {
        assert_ne!(base.identity(), name, "the oldest invent their identities");
    }
    stage.node_ready(&stage.node_name(&base.identity()), "True").await?;
    Ok(base)
}

/// Register, install, update, delete.
async fn lives_through_a_release(
    stage: &Stage,
    name: String,
    generation: Generation,
    activation: Activation,
) -> Result<()> {
    let base = base(stage, &name, generation, activation).await?;
    let (old, new) = (format!("{name}-old"), format!("{name}-new"));
    stage.create_pod(module_pod(&name, &old, &[("biz1", "0.0.1")])).await?;
    stage.pod_ready(&old).await?;
    assert_eq!(base.received("installBiz"), 1, "{name}");

    stage.create_pod(module_pod(&name, &new, &[("biz1", "0.0.2")])).await?;
    stage.pod_ready(&new).await?;
    if activation == Activation::MultiActive {
        assert!(is_ready(&stage.pods().get(&old).await?), "{name}: both versions serve");
    } else {
        let old = stage.pod_until(&old, "superseded", |pod| phase(pod) == "Failed").await?;
        assert_eq!(container_reason(&old), Some("BizDeactivate"), "{name}");
    }
    stage.delete_pod(&old).await?;
    assert!(is_ready(&stage.pods().get(&new).await?), "{name}: the new version goes on serving");
    stage.delete_pod(&new).await?;
    eventually(&format!("{name} empty"), SOON, async || base.modules().is_empty()).await?;
    // A base that leaves new versions deactivated is told twice more: to see that the jar can still be fetched, and to
    // switch, which takes the old one with it.
    // One that does not answer the first of these is asked again.
    let (installs, uninstalls) = if activation == Activation::Default { (4..=5, 1) } else { (2..=2, 2) };
    let told = (base.received("installBiz"), base.received("uninstallBiz"));
    assert!(installs.contains(&told.0) && told.1 == uninstalls, "{name}: {told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bases_of_every_generation_live_through_a_release() -> Result<()> {
    let stage = Stage::set("generations").await?;
    let activations =
        [("default", Activation::Default), ("new", Activation::ActivateNew), ("both", Activation::MultiActive)];
    let lives = ALL.iter().flat_map(|(version, generation)| {
        let stage = &stage;
        activations.iter().map(move |(word, activation)| {
            lives_through_a_release(stage, format!("gen-{version}-{word}"), *generation, *activation)
        })
    });
    try_join_all(lives).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_fails_on_an_older_base_says_why_and_leaves_the_old_version_alone() -> Result<()> {
    let stage = Stage::set("gen-failures").await?;
    let fails = |version: &'static str, generation: Generation| {
        let stage = &stage;
        async move {
            let name = format!("fails-{version}");
            let base = base(stage, &name, generation, Activation::ActivateNew).await?;
            stage.create_pod(module_pod(&name, &format!("{name}-old"), &[("biz1", "0.0.1")])).await?;
            stage.pod_ready(&format!("{name}-old")).await?;
            base.set_url_behaviour(
                "biz1-0.0.2",
                modulet_testkit::base::UrlBehaviour::Broken { cause: "broken on purpose".to_owned() },
            );
            stage.create_pod(module_pod(&name, &format!("{name}-new"), &[("biz1", "0.0.2")])).await?;
            let failed = |pod: &k8s_openapi::api::core::v1::Pod| {
                container_reason(pod) == Some("InstallFailed") && !is_ready(pod)
            };
            let pod = stage.pod_until(&format!("{name}-new"), "failed", failed).await?;
            let message = container_message(&pod).unwrap_or_default();
            assert!(message.contains("broken on purpose"), "{name}: {message}");
            assert!(is_ready(&stage.pods().get(&format!("{name}-old")).await?), "{name}");
            anyhow::Ok(())
        }
    };
    // Before 2.1.7 nothing at all is said of a module that fails to start.
    try_join_all(ALL.into_iter().skip(2).map(|(version, generation)| fails(version, generation))).await?;
    stage.ends_quietly().await
}

/// Resident memory of a process, in kB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// Thousands say one thing each, are taken for bases, and are forgotten.
async fn wave(stage: &Stage, spy: &Spy, name: &str, count: usize) -> Result<u64> {
    let known = async || stage.controller.metric("modulet_bases", &[]).await;
    for stranger in 0..count {
        let topic = format!("koupleless_{}/{name}-{stranger}/base/simpleBiz", stage.name);
        spy.publish(&topic, r#"{"publishTimestamp":1,"data":[]}"#).await?;
    }
    let received = format!("koupleless_{}/{name}-{}/base/simpleBiz", stage.name, count - 1);
    spy.wait_for("the last stranger", SOON, |all| all.iter().any(|m| m.topic == received).then_some(())).await?;
    spy.clear();
    eventually("strangers known", SOON, async || {
        let known = known().await?;
        ensure!(known >= 1.0, "{known}");
        anyhow::Ok(())
    })
    .await?;
    eventually("strangers forgotten", Duration::from_secs(90), async || {
        let known = known().await?;
        ensure!(known < 1.0, "{known} are left");
        anyhow::Ok(())
    })
    .await?;
    resident(stage.controller.process()?.pid())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_invented_bases_are_forgotten_and_leave_no_memory_behind() -> Result<()> {
    let stage = Stage::set_with("strangers", |options| {
        options.env("MODULET_UNREACHABLE_AFTER", "5").env("MODULET_DEAD_AFTER", "1").env("MODULET_LOG", "warn")
    })
    .await?;
    let spy = Spy::start(stage.broker.address(), &format!("koupleless_{}/+/base/+", stage.name)).await?;
    let before = resident(stage.controller.process()?.pid())?;
    let first = wave(&stage, &spy, "first", 5000).await?;
    let second = wave(&stage, &spy, "second", 5000).await?;
    eprintln!("resident: {before} kB before, {first} kB after 5,000 strangers, {second} kB after 5,000 others");
    assert!(first < before + 80_000, "{before} kB, then {first} kB");
    assert!(second < first + 25_000, "{first} kB, then {second} kB");

    // Those who beat get Nodes, and lose them.
    for stranger in 0..100 {
        let topic = format!("koupleless_{}/third-{stranger}/base/heart", stage.name);
        let data = r#"{"baseMetadata":{"name":"stranger","version":"1"},"localIP":"192.0.2.1","state":"activated"}"#;
        spy.publish(&topic, format!(r#"{{"publishTimestamp":1,"data":{data}}}"#)).await?;
    }
    let nodes = async || {
        let selector = format!("virtual-kubelet.koupleless.io/env={}", stage.name);
        let nodes = stage.nodes().list(&kube::api::ListParams::default().labels(&selector)).await?;
        anyhow::Ok(nodes.items.len())
    };
    eventually("a Node for somebody", SOON, async || {
        let count = nodes().await?;
        ensure!(count > 0, "{count}");
        anyhow::Ok(())
    })
    .await?;
    eventually("no Nodes left", Duration::from_secs(60), async || {
        let (count, known) = (nodes().await?, stage.controller.metric("modulet_bases", &[]).await?);
        ensure!(count == 0 && known < 1.0, "{count} Nodes, {known} bases");
        anyhow::Ok(())
    })
    .await?;
    stage.ends_quietly().await
}
