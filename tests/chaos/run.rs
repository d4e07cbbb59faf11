//! A run: rounds of faults, each followed by peace.

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use modulet_testkit::wait::eventually;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    checker::Promise,
    event::At,
    faults::{Plan, Target, What},
    heal::healed,
    options::Options,
    releases::Releases,
    report::{Healing, report},
    seen::Seen,
    strike::strike,
    watch,
    world::World,
};

/// By then all is well.
const HEALS_WITHIN: Duration = Duration::from_mins(1);
/// For so long nothing happens then,
const QUIET: At = At::from_secs(10);
/// and by then that has begun: ledgers are written ten seconds after a change.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// One look takes no longer on a machine that keeps up.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// A machine that takes longer is none.
const TOO_SLOW: Duration = Duration::from_mins(5);
/// The first time all has to be made.
const FIRST: Duration = Duration::from_mins(2);

/// Runs it all, prints what came of it, and fails if a promise was not kept.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut directory = tempfile::Builder::new().prefix("modulet-chaos-").tempdir()?;
    let seen = Arc::new(Seen::new(&directory.path().join("seen.log"))?);
    let impatient = options.seed.is_multiple_of(2);
    let mut world = World::start(directory.path(), impatient).await?;
    let mut watching = JoinSet::new();
    // Before there is anything to see.
    watching.spawn(watch::pods(world.client.clone(), Arc::clone(&seen)));
    watching.spawn(watch::leads(world.client.clone(), Arc::clone(&seen)));
    watching.spawn(watch::pulse(world.client.clone(), Arc::clone(&seen)));
    watching.spawn(watch::broker(world.broker.log_path().to_owned(), Arc::clone(&seen)));
    watching.spawn(watch::audit(world.audit.path().to_owned(), Arc::clone(&seen)));
    world.start_bases().await?;
    let world = Arc::new(world);
    watching.spawn(watch::bases(Arc::clone(&world), Arc::clone(&seen)));
    let keeper = Arc::clone(&world);
    watching.spawn(async move { keeper.keep_replicas().await });

    let mut healing = Healing::default();
    let outcome = rounds(options, &world, &seen, &mut healing).await;
    world.save_logs().await?;
    watching.shutdown().await;
    let (text, kept) = report(options, &seen, &healing, directory.path());
    println!("{text}");
    if outcome.is_err() || !kept || env::var_os("MODULET_KEEP_LOGS").is_some() {
        directory.disable_cleanup(true);
    }
    outcome.with_context(|| format!("seed {}; logs: {}", options.seed, directory.path().display()))?;
    if !kept {
        bail!("a promise was not kept, with seed {}", options.seed);
    }
    Ok(())
}

async fn rounds(options: &Options, world: &Arc<World>, seen: &Arc<Seen>, healing: &mut Healing) -> Result<()> {
    let mut releases = Releases::new(options.seed, world.client.clone());
    releases.put_right(seen).await?;
    eventually("all to be made", FIRST, async || healed(world, &releases.workloads).await).await?;
    let mut plan = Plan::new(options.seed);
    let mut left = options.length;
    while !left.is_zero() {
        let length = left.min(options.round);
        left -= length;
        round(&mut plan, length, &mut releases, world, seen).await?;
        healing.rounds += 1;
        peace(&mut releases, world, seen, healing).await?;
        if seen.checker(|checker| !checker.all_broken().is_empty()) {
            break; // what comes now would only cover what was found
        }
    }
    Ok(())
}

/// Faults and releases, until all of the first are over.
async fn round(
    plan: &mut Plan,
    length: Duration,
    releases: &mut Releases,
    world: &Arc<World>,
    seen: &Arc<Seen>,
) -> Result<()> {
    seen.note("a round begins");
    let begin = Instant::now();
    let faults = plan.round(length);
    let ours = |what: What| {
        matches!(what, What::Kill(Target::ApiServer | Target::Etcd) | What::Freeze(Target::ApiServer | Target::Etcd))
    };
    let away = faults.iter().any(|fault| ours(fault.what));
    let mut striking = JoinSet::new();
    for fault in faults {
        let (world, seen) = (Arc::clone(world), Arc::clone(seen));
        striking.spawn(async move {
            sleep_until(begin + fault.at).await; // its time
            strike(world, seen, fault).await.with_context(|| fault.to_string())
        });
    }
    releases.go_on(seen, begin + length).await?;
    while let Some(struck) = striking.join_next().await {
        struck??;
    }
    if away {
        // Kubernetes' own ask for an API server that was away less and less often; that is not what is tried here.
        world.cluster.restart_controllers().await?;
    }
    Ok(())
}

/// All is to be well soon, and then quiet.
async fn peace(releases: &mut Releases, world: &World, seen: &Seen, healing: &mut Healing) -> Result<()> {
    seen.note("the last fault is over");
    let mut clock = Clock::default();
    releases.put_right(seen).await?;
    let mut last = String::new();
    let well = loop {
        let outcome = healed(world, &releases.workloads).await;
        if let Err(error) = &outcome {
            let why: String = format!("{error:#}").chars().take(100).collect();
            if why != last {
                seen.note(&format!("not yet: {why}"));
                last = why;
            }
        }
        clock.goes_on(seen).await;
        if outcome.is_ok() || clock.is_over(HEALS_WITHIN) {
            break outcome;
        }
    };
    healing.longest = healing.longest.max(clock.counted);
    healing.longest_in_all = healing.longest_in_all.max(clock.begin.elapsed());
    seen.note(&format!("all is well: {}, after {:?} ({:?})", well.is_ok(), clock.counted, clock.begin.elapsed()));
    let is_well = well.is_ok();
    seen.held(Promise::Heals, well.map_err(|error| format!("{error:#}")));
    if !is_well {
        return Ok(());
    }
    let mut clock = Clock::default();
    let quiet = loop {
        let (last, what) = seen.checker(|checker| checker.last_change());
        if seen.now() >= last + QUIET {
            break Ok(());
        }
        if clock.is_over(QUIET_WITHIN) {
            break Err(format!("{what}, at {last:?}"));
        }
        clock.goes_on(seen).await;
    };
    seen.held(Promise::Quiet, quiet);
    Ok(())
}

/// Counts the time in which the API server answers: on a machine with too much to do it may not for long.
#[derive(Debug)]
struct Clock {
    begin: Instant,
    last: Instant,
    counted: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self { begin: now, last: now, counted: Duration::ZERO }
    }
}

impl Clock {
    async fn goes_on(&mut self, seen: &Seen) {
        sleep(LOOK_EVERY).await; // time has to pass
        let now = Instant::now();
        if !seen.checker(|checker| checker.disturbed()) {
            // A step that took longer was slow for a part of it at least.
            self.counted += (now - self.last).min(LONGEST_STEP);
        }
        self.last = now;
    }

    fn is_over(&self, limit: Duration) -> bool {
        self.counted > limit || self.begin.elapsed() > TOO_SLOW
    }
}
