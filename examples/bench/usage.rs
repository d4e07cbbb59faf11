//! CPU and memory of processes, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The kernel tells CPU times in these, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Usage {
    /// Seconds of CPU, user and system.
    pub(crate) cpu: f64,
    /// Resident memory, MB.
    pub(crate) rss: f64,
    /// The most it ever was.
    pub(crate) peak_rss: f64,
    /// Open sockets.
    pub(crate) sockets: usize,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let fields = stat(pid).with_context(|| format!("process {pid}"))?;
        let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
            kilobytes.unwrap_or_default() / 1024.0
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
        let sockets = files.filter_map(|file| fs::read_link(file.path()).ok());
        let sockets = sockets.filter(|to| to.to_string_lossy().starts_with("socket:")).count();
        let cpu = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
        Ok(Self { cpu, rss: memory("VmRSS:"), peak_rss: memory("VmHWM:"), sockets })
    }
}

/// The fields behind the name, which may have anything in it.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("an odd stat file")?;
    Ok(fields.split(' ').map(str::to_owned).collect())
}

/// The programs this process has started: their names, of which one may occur twice, and processes.
pub(crate) fn children() -> Result<Vec<(String, u32)>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may end at any moment.
        let Ok(fields) = stat(pid) else { continue };
        if fields.get(1) != Some(&own) {
            continue;
        }
        let Ok(line) = fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
        let program = line.split('\0').next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        found.push((name.to_owned(), pid));
    }
    Ok(found)
}

/// The process of a program that this process has started once.
pub(crate) fn child(name: &str) -> Result<u32> {
    let found = children()?.into_iter().find(|(child, _)| child == name);
    Ok(found.with_context(|| format!("{name} does not run"))?.1)
}

/// TCP connections that were ever opened on this machine, by whomever.
pub(crate) fn connections_opened() -> Result<f64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut columns = names.split(' ').zip(values.split(' '));
    let opened = columns.find(|(name, _)| *name == "ActiveOpens").and_then(|(_, value)| value.parse().ok());
    opened.context("no count of TCP connections in /proc/net/snmp")
}
