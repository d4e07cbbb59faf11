//! A real base whose JVM has a limit for its metaspace, and modules that leave classes behind.

use anyhow::{Context, Result, ensure};
use modulet_testkit::{controller::ControllerOptions, wait::eventually};
use serde_json::json;

use crate::{
    real_base::Scene,
    stage::{SOON, container_message, container_reason, is_ready},
};

/// What the Node says of memory: status, reason and message.
async fn memory(scene: &Scene) -> Result<[String; 3]> {
    let node = scene.stage.nodes().get(&scene.stage.node_name("jvm-1")).await?;
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let memory = conditions.into_iter().find(|c| c.type_ == "MemoryPressure").context("none")?;
    Ok([memory.status, memory.reason.unwrap_or_default(), memory.message.unwrap_or_default()])
}

/// A module of which a thousand classes are 2 MiB, and stay when it goes.
async fn deploy(scene: &Scene, name: &str, module: (&str, &str), leak: &str, ignores: bool) -> Result<()> {
    let mut pod = scene.pod(name, &[module], None, &[leak]);
    if ignores {
        pod["metadata"]["annotations"] = json!({ "modulet.koupleless.io/metaspace": "ignore" });
    }
    // The taint of low memory keeps the scheduler away.
    pod["spec"]["nodeName"] = json!(scene.stage.node_name("jvm-1"));
    scene.stage.create_pod(pod).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_updates_fill_up_lets_no_more_in_before_it_dies_of_it() -> Result<()> {
    let with =
        |options: ControllerOptions| options.env("MODULET_METASPACE_LOW", "90").env("MODULET_METRICS_PER_BASE", "true");
    let mut scene = Scene::set_with("real-metaspace", with, |options| {
        options.activate_new_module = true;
        options.java_opts = vec!["-XX:MaxMetaspaceSize=56m".to_owned()];
    })
    .await?;
    eventually("the Node says how much is used", SOON, async || {
        let memory = memory(&scene).await?;
        ensure!(memory[0] == "False" && memory[2].contains(" % of 56 MiB of metaspace are used"), "{memory:?}");
        Ok(())
    })
    .await?;

    let (mut serves, mut waits) = (String::new(), None);
    for number in 0..20 {
        let (next, version) = (format!("update-{number}"), ["0.0.1", "0.0.2", "0.0.3"][number % 3]);
        deploy(&scene, &next, ("biz1", version), "--leak=1500", false).await?;
        let settled = |pod: &_| is_ready(pod) || container_reason(pod) == Some("InsufficientMetaspace");
        let pod = scene.stage.pod_until(&next, "Ready, or without room", settled).await?;
        if !is_ready(&pod) {
            waits = Some((number, next, container_message(&pod).unwrap_or_default().to_owned()));
            break;
        }
        let before = std::mem::replace(&mut serves, next);
        if number > 0 {
            scene.stage.delete_pod(&before).await?;
        }
    }
    let (updates, next, message) = waits.context("it has always room")?;
    assert!(updates > 1, "{updates} updates: {message}");
    assert!(message.contains(" of 56 MiB are left for modules: restart jvm-1"), "{message}");
    scene.stage.event_with(&next, &["Warning", "InsufficientMetaspace", "needs about"]).await?;

    // What is let in all the same makes it low.
    deploy(&scene, "ignores", ("biz2", "0.0.1"), "--leak=2000", true).await?;
    scene.ready("ignores").await?;
    eventually("the Node says so", SOON, async || {
        let memory = memory(&scene).await?;
        ensure!(memory[0] == "True" && memory[1] == "MetaspaceLow", "{memory:?}");
        Ok(())
    })
    .await?;
    let described = scene.stage.kubectl(&["describe", "node", &scene.stage.node_name("jvm-1")]).await?;
    assert!(described.contains("of 56 MiB of metaspace are used"), "{described}");
    let metric = async |name: &str| scene.stage.controller.metric(name, &[("base", "jvm-1")]).await;
    assert!(metric("modulet_base_metaspace_used_bytes").await? > 40e6);
    assert!(metric("modulet_base_loaded_classes").await? > 9e3);

    // What serves does, and nothing is out of memory.
    assert!(is_ready(&scene.stage.pods().get(&serves).await?));
    assert!(scene.base.ask("biz1").await?.is_some());
    // It takes next to nothing along, so there is no more room without it.
    scene.stage.delete_pod(&serves).await?;
    eventually("what it leaves behind", SOON, async || {
        let left = metric("modulet_base_metaspace_left_behind_bytes").await?;
        ensure!(left > 1e6, "{left}");
        Ok(())
    })
    .await?;
    let pod = scene.stage.pods().get(&next).await?;
    assert_eq!(container_reason(&pod), Some("InsufficientMetaspace"));
    assert!(!scene.base.log()?.contains("OutOfMemoryError"));

    scene.base.restart().await?;
    scene.ready(&next).await?;
    scene.ready("ignores").await?;
    eventually("the Node says that there is enough again", SOON, async || {
        let memory = memory(&scene).await?;
        ensure!(memory[0] == "False" && memory[2].starts_with("about "), "{memory:?}");
        Ok(())
    })
    .await?;
    assert!(!scene.base.log()?.contains("OutOfMemoryError"));
    scene.everything_said_was_valid().await?;
    scene.stage.ends_quietly().await
}
