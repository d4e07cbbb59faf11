//! The leader is killed, and a standby takes over: how long it takes, what moves, and what a standby costs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{Api, api::ListParams};
use serde::Serialize;
use serde_json::json;

use crate::{
    ceiling::Ceiling,
    objects::{self, ENV, Module, NAMESPACE, create},
    phases,
    progress::say,
    releases,
    stage::{MODULET, STANDBY, Snapshot, Stage},
};

/// The question for a base's list.
const LIST: &str = "queryAllBiz";
/// Everything must be over within this.
const LIMIT: Duration = Duration::from_mins(2);
/// Between two looks at the standby.
const GLANCE: Duration = Duration::from_millis(25);
/// Between two looks at all Leases or all that bases received, which is much.
const LOOK_AT_ALL: Duration = Duration::from_secs(1);

/// What came of it. Times are seconds since the leader was killed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TakeOver {
    pub(crate) leads: f64,
    /// A Pod that was created right after has its install command.
    pub(crate) first_command: f64,
    pub(crate) all_asked: f64,
    pub(crate) all_renewed: f64,
    /// Nodes and Pods.
    pub(crate) conditions_changed: usize,
    /// Installs and uninstalls beside the one that the Pod asked for.
    pub(crate) needless_commands: usize,
    /// Percent of a core, with nothing to do.
    pub(crate) leader_idle: f64,
    pub(crate) standby_idle: f64,
    /// MB.
    pub(crate) leader_rss: f64,
    pub(crate) standby_rss: f64,
    pub(crate) new_leader_rss: f64,
    /// Seconds, of the new leader until the last base was served.
    pub(crate) cpu: f64,
}

/// With a module on each base.
pub(crate) async fn run(stage: &mut Stage) -> Result<TakeOver> {
    let ceiling = Ceiling::default();
    let count = stage.options.bases();
    stage.start_modulet().await?;
    stage.start_standby().await?;
    phases::register(stage, &ceiling).await?;
    releases::install(stage, &ceiling).await?;
    let mut found = TakeOver::default();
    idle(stage, &mut found).await?;

    let before = conditions(stage).await?;
    let (ordered, listed) = (orders(stage)?, stage.bases()?.received(LIST));
    let start = stage.snapshot().await?;
    let (killed, killed_at) = (stage.kill_leader().await?, Timestamp::now());
    let late = Module::new(0, "late", "1.0.0");
    create(&stage.client, &objects::pods(), &late.pod()).await?;
    while !stage.leads().await? {
        ensure!(killed.elapsed() < LIMIT, "nobody leads after {LIMIT:?}");
        tokio::time::sleep(GLANCE).await;
    }
    found.leads = killed.elapsed().as_secs_f64();
    say(&format!("the standby leads after {:.1} s", found.leads));

    let pod = late.pod_name();
    stage
        .wait("the Pod to be Ready", LIMIT, 1, || Ok(stage.sight.count(&[pod.clone()], |p| p.ready.is_some())))
        .await?;
    let first = releases::received(stage, &late, "installBiz")?.context("no install command")?;
    found.first_command = (first - killed).as_secs_f64();
    // Counters first: to look through what each base received takes long.
    let received = || Ok(stage.bases()?.received(LIST).saturating_sub(listed));
    stage.wait("as many lists as bases to be asked for", LIMIT, count, received).await?;
    let asked =
        || (0..count).filter_map(|base| asked_after(stage, base, killed).transpose()).collect::<Result<Vec<_>>>();
    let mut times = asked()?;
    while times.len() < count {
        ensure!(killed.elapsed() < LIMIT, "{} of {count} bases were asked for their list after {LIMIT:?}", times.len());
        tokio::time::sleep(LOOK_AT_ALL).await;
        times = asked()?;
    }
    let last = times.into_iter().max().context("no base")?;
    found.all_asked = (last - killed).as_secs_f64();
    found.all_renewed = renewed(stage, killed, killed_at, count).await?;
    let end = stage.snapshot().await?;
    let (new, old) = (usage(&end, MODULET), usage(&start, STANDBY));
    found.cpu = new.0 - old.0;
    found.new_leader_rss = new.1;

    // Whatever would be decided by mistake has been by then.
    stage.quiet().await?;
    let after = conditions(stage).await?;
    found.conditions_changed = before.iter().filter(|(name, was)| after.get(*name) != Some(*was)).count();
    found.needless_commands = orders(stage)?.saturating_sub(ordered + 1);
    Ok(found)
}

/// What both take with nothing to do.
async fn idle(stage: &mut Stage, found: &mut TakeOver) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(stage.options.settle)).await;
    let before = stage.snapshot().await?;
    tokio::time::sleep(Duration::from_secs(stage.options.idle)).await;
    let after = stage.snapshot().await?;
    let wall = (after.at - before.at).as_secs_f64();
    let share = |name| (usage(&after, name).0 - usage(&before, name).0) / wall * 100.0;
    (found.leader_idle, found.standby_idle) = (share(MODULET), share(STANDBY));
    (found.leader_rss, found.standby_rss) = (usage(&after, MODULET).1, usage(&after, STANDBY).1);
    Ok(())
}

/// Seconds of CPU, and MB.
fn usage(snapshot: &Snapshot, name: &str) -> (f64, f64) {
    snapshot.usage.get(name).map(|usage| (usage.cpu, usage.rss)).unwrap_or_default()
}

/// When a base was first asked for its list since then.
fn asked_after(stage: &Stage, base: usize, since: Instant) -> Result<Option<Instant>> {
    Ok(stage.bases()?.received_at(base, |c| c.at > since && c.command == LIST))
}

/// Install and uninstall commands of all bases.
fn orders(stage: &Stage) -> Result<usize> {
    let bases = stage.bases()?;
    Ok(["installBiz", "uninstallBiz"].iter().map(|command| bases.received(command)).sum())
}

/// Waits until the Leases of all Nodes were renewed since then.
async fn renewed(stage: &Stage, killed: Instant, killed_at: Timestamp, count: usize) -> Result<f64> {
    let leases = Api::<Lease>::namespaced(stage.client.clone(), "kube-node-lease");
    loop {
        let all = leases.list(&ListParams::default()).await?;
        let times = all.items.into_iter().filter_map(|lease| lease.spec?.renew_time);
        let renewed: Vec<_> = times.filter(|at| at.0 > killed_at).collect();
        if renewed.len() >= count {
            // A Lease that was renewed twice by now tells the later time only, which is then too much.
            let last = renewed.iter().map(|at| at.0).max().unwrap_or(killed_at);
            return Ok(last.duration_since(killed_at).as_secs_f64());
        }
        ensure!(killed.elapsed() < LIMIT, "{} of {count} Leases are renewed after {LIMIT:?}", renewed.len());
        tokio::time::sleep(LOOK_AT_ALL).await;
    }
}

/// Conditions of all Nodes and Pods, and when they changed last.
async fn conditions(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let ours = ListParams::default().labels(&format!("virtual-kubelet.koupleless.io/env={ENV}"));
    let nodes = Api::<Node>::all(stage.client.clone()).list(&ours).await?.items;
    let pods = Api::<Pod>::namespaced(stage.client.clone(), NAMESPACE).list(&ListParams::default()).await?.items;
    let nodes = nodes.into_iter().map(|node| (node.metadata.name, json!(node.status.and_then(|s| s.conditions))));
    let pods = pods.into_iter().map(|pod| (pod.metadata.name, json!(pod.status.and_then(|s| s.conditions))));
    Ok(nodes.chain(pods).map(|(name, conditions)| (name.unwrap_or_default(), times(&conditions))).collect())
}

/// Type, status and last change of each. The time of a heartbeat is none of it.
fn times(conditions: &serde_json::Value) -> String {
    let all = conditions.as_array().into_iter().flatten();
    all.map(|c| format!("{} {} {};", c["type"], c["status"], c["lastTransitionTime"])).collect()
}
