//! Readiness probes: a module on each base that is asked each few seconds, what that costs, and whether installs beside it
//! take longer. The same installs are measured before anything is probed.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use axum::{Router, extract::State, http::Uri};
use modulet_testkit::ports::own_address;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    ceiling::Ceiling,
    figures::{Latency, Phase, Report},
    objects::{Module, Probe},
    phases,
    progress::say,
    releases::{OLD, all, release},
    stage::Stage,
};

/// How it went.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Probed {
    /// Seconds from one probe of a Pod to its next.
    pub(crate) period: u32,
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) cpu_each_us: f64,
}

/// Answers probes of all bases, whose addresses are made up.
pub(crate) struct Answers {
    pub(crate) address: IpAddr,
    port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    last: HashMap<String, Instant>,
    /// From one probe of a Pod to its next.
    gaps: Vec<Duration>,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answers {
    async fn start() -> Result<Self> {
        let address = own_address()?;
        let listener = TcpListener::bind((address, 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::<Mutex<Seen>>::default();
        let answer = async |State(seen): State<Arc<Mutex<Seen>>>, uri: Uri| {
            let now = Instant::now();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(last) = seen.last.insert(uri.path().to_owned(), now) {
                seen.gaps.push(now - last);
            }
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, port, seen, task })
    }

    /// The gaps since the last look.
    fn gaps(&self) -> Vec<Duration> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).gaps)
    }
}

/// Installs before and beside probes, and probes alone.
pub(crate) async fn measure(stage: &mut Stage, period: u32, report: &mut Report) -> Result<()> {
    let ceiling = Ceiling::default();
    let answers = Answers::start().await?;
    let probe = Probe { host: answers.address, port: answers.port, period };
    stage.answers = Some(answers);
    let bases = stage.options.bases();
    stage.start_modulet().await?;
    report.phases.push(phases::register(stage, &ceiling).await?);
    report.phases.push(phases::idle(stage, "idle").await?);
    report.phases.push(release(stage, &ceiling, "install", &all(bases, "plain", OLD), None).await?);

    let probed: Vec<_> =
        all(bases, "probed", OLD).into_iter().map(|module| Module { probe: Some(probe), ..module }).collect();
    report.phases.push(release(stage, &ceiling, "install, with probes", &probed, None).await?);
    gaps(stage, period)?;
    let alone = phases::idle(stage, "probes alone").await?;
    let (probes, late) = gaps(stage, period)?;
    report.probed = Some(told(period, probes, stage, &alone));
    report.phases.push(Phase { latencies: vec![late], ..alone });

    let mut beside = release(stage, &ceiling, "install, beside probes", &all(bases, "last", OLD), None).await?;
    beside.latencies.push(gaps(stage, period)?.1);
    report.phases.push(beside);
    Ok(())
}

/// How many Pods were probed once more since the last look, and how late.
fn gaps(stage: &Stage, period: u32) -> Result<(usize, Latency)> {
    let gaps = stage.answers.as_ref().context("nothing answers probes")?.gaps();
    let period = Duration::from_secs(u64::from(period));
    let late = Latency::of("probe late by", gaps.iter().map(|gap| gap.saturating_sub(period)));
    Ok((gaps.len(), late))
}

#[expect(clippy::cast_precision_loss, reason = "a count of probes")]
fn told(period: u32, probes: usize, stage: &Stage, alone: &Phase) -> Probed {
    // They were counted from the phase's beginning, its time to settle included.
    let seconds = stage.options.settle as f64 + alone.wall;
    let per_second = probes as f64 / seconds;
    let beyond = alone.own_cpu() - stage.idle_cpu.unwrap_or_default() * alone.wall;
    let cpu_each_us = beyond / (per_second * alone.wall) * 1e6;
    say(&format!("{per_second:.1} probes per second, {cpu_each_us:.0} µs of CPU each"));
    Probed { period, per_second, cpu_each_us }
}
