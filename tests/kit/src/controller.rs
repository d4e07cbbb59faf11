//! The program under test, as a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempPath;

use crate::broker::BrokerAddress;
use crate::http;
use crate::ports::free_port;
use crate::process::{Process, Program};

const PATIENCE: Duration = Duration::from_secs(30);

/// How `modulet` is started.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// The program, `env!("CARGO_BIN_EXE_modulet")` in tests.
    pub binary: PathBuf,
    /// Further variables, which also override those set here.
    env: BTreeMap<String, String>,
    memory: Option<u64>,
}

impl ControllerOptions {
    /// The program at `binary`, in the environment `dev`, with this cluster and this broker.
    pub fn new(binary: impl Into<PathBuf>, kubeconfig: &Path, broker: &BrokerAddress) -> Self {
        let way = [
            ("CLIENT_ID", "modulet-under-test".to_owned()),
            ("ENABLE_MQTT_TUNNEL", "true".to_owned()),
            ("MQTT_BROKER", broker.host.clone()),
            ("MQTT_PORT", broker.port.to_string()),
            ("MQTT_USERNAME", broker.username.clone()),
            ("MQTT_PASSWORD", broker.password.clone()),
        ];
        Self::by(binary, kubeconfig, way)
    }

    /// The same without a broker: bases post their heartbeats to this port.
    pub fn over_http(binary: impl Into<PathBuf>, kubeconfig: &Path, port: u16) -> Self {
        let way = [
            ("ENABLE_MQTT_TUNNEL", "false".to_owned()),
            ("ENABLE_HTTP_TUNNEL", "true".to_owned()),
            ("HTTP_TUNNEL_LISTEN_PORT", port.to_string()),
        ];
        Self::by(binary, kubeconfig, way)
    }

    fn by(
        binary: impl Into<PathBuf>,
        kubeconfig: &Path,
        way: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let cluster = [("KUBECONFIG", kubeconfig.display().to_string()), ("ENV", "dev".to_owned())];
        let env = cluster.into_iter().chain(way).map(|(name, value)| (name.to_owned(), value)).collect();
        Self { binary: binary.into(), env, memory: None }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Limits its memory (address space), in bytes: for tests of what could eat up the machine's.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }
}

/// A running `modulet`. When a test panics while it exists, the end of its log is printed and the
/// log is kept.
#[derive(Debug)]
pub struct Controller {
    program: Program,
    process: Option<Process>,
    http: String,
    log: Option<TempPath>,
}

impl Controller {
    /// Starts it, serving HTTP on a free loopback port unless `MODULET_HTTP_ADDRESS` was set, and
    /// waits until it says that it is ready.
    pub async fn start(options: ControllerOptions) -> Result<Self> {
        let this = Self::start_unready(options)?;
        this.wait_ready(PATIENCE).await?;
        Ok(this)
    }

    /// Starts it, and does not wait: for tests in which it cannot be ready yet.
    pub fn start_unready(mut options: ControllerOptions) -> Result<Self> {
        let port = free_port()?;
        let http = options.env.entry("MODULET_HTTP_ADDRESS".to_owned());
        let http = http.or_insert_with(|| format!("127.0.0.1:{port}")).clone();
        // A process that is started anew is as a container that is: none of that name lives.
        if let Some(name) = options.env.get("CLIENT_ID").cloned() {
            options.env.entry("POD_NAME".to_owned()).or_insert(name);
        }
        ensure!(options.binary.is_file(), "{} is not there", options.binary.display());
        let log = tempfile::Builder::new().prefix("modulet-").suffix(".log").tempfile()?;
        let log = log.into_temp_path();
        let mut program = Program::new("modulet", options.binary, &*log);
        for (name, value) in &options.env {
            program = program.env(name, value);
        }
        if let Some(bytes) = options.memory {
            program = program.memory(bytes);
        }
        let process = Some(program.start()?);
        Ok(Self { program, process, http, log: Some(log) })
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let ready = async || self.get("/readyz").await.map(drop);
        self.process()?.wait_ready(deadline, ready).await
    }

    /// Its process, to freeze or measure it.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("modulet is not running")
    }

    /// Where it serves HTTP.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// Where its log is.
    pub fn log_path(&self) -> &Path {
        self.program.log()
    }

    /// Its log so far, over restarts.
    pub fn log_text(&self) -> String {
        crate::process::tail(self.program.log(), usize::MAX)
    }

    /// What it answers to a GET; an answer other than 200 is an error.
    pub async fn get(&self, path: &str) -> Result<String> {
        let (status, body) = http::get(&self.http, path).await?;
        ensure!(status == 200, "GET {path}: {status} {body}");
        Ok(body)
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// The sum of a metric's series that have these labels among theirs; 0 if there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(sum(&self.metrics().await?, name, labels))
    }

    /// `kill -9`; returns when it is gone.
    pub async fn kill9(&mut self) -> Result<ExitStatus> {
        let process = self.process.take().context("modulet is not running")?;
        process.kill9().await
    }

    /// Asks it to end (SIGTERM) and waits; SIGKILL after 10 s.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let process = self.process.take().context("modulet is not running")?;
        process.terminate().await
    }

    /// Another value of a variable, from the next [`Self::restart`] on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.program = self.program.clone().env(name, value);
    }

    /// Starts it again if it does not run, however it ended, and does not wait: as a kubelet starts a container.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.as_ref().is_none_or(|process| process.exit().is_some()) {
            self.process = Some(self.program.start()?);
        }
        Ok(())
    }

    /// Starts it again, after [`Self::kill9`] or [`Self::terminate`], or else terminates it first;
    /// same options, same address, same log.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.terminate().await?;
        }
        self.process = Some(self.program.start()?);
        self.wait_ready(PATIENCE).await
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.process = None; // so that the log is complete
        if let Some(log) = self.log.take().and_then(|log| log.keep().ok()) {
            let tail = crate::process::tail(&log, 50);
            eprintln!("--- the end of {}:\n{tail}\n---", log.display());
        }
    }
}

/// Sums what a metric's series with these labels are, in the text format of Prometheus.
fn sum(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let series = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (given, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        // A longer name that begins like this one.
        if rest == value && !value.starts_with(' ') {
            return None;
        }
        let given = format!(",{given}");
        let all = labels.iter().all(|(key, value)| given.contains(&format!(",{key}=\"{value}\"")));
        let value = value.split_whitespace().next()?;
        if all { value.parse::<f64>().ok() } else { None }
    });
    // The sum of nothing is -0.
    0.0 + series.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE commands counter\n\
        commands_total{kind=\"install\",result=\"ok\"} 3\n\
        commands_total{kind=\"install\",result=\"failed\"} 1\n\
        commands_total{kind=\"uninstall\",result=\"ok\"} 2 1700000000\n\
        commands_total_odd 100\n\
        bases 1.5\n\
        # EOF\n";

    #[test]
    fn series_are_picked_by_labels_and_summed() {
        let close = |labels: &[(&str, &str)], expected: f64| {
            (sum(TEXT, "commands_total", labels) - expected).abs() < f64::EPSILON
        };
        assert!(close(&[], 6.0));
        assert!(close(&[("kind", "install")], 4.0));
        assert!(close(&[("result", "ok"), ("kind", "uninstall")], 2.0));
        assert!(close(&[("ind", "install")], 0.0));
        assert_eq!(sum(TEXT, "none", &[]).to_string(), "0");
        assert!((sum(TEXT, "bases", &[]) - 1.5).abs() < f64::EPSILON);
        assert!(sum(TEXT, "base", &[]).abs() < f64::EPSILON);
    }
}
