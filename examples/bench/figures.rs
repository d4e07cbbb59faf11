//! What is reported.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    Options, bases::Tunnel, batches::Batches, ceiling::Ceiling, probed::Probed, scrape::Series, soak::Soak,
    takeover::TakeOver, usage::Usage,
};

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) bases: u32,
    pub(crate) tunnel: Tunnel,
    pub(crate) writers: u32,
    pub(crate) controllers_frozen: bool,
    pub(crate) ceiling: Ceiling,
    /// What the burst takes without modulet.
    pub(crate) burst_ceiling: Option<Latency>,
    pub(crate) phases: Vec<Phase>,
    /// Commands that the bases have received in all, for each module that was installed.
    pub(crate) commands: Series,
    pub(crate) soak: Option<Soak>,
    pub(crate) batches: Option<Batches>,
    pub(crate) probed: Option<Probed>,
    pub(crate) takeover: Option<TakeOver>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            machine: Machine::this()?,
            bases: options.bases,
            tunnel: options.tunnel,
            writers: options.writers,
            controllers_frozen: options.no_controllers,
            ceiling: Ceiling::default(),
            burst_ceiling: None,
            phases: Vec::new(),
            commands: Series::new(),
            soak: None,
            batches: None,
            probed: None,
            takeover: None,
        })
    }
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) model: String,
    pub(crate) memory_gb: f64,
    /// Load average of the minute before: what else the machine was doing.
    pub(crate) load_before: f64,
    /// Seconds since 1970.
    pub(crate) started: u64,
}

impl Machine {
    fn this() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().and_then(|l| l.parse().ok());
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            model: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            memory_gb: memory.unwrap_or(0.0) / 1024.0 / 1024.0,
            load_before: load.unwrap_or_default(),
            started: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        })
    }
}

/// One phase.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// How many of what were worked on.
    pub(crate) count: usize,
    pub(crate) of: &'static str,
    /// Seconds until the last of them was seen to be done.
    pub(crate) wall: f64,
    /// Seconds until nothing had been written for a while: Events and ledgers come after what they tell of.
    pub(crate) lasted: f64,
    /// Seconds of CPU by program, until then.
    pub(crate) cpu: BTreeMap<String, f64>,
    /// modulet's CPU seconds, less what it would have taken with nothing to do.
    pub(crate) cpu_beyond_idle: Option<f64>,
    /// modulet, at the end.
    pub(crate) usage: Usage,
    /// TCP connections that were opened on this machine, until it was quiet.
    pub(crate) connections: f64,
    /// modulet's writes, until it was quiet.
    pub(crate) writes: Series,
    /// modulet's commands, until it was quiet.
    pub(crate) commands: Series,
    pub(crate) messages: Series,
    pub(crate) latencies: Vec<Latency>,
    /// Seconds that all writes until the last was done would have taken at the API server's ceiling.
    pub(crate) at_ceiling: Option<f64>,
}

impl Phase {
    /// modulet's CPU seconds.
    pub(crate) fn own_cpu(&self) -> f64 {
        of_modulet(&self.cpu)
    }

    /// How much of what the API server can do was used. Not for a phase so short that it tells nothing.
    pub(crate) fn share_of_ceiling(&self) -> Option<f64> {
        self.at_ceiling.filter(|_| self.wall >= 1.0).map(|seconds| seconds / self.wall)
    }
}

/// modulet's part.
pub(crate) fn of_modulet(cpu: &BTreeMap<String, f64>) -> f64 {
    cpu.get(crate::stage::MODULET).copied().unwrap_or_default()
}

/// How long something took, over many.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) what: &'static str,
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    pub(crate) fn of(what: &'static str, took: impl IntoIterator<Item = Duration>) -> Self {
        let mut took: Vec<_> = took.into_iter().collect();
        took.sort_unstable();
        let at = |percent: usize| {
            // The smallest value that this share of all does not exceed.
            let rank = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(rank).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
        };
        Self { what, count: took.len(), p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
    }
}
