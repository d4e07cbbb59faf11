//! What happens to the release, one after the other, and what has to be so after each.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};
use modulet_testkit::{node::set_up_network, wait::eventually};
use serde_json::{Value, json};

use crate::{
    gate, logs,
    office::{self, NAMESPACE},
    people::{self, EVERYWHERE, ON_REAL},
    stage::{IMAGE, IN_CLUSTER, MODULES, NEXT_TAG, SOON, Stage},
    vigil::Vigil,
};

/// Where people read how to clean up.
const PAGE: &str = include_str!("../../docs/install.md");

/// Modules that come and go, to see that modulet does its job.
const TEMPORARY: [&str; 5] = ["after-restart", "after-delete", "after-upgrade", "after-rollback", "after-return"];

/// Says what it does and how long the step before took.
struct Clock(Instant, &'static str);

impl Clock {
    fn start(what: &'static str) -> Self {
        Self(Instant::now(), what)
    }

    fn next(&mut self, what: &'static str) {
        println!("  {:5.1} s  {}", self.0.elapsed().as_secs_f32(), self.1);
        *self = Self::start(what);
    }
}

pub(crate) async fn tell() -> Result<()> {
    set_up_network()?;
    let mut clock = Clock::start("images, control plane, machine, broker and bases");
    let stage = Box::pin(Stage::set()).await?;
    if let Err(error) = story(&stage, &mut clock).await {
        println!("{}", stage.evidence().await);
        return Err(error.context(clock.1));
    }
    clock.next("taken down");
    stage.strike().await?;
    clock.next("");
    Ok(())
}

async fn story(stage: &Stage, clock: &mut Clock) -> Result<()> {
    let values = stage.values();
    clock.next("helm upgrade --install");
    office::install(stage, &values).await?;
    ensure!(office::images(stage).await? == [IMAGE.to_owned()].into(), "{:?}", office::images(stage).await?);

    clock.next("modules come, and are updated, on bases outside and in the cluster");
    let bases = modules_come(stage).await?;
    clock.next("kubectl exec … modulet check, kubectl logs");
    look(stage).await?;
    clock.next("kubectl logs, exec and port-forward of modules");
    logs::read(stage).await?;

    let (installed, uninstalled) = (stage.told("installBiz")?, stage.told("uninstallBiz")?);

    let vigil = Vigil::begin(stage);
    clock.next("kubectl rollout restart");
    let before = office::leader(stage).await?;
    stage.kubectl(&["--namespace", NAMESPACE, "rollout", "restart", "deployment/modulet"]).await?;
    office::settled(stage).await?;
    ensure!(office::leader(stage).await? != before, "the leader is still {before}");
    people::release_and_remove(stage, TEMPORARY[0]).await?;
    vigil.nothing_lost()?;

    clock.next("the leader's Pod is deleted");
    let before = office::leader(stage).await?;
    stage.kubectl(&["--namespace", NAMESPACE, "delete", "pod", &before, "--wait=false"]).await?;
    // The kubelet tells it in a moment; until then it may do all that.
    people::release_and_remove(stage, TEMPORARY[1]).await?;
    eventually("another leader", SOON, async || {
        ensure!(office::leader(stage).await? != before, "the leader is still {before}");
        Ok(())
    })
    .await?;
    office::settled(stage).await?;
    vigil.nothing_lost()?;

    clock.next("helm upgrade to another image");
    let mut next = values.clone();
    next["image"] = json!({ "tag": NEXT_TAG });
    next["log"] = json!({ "level": "info,modulet=debug" });
    office::install(stage, &next).await?;
    ensure!(
        office::images(stage).await? == [format!("modulet:{NEXT_TAG}")].into(),
        "{:?}",
        office::images(stage).await?
    );
    people::release_and_remove(stage, TEMPORARY[2]).await?;
    vigil.nothing_lost()?;

    clock.next("helm upgrade to an image that is not there");
    next["image"] = json!({ "tag": "not-there", "pullPolicy": "Never" });
    let refused = office::install_within(stage, &next, "5s").await;
    ensure!(refused.is_err(), "Helm says that it is done");
    ensure!(
        stage.kubectl(&["--namespace", NAMESPACE, "get", "pods"]).await?.contains("ErrImage"),
        "no image is missed"
    );
    vigil.nothing_lost()?;

    clock.next("helm rollback to the first revision");
    office::helm(stage, &["rollback", "modulet", "1", "--wait", "--timeout", "90s"], &Value::Null).await?;
    office::settled(stage).await?;
    ensure!(office::images(stage).await? == [IMAGE.to_owned()].into(), "{:?}", office::images(stage).await?);
    people::release_and_remove(stage, TEMPORARY[3]).await?;
    vigil.nothing_lost()?;

    clock.next("helm uninstall, and modules go on");
    uninstall(stage, &bases).await?;
    vigil.nothing_lost()?;

    clock.next("helm install again: it knows what it did before");
    office::install(stage, &values).await?;
    people::release_and_remove(stage, TEMPORARY[4]).await?;
    ensure!(office::restarts(stage).await? == 0, "a container was started again");
    for (command, before) in [("installBiz", installed), ("uninstallBiz", uninstalled)] {
        let only = || only_temporary(stage, command, &before);
        eventually("what bases in the cluster have written", SOON, async || only()).await?;
    }
    let answered = vigil.end()?;
    ensure!(answered > 100, "{answered} requests");
    println!("           {answered} requests were answered meanwhile, all");

    clock.next("kubectl rollout restart of the bases: each waits for its module");
    gate::bases_are_rolled(stage).await?;
    let bases = stage.ready_bases().await?;

    clock.next("a workload is deleted, helm uninstall, and what the page says to clean up");
    clean_up(stage, &bases).await
}

/// That these commands were since for modules that came and went, one for each, and for nothing else.
fn only_temporary(stage: &Stage, command: &str, before: &[String]) -> Result<()> {
    let mut since = stage.told(command)?;
    for module in before {
        let at = since.iter().position(|told| told == module).context("a command was forgotten")?;
        since.swap_remove(at);
    }
    since.sort();
    let mut expected = TEMPORARY.to_vec();
    expected.sort_unstable();
    ensure!(since == expected, "{command}: {since:?}");
    Ok(())
}

/// What people look at works in an image without a shell, and it has the authorities of the system.
async fn look(stage: &Stage) -> Result<()> {
    let check = "kubectl --namespace modulet exec deployment/modulet -- modulet check";
    let checked = stage.shell(check).await?;
    ensure!(checked.contains("All well") && checked.contains("of environment dev was heard"), "{checked}");
    let port = stage.tls_port;
    let strange = stage.shell(&format!("{check} --listen 1 --mqtt-tls --mqtt-port {port} || true")).await?;
    // Without any it would say that there are none.
    ensure!(strange.contains("invalid peer certificate: UnknownIssuer"), "{strange}");
    let logs = stage.kubectl(&["--namespace", NAMESPACE, "logs", "deployment/modulet"]).await?;
    ensure!(logs.contains("modulet starts"), "kubectl logs: {logs}");
    Ok(())
}

/// Modules on all bases, in a first version and then in a second. The Nodes of the bases.
async fn modules_come(stage: &Stage) -> Result<BTreeSet<String>> {
    stage.apply(&stage.bases_in_the_cluster()).await?;
    let simulated = stage.outside.len() + IN_CLUSTER;
    let bases = eventually("a Ready Node for each base", SOON, async || {
        let bases = stage.ready_bases().await?;
        ensure!(bases.len() == simulated + 1, "{bases:?}");
        Ok(bases)
    })
    .await?;
    for version in ["0.0.1", "0.0.2"] {
        stage.apply(&people::everywhere(version)).await?;
        stage.apply(&people::on_the_real_base(version)).await?;
        let running = format!("module.koupleless.io/version={version}");
        stage.modules_ready(&format!("{EVERYWHERE},{running}"), simulated).await?;
        stage.modules_ready(&format!("{ON_REAL},{running}"), 1).await?;
    }
    // What the update replaced is gone, so that nothing is under way any more.
    eventually("the new version alone on each base", SOON, async || only_new(stage, simulated).await).await?;
    let answer = stage.real.ask(people::ASKED).await?;
    ensure!(answer.as_deref() == Some("biz1 0.0.2 on real"), "{answer:?}");
    Ok(bases)
}

/// That so many bases have the second version and nothing else.
async fn only_new(stage: &Stage, simulated: usize) -> Result<()> {
    let modules = stage.modules_of_bases().await?;
    let new = modules.values().filter(|list| *list == "everywhere:0.0.2").count();
    ensure!(new == simulated && modules.len() == simulated, "{modules:?}");
    Ok(())
}

/// Nothing of the release is left but what the page says, and the bases do not notice.
async fn uninstall(stage: &Stage, bases: &BTreeSet<String>) -> Result<()> {
    office::helm(stage, &["uninstall", "modulet", "--wait", "--timeout", "90s"], &Value::Null).await?;
    // Helm waits for what it deletes itself.
    eventually("no Pods of the release", SOON, async || anyhow::Ok(office::pods(stage).await?.is_empty())).await?;
    let kinds = "deployments,services,secrets,serviceaccounts,poddisruptionbudgets,networkpolicies,\
                 roles,rolebindings,clusterroles,clusterrolebindings";
    let release =
        ["get", kinds, "--all-namespaces", "--selector", "app.kubernetes.io/instance=modulet", "--output", "name"];
    let left = stage.kubectl(&release).await?;
    ensure!(left.is_empty(), "helm uninstall left {left}");
    ensure!(stage.ready_bases().await? == *bases, "other Nodes: {:?}", stage.ready_bases().await?);
    ensure!(leases(stage).await?.is_superset(bases), "no Leases: {:?}", leases(stage).await?);
    ensure!(!office::record(stage).await?.is_empty(), "no record");
    Ok(())
}

async fn leases(stage: &Stage) -> Result<BTreeSet<String>> {
    let leases = Api::<Lease>::namespaced(stage.client.clone(), "kube-node-lease");
    let leases = leases.list(&ListParams::default()).await?.items;
    Ok(leases.into_iter().filter_map(|lease| lease.metadata.name).filter(|name| name.starts_with("vnode.")).collect())
}

/// Who wants a module gone deletes its workload first; the others stay on their bases, also after the cleaning.
async fn clean_up(stage: &Stage, bases: &BTreeSet<String>) -> Result<()> {
    stage.kubectl(&["--namespace", MODULES, "delete", "deployment", "biz1"]).await?;
    eventually("the real base without the module", SOON, async || {
        anyhow::Ok(stage.real.ask(people::ASKED).await?.is_none())
    })
    .await?;
    stage.modules_ready(ON_REAL, 0).await?;
    uninstall(stage, bases).await?;
    let told = stage.told("uninstallBiz")?;
    let line = cleaning().context("docs/install.md has no block of commands under 'Uninstall' that cleans up")?;
    stage.shell(&line).await?;
    eventually("nothing left", SOON, async || {
        let (nodes, leases, record) = (stage.ready_bases().await?, leases(stage).await?, office::record(stage).await?);
        ensure!(nodes.is_empty() && leases.is_empty() && record.is_empty(), "{nodes:?} {leases:?} {record:?}");
        let everything =
            stage.kubectl(&["get", "nodes,leases,configmaps", "--all-namespaces", "--output", "name"]).await?;
        let ours: Vec<_> =
            everything.lines().filter(|name| name.contains("vnode.") || name.contains("modulet")).collect();
        ensure!(ours.is_empty(), "{ours:?}");
        Ok(())
    })
    .await?;
    ensure!(stage.told("uninstallBiz")? == told, "a module was uninstalled by that");
    only_new(stage, stage.outside.len() + IN_CLUSTER).await
}

/// The block of commands that the page has for that.
fn cleaning() -> Option<String> {
    let (_, after) = PAGE.split_once("\n## Uninstall")?;
    let section = after.split("\n## ").next()?;
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.map(str::to_owned).find(|block| block.contains("delete nodes"))
}
