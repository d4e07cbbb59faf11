//! Registering, idling, and what all phases have in common.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    ceiling::Ceiling,
    figures::{Latency, Phase, of_modulet},
    objects::node_name,
    progress::say,
    scrape::Series,
    stage::{MODULET, Snapshot, Stage},
};

/// What a phase did, for [`conclude`].
pub(crate) struct Done {
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) of: &'static str,
    pub(crate) before: Snapshot,
    /// When the last of them was seen to be done.
    pub(crate) last: Instant,
    pub(crate) latencies: Vec<Latency>,
    /// Nodes and Leases that are new.
    pub(crate) created: usize,
    /// Writes of the bench itself, by their names in the ceiling.
    pub(crate) own_writes: Vec<(&'static str, usize)>,
}

/// Counts what the phase has cost, now and when it is quiet again.
pub(crate) async fn conclude(stage: &Stage, ceiling: &Ceiling, done: Done) -> Result<Phase> {
    let until_done = stage.scrape().await?.since(&done.before.scrape);
    let at_ceiling = ceiling.seconds(&until_done.writes, done.created, &done.own_writes);
    stage.quiet().await?;
    let after = stage.snapshot().await?;
    let scrape = after.scrape.since(&done.before.scrape);
    let lasted = (after.at - done.before.at).as_secs_f64();
    let cpu = after.cpu_since(&done.before);
    let phase = Phase {
        name: done.name,
        count: done.count,
        of: done.of,
        wall: (done.last - done.before.at).as_secs_f64(),
        lasted,
        cpu_beyond_idle: stage.idle_cpu.map(|idle| of_modulet(&cpu) - idle * lasted),
        cpu,
        usage: after.usage.get(MODULET).copied().unwrap_or_default(),
        connections: after.connections - done.before.connections,
        writes: scrape.writes,
        commands: scrape.commands,
        messages: scrape.messages,
        latencies: done.latencies,
        at_ceiling: (!ceiling.0.is_empty()).then_some(at_ceiling),
    };
    if scrape.overflows > 0.0 {
        say(&format!("{} entries found one of modulet's queues full", scrape.overflows));
    }
    say(&format!(
        "{}: {} in {:.1} s, {:.2} s of CPU, {:.0} MB",
        phase.name,
        phase.count,
        phase.wall,
        phase.own_cpu(),
        phase.usage.rss
    ));
    Ok(phase)
}

/// All bases start at once; done when all their Nodes are Ready.
pub(crate) async fn register(stage: &mut Stage, ceiling: &Ceiling) -> Result<Phase> {
    let count = stage.options.bases();
    say(&format!("registering {count} bases"));
    let before = stage.snapshot().await?;
    stage.start_bases().await?;
    let sight = &stage.sight;
    stage.wait("all Nodes to be Ready", Stage::patience(count), count, || Ok(sight.count_nodes())).await?;
    let nodes = stage.sight.nodes();
    let last = (0..count).filter_map(|base| nodes.get(&node_name(base))).max().copied().context("no Node at all")?;
    let start = before.at;
    let latencies = vec![Latency::of("start → Node Ready", nodes.values().map(|at| *at - start))];
    let done =
        Done { name: "register", count, of: "base", before, last, latencies, created: count, own_writes: vec![] };
    conclude(stage, ceiling, done).await
}

/// Nothing happens but heartbeats, questions and Leases: before anything was installed, and when all of it is gone.
pub(crate) async fn idle(stage: &mut Stage, name: &'static str) -> Result<Phase> {
    let (settle, idle) = (stage.options.settle, stage.options.idle);
    say(&format!("{name}: {settle} s to settle, {idle} s measured"));
    tokio::time::sleep(Duration::from_secs(settle)).await;
    let before = stage.snapshot().await?;
    tokio::time::sleep(Duration::from_secs(idle)).await;
    let after = stage.snapshot().await?;
    let scrape = after.scrape.since(&before.scrape);
    let wall = (after.at - before.at).as_secs_f64();
    let phase = Phase {
        name,
        count: stage.options.bases(),
        of: "base",
        wall,
        lasted: wall,
        cpu_beyond_idle: None,
        cpu: after.cpu_since(&before),
        usage: after.usage.get(MODULET).copied().unwrap_or_default(),
        connections: after.connections - before.connections,
        writes: scrape.writes,
        commands: scrape.commands,
        messages: scrape.messages,
        latencies: Vec::new(),
        at_ceiling: None,
    };
    let idle = phase.own_cpu() / wall;
    stage.idle_cpu.get_or_insert(idle);
    say(&format!("{name}: {:.1} % of a core, {:.1} MB", idle * 100.0, phase.usage.rss));
    Ok(phase)
}

/// Commands that the bases have received in all, for each module that was installed on them: two versions on all,
/// and two modules on some.
pub(crate) fn commands(stage: &Stage) -> Result<Series> {
    let bases = stage.bases()?;
    let burst = stage.options.burst();
    let deployed = if stage.options.no_controllers { 0 } else { burst };
    let modules = 2 * stage.options.bases() + burst + deployed;
    #[expect(clippy::cast_precision_loss, reason = "counts of commands")]
    let share = |command: &&str| ((*command).to_owned(), bases.received(command) as f64 / modules as f64);
    Ok(["installBiz", "uninstallBiz", "switchBiz", "baseline", "queryAllBiz", "health"].iter().map(share).collect())
}
