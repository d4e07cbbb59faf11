//! Measures modulet with many bases, all on this machine: `make bench`, or `make bench BASES=300`.
//!
//! The parts are those of the tests; `modulet` is the released program as a process of its own. What the API server
//! can do at best is measured in the same run, because nothing that is measured here means much without it.
//! `docs/performance.md` says what the figures mean.

mod bases;
mod batches;
mod ceiling;
mod figures;
mod objects;
mod phases;
mod probed;
mod progress;
mod releases;
mod scrape;
mod sight;
mod soak;
mod stage;
mod table;
mod takeover;
mod usage;
mod ways;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::{bases::Tunnel, ceiling::Ceiling, figures::Report, stage::Stage};

/// Measures modulet: registering, idling, installing, updating and deleting, one module on each of many bases.
///
/// Starts a Kubernetes control plane, a broker, simulated bases and modulet on this machine, prints a table and ends.
/// Takes about 5 minutes with 1,000 bases on 2 cores.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
struct Options {
    /// How many bases
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    bases: u32,

    /// Which way they are reached
    #[arg(long, default_value = "mqtt", value_enum, value_name = "TUNNEL")]
    tunnel: Tunnel,

    /// How many clients write Pods at the same time, and how many measure the API server's ceiling
    #[arg(long, default_value_t = 32, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256))]
    writers: u32,

    /// Before all bases get a module, that many get one at once, and one by a Deployment (0: none)
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    burst: u32,

    /// How long to measure with nothing to do, in seconds
    #[arg(long, default_value_t = 40, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,

    /// How long to wait between the registration of all bases and that, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    settle: u64,

    /// Freeze scheduler and controller manager, which have nothing to do here, and take CPU nevertheless
    #[arg(long)]
    no_controllers: bool,

    /// Churn for that long instead, and compare memory at its beginning and end
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..))]
    soak: Option<u64>,

    /// Kill the leader instead, with a module on each base and a standby beside it
    #[arg(long, conflicts_with_all = ["soak", "tunnel"])]
    takeover: bool,

    /// Release to all bases in so many batches instead, by a Deployment and a `ModuleRollout`
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100),
          conflicts_with_all = ["soak", "takeover", "no_controllers"])]
    batches: Option<u32>,

    /// Measure readiness probes instead: each base has a module that is probed each so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60),
          conflicts_with_all = ["soak", "takeover", "batches"])]
    probes: Option<u32>,

    /// Changes per second of the churn
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    soak_rate: u32,

    /// Compare two ways to write statuses instead, patches and server-side apply, without modulet
    #[arg(long)]
    ways: bool,

    /// Write all figures into this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The modulet to measure [default: the one that was built with this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Options {
    fn bases(&self) -> usize {
        self.bases as usize
    }

    /// How many bases take part in the burst.
    fn burst(&self) -> usize {
        self.bases().min(self.burst as usize)
    }

    fn writers(&self) -> usize {
        self.writers as usize
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Options::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    if options.ways {
        return Box::pin(ways::compare(&options)).await;
    }
    let mut report = Report::new(&options)?;
    if report.machine.load_before > 0.5 {
        let load = report.machine.load_before;
        progress::say(&format!(
            "load average {load}: other programs run, and what they take is missing in all figures"
        ));
    }
    let mut stage = Stage::start(options.clone()).await?;
    let measured = measure(&mut stage, &options, &mut report).await;
    let down = stage.stop().await;
    // What was measured before something failed is worth seeing.
    println!("{}", table::markdown(&report));
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    measured?;
    down
}

async fn measure(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    if options.takeover {
        report.takeover = Some(takeover::run(stage).await?);
        return Ok(());
    }
    if let Some(count) = options.batches {
        return in_batches(stage, count, report).await;
    }
    if let Some(period) = options.probes {
        return probed::measure(stage, period, report).await;
    }
    if options.soak.is_none() {
        report.ceiling = Ceiling::measure(stage).await?;
        report.burst_ceiling = Some(Ceiling::burst(stage).await?).filter(|burst| burst.count > 0);
    }
    stage.start_modulet().await?;
    report.phases.push(phases::register(stage, &report.ceiling).await?);
    if let Some(minutes) = options.soak {
        report.soak = Some(soak::run(stage, minutes, options.soak_rate).await?);
        return Ok(());
    }
    report.phases.push(phases::idle(stage, "idle").await?);
    if options.burst > 0 {
        report.phases.push(releases::burst(stage, &report.ceiling).await?);
        if !options.no_controllers {
            report.phases.push(releases::deployment(stage, &report.ceiling).await?);
        }
    }
    report.phases.push(releases::install(stage, &report.ceiling).await?);
    report.phases.push(releases::update(stage, &report.ceiling).await?);
    report.phases.push(releases::delete(stage, &report.ceiling).await?);
    report.phases.push(phases::idle(stage, "idle again").await?);
    report.commands = phases::commands(stage)?;
    Ok(())
}

async fn in_batches(stage: &mut Stage, count: u32, report: &mut Report) -> Result<()> {
    batches::define(stage).await?;
    stage.start_modulet().await?;
    report.phases.push(phases::register(stage, &report.ceiling).await?);
    report.phases.push(phases::idle(stage, "idle").await?);
    report.phases.push(batches::deployed(stage, &report.ceiling).await?);
    let (phase, batches) = batches::release(stage, &report.ceiling, count).await?;
    report.phases.push(phase);
    report.batches = Some(batches);
    report.phases.push(phases::idle(stage, "idle again").await?);
    report.commands = phases::commands(stage)?;
    Ok(())
}
