//! A base that asks at its start gets what belongs on it, at once and in one batch.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use modulet_testkit::{base::SimulatedBase, wait::eventually};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, is_ready, module_pod, module_template};

fn baselines(base: &SimulatedBase) -> Vec<Value> {
    base.commands().into_iter().filter(|c| c.command == "baseline").map(|c| c.payload).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_base_has_the_modules_of_its_daemon_sets_before_their_pods() -> Result<()> {
    let stage = Stage::set("baseline-daemons").await?;
    let mut template = module_template(&stage.name, &[("biz1", "0.0.1")]);
    template["metadata"]["labels"]["app"] = json!("daemons");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "daemons" },
        "spec": { "selector": { "matchLabels": { "app": "daemons" } }, "template": template },
    });
    let sets: Api<DaemonSet> = Api::namespaced(stage.client.clone(), &stage.name);
    sets.create(&Default::default(), &serde_json::from_value(set)?).await?;
    // A second one that is for other bases: its module must not come.
    let mut other = module_template("another-stage", &[("biz2", "0.0.1")]);
    other["metadata"]["labels"]["app"] = json!("others");
    let other = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "others" },
        "spec": { "selector": { "matchLabels": { "app": "others" } }, "template": other },
    });
    sets.create(&Default::default(), &serde_json::from_value(other)?).await?;
    eventually("the controller to know them", SOON, async || {
        let status = sets.get("daemons").await?.status.context("no status")?;
        if status.observed_generation.is_some() { Ok(()) } else { bail!("not observed") }
    })
    .await?;

    let base = stage.base(stage.base_options("base-1")).await?;
    eventually("its Pod Ready", SOON, async || {
        let pods = stage.pods_with("app=daemons").await?;
        if pods.iter().any(is_ready) { Ok(()) } else { bail!("{} Pods", pods.len()) }
    })
    .await?;
    let sent = baselines(&base);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].as_array().map(Vec::len), Some(1), "{}", sent[0]);
    assert_eq!(sent[0][0]["bizName"], "biz1");
    assert_eq!(base.received("installBiz"), 0, "the Pod adopted what ran");
    stage.ends_quietly().await?;
    // It came for this Pod: nobody asked for a restart.
    let events = stage.kubectl(&["get", "events"]).await?;
    assert!(events.contains("Installed") && !events.contains("AlreadyRunning"), "{events}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_restarts_with_twenty_modules_is_whole_again_in_one_batch() -> Result<()> {
    let stage = Stage::set("baseline-twenty").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for number in 0..20 {
        let module = format!("biz{number}");
        stage.create_pod(module_pod(&stage.name, &module, &[(&module, "0.0.1")])).await?;
    }
    let all_ready = async || {
        let pods = stage.pods_with("module-controller.koupleless.io/component=module").await?;
        let ready = pods.iter().filter(|p| is_ready(p)).count();
        if ready == 20 { Ok(pods) } else { bail!("{ready} of 20 are Ready") }
    };
    eventually("twenty Pods Ready", SOON, all_ready).await?;
    assert_eq!(base.received("installBiz"), 20);

    base.restart().await?;
    eventually("twenty modules again", SOON, async || {
        if base.modules().len() == 20 { Ok(()) } else { bail!("{}", base.modules().len()) }
    })
    .await?;
    eventually("restarts counted and all Ready", SOON, async || {
        let pods = all_ready().await?;
        let statuses = pods.iter().filter_map(|p| p.status.as_ref()?.container_statuses.as_ref()?.first());
        let restarts: Vec<_> = statuses.map(|s| s.restart_count).collect();
        if restarts.iter().all(|r| *r == 1) { Ok(()) } else { bail!("{restarts:?}") }
    })
    .await?;
    let sent = baselines(&base);
    assert_eq!(sent.last().and_then(|b| b.as_array()).map(Vec::len), Some(20));
    assert_eq!(base.received("installBiz"), 20, "none was sent one by one");
    stage.ends_quietly().await
}
