//! Whatever was ordered is on record: a controller that dies, with the Pods gone before the next one starts,
//! leaves nothing on any base.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use modulet_testkit::{base::SimulatedBase, wait::eventually};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, module_pod};

const BASES: usize = 30;
const ROUNDS: usize = 5;

fn installs(bases: &[SimulatedBase]) -> usize {
    bases.iter().map(|base| base.received("installBiz")).sum()
}

/// Without the pauses of `eventually`: the controller is to die as soon after the order as can be.
async fn next_install(bases: &[SimulatedBase], before: usize) {
    while installs(bases) == before {
        tokio::task::yield_now().await;
    }
}

/// A Pod for each base, bound to it.
async fn release(stage: &Stage, bases: &[SimulatedBase], version: &str) -> Result<()> {
    let pods = bases.iter().map(|base| {
        let mut pod = module_pod(&stage.name, &base.identity(), &[("biz1", version)]);
        pod["spec"]["nodeName"] = json!(stage.node_name(&base.identity()));
        stage.create_pod(pod)
    });
    try_join_all(pods).await.map(drop)
}

async fn forced_away(stage: &Stage, bases: &[SimulatedBase]) -> Result<()> {
    for base in bases {
        stage.pods().delete(&base.identity(), &DeleteParams::default().grace_period(0)).await?;
    }
    Ok(())
}

async fn empty(bases: &[SimulatedBase]) -> Result<()> {
    eventually("empty bases", SOON, async || {
        for base in bases {
            ensure!(base.modules().is_empty(), "{}: {:?}", base.identity(), base.modules());
        }
        Ok(())
    })
    .await
}

/// How many modules of this version are ordered and not in the ledgers of all their bases. Orders of a process that died
/// are kept for some minutes: its commands may be late.
async fn orders(stage: &Stage, version: &str) -> Result<usize> {
    let record = stage.record().await?;
    let ordered = record.iter().find_map(|(_, entries)| entries.get("ordered")).map_or("[]", String::as_str);
    let list: Vec<Value> = serde_json::from_str(ordered)?;
    Ok(list.iter().filter(|order| order[1] == version).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_of_a_controller_that_is_killed_at_once_is_undone_when_its_pod_is_gone() -> Result<()> {
    let mut stage = Stage::set("record-one").await?;
    let bases = [stage.base(stage.base_options("base-1")).await?];
    for round in 0..ROUNDS {
        let before = installs(&bases);
        release(&stage, &bases, &round.to_string()).await?;
        next_install(&bases, before).await;
        stage.controller.kill9().await?;
        forced_away(&stage, &bases).await?;
        eventually("the module on its base", SOON, async || !bases[0].modules().is_empty()).await?;
        stage.controller.restart().await?;
        empty(&bases).await?;
    }
    assert_eq!(bases[0].received("uninstallBiz"), ROUNDS);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_on_many_bases_at_once_are_undone_too_and_the_orders_end_empty() -> Result<()> {
    let mut stage = Stage::set("record-many").await?;
    let bases = try_join_all((0..BASES).map(|n| stage.base(stage.base_options(&format!("base-{n}"))))).await?;
    release(&stage, &bases, "1").await?;
    next_install(&bases, 0).await;
    stage.controller.kill9().await?;
    forced_away(&stage, &bases).await?;
    stage.controller.restart().await?;
    empty(&bases).await?;

    release(&stage, &bases, "2").await?;
    eventually("all of them", SOON, async || {
        bases.iter().all(|base| base.modules().iter().any(|module| module.1 == "2"))
    })
    .await?;
    let written = stage.controller.metric("modulet_api_writes_total", &[("kind", "record"), ("result", "ok")]).await?;
    assert!((1.0..8.0).contains(&written), "{written} writes of the record for {BASES} bases");
    eventually("an empty set of orders", 2 * SOON, async || {
        let left = orders(&stage, "2").await?;
        ensure!(left == 0, "{left} orders are left");
        Ok(())
    })
    .await?;
    // The ledgers have it now.
    stage.controller.kill9().await?;
    forced_away(&stage, &bases).await?;
    stage.controller.restart().await?;
    empty(&bases).await?;
    stage.ends_quietly().await
}

/// The way back from a later version: nothing is ordered by a record that is not understood.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_later_version_ends_the_process_and_is_kept() -> Result<()> {
    let mut stage = Stage::set("record-later").await?;
    let bases = [stage.base(stage.base_options("base-1")).await?];
    release(&stage, &bases, "1").await?;
    stage.pod_ready("base-1").await?;
    stage.controller.terminate().await?;
    let client = stage.client.clone();
    let name = format!("modulet-ordered.{}", stage.name);
    let of_later = async |format: &str| {
        let objects = Api::<ConfigMap>::namespaced(client.clone(), "default");
        let patch = json!({ "metadata": { "annotations": { "modulet.koupleless.io/record-format": format } } });
        objects.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    };
    of_later("2").await?;
    let (record, told) = (stage.record().await?, bases[0].commands().len());
    // It stands by, leads, reads the record, and ends.
    let started = stage.controller.restart().await;
    let exit = tokio::time::timeout(SOON, stage.controller.process()?.wait()).await??;
    let said = format!("{started:?} {exit} {}", stage.controller.log_text());
    assert!(!exit.success(), "{said}");
    assert!(said.contains("record format") && said.contains("use that version"), "{said}");
    assert_eq!((stage.record().await?, bases[0].commands().len()), (record, told));
    of_later("1").await?;
    stage.controller.restart().await?;
    assert_eq!(bases[0].received("installBiz"), 1);
    stage.ends_quietly().await
}
