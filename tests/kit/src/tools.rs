//! The Go programs the kit runs, built once from their sources into a cache (see `build-tool`).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/build-tool");

/// What `build-tool` can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// etcd, API server, controller manager, scheduler and kubectl.
    ControlPlane,
    /// Helm.
    Helm,
    /// Prometheus' query engine.
    PromQl,
    /// The kubelet.
    Kubelet,
    /// virtual-kubelet's tests for its providers.
    ProviderSuite,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Helm => "helm",
            Self::PromQl => "promql",
            Self::Kubelet => "kubelet",
            Self::ProviderSuite => "provider-suite",
        }
    }

    /// The directory in the cache it is in, or would be in once it is built.
    pub async fn directory(self) -> Result<PathBuf> {
        let output = Command::new(BUILD).args([self.name(), "--path"]).output().await?;
        if !output.status.success() {
            bail!("{BUILD}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// The path of one of its programs; an error that says what to do if it has not been built.
    pub async fn program(self, program: &str) -> Result<PathBuf> {
        if let Some(given) = from_assets(program) {
            return Ok(given);
        }
        let path = self.directory().await?.join(program);
        if !path.is_file() {
            let make = match self {
                Self::ControlPlane => "make control-plane",
                Self::Helm | Self::PromQl | Self::ProviderSuite => "make setup",
                Self::Kubelet => "make setup-node",
            };
            bail!("{program} has not been built yet: run `{make}` once (it takes some minutes)");
        }
        Ok(path)
    }

    /// Builds it unless the cache has it. `progress` gets a line now and then; nothing if there is
    /// nothing to do.
    pub async fn ensure_built(self, mut progress: impl FnMut(&str)) -> Result<()> {
        let mut build = Command::new(BUILD)
            .arg(self.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{BUILD} cannot be run"))?;
        let mut lines = BufReader::new(build.stdout.take().context("no output")?).lines();
        let mut errors = BufReader::new(build.stderr.take().context("no output")?).lines();
        let mut last_error = None;
        loop {
            tokio::select! {
                line = lines.next_line() => match line? {
                    Some(line) => progress(&line),
                    None => break,
                },
                Ok(Some(line)) = errors.next_line() => last_error = Some(line),
            }
        }
        while let Ok(Some(line)) = errors.next_line().await {
            last_error = Some(line);
        }
        if build.wait().await?.success() {
            return Ok(());
        }
        bail!(last_error.unwrap_or_else(|| format!("{}: the build failed", self.name())))
    }
}

/// A program of the set that tests of Kubernetes controllers commonly share.
fn from_assets(program: &str) -> Option<PathBuf> {
    let path = Path::new(&env::var_os("KUBEBUILDER_ASSETS")?).join(program);
    path.is_file().then_some(path)
}
