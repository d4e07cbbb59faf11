//! The modulet binary.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use modulet_testkit::controller::{Controller, ControllerOptions};
use tokio::process::Command;

use crate::{screen::Screen, stage::ENV, way::Way};

/// Finds the binary that cargo puts beside the examples' directory, or has cargo build it.
pub(crate) async fn prepare(screen: &Screen) -> Result<PathBuf> {
    let this = std::env::current_exe().context("this program's own path is not known")?;
    // {target}/{profile}/examples/demo
    let profile = this.ancestors().nth(2).context("run it by cargo: `make demo`")?;
    let binary = profile.join("modulet");
    if binary.is_file() {
        return Ok(binary);
    }
    screen.progress("modulet: building it");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--bin", "modulet"]);
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    let built = cargo.status().await;
    let built = built.context("modulet has to be built, and cargo does not run (see https://rustup.rs)")?;
    if !built.success() || !binary.is_file() {
        bail!("{} is not there, and cargo could not build it", binary.display());
    }
    Ok(binary)
}

/// Starts it and waits until it is ready.
pub(crate) async fn start(binary: &Path, kubeconfig: &Path, way: &Way) -> Result<Controller> {
    let options = match way {
        Way::Mqtt { broker, .. } => {
            ControllerOptions::new(binary, kubeconfig, broker.address()).env("CLIENT_ID", "modulet-demo")
        }
        Way::Http { port } => ControllerOptions::over_http(binary, kubeconfig, *port),
    };
    let options = options
        .env("ENV", ENV)
        // With real bases the demo's modules are files of this machine.
        .env("MODULET_MODULE_URLS", "file:///,https://");
    Controller::start(options).await
}

/// The end of its log, for a failure: the file is gone when that is read.
pub(crate) fn last_words(controller: &Controller) -> String {
    let tail = modulet_testkit::process::tail(controller.log_path(), 10);
    if tail.is_empty() { String::new() } else { format!("; the last lines of modulet's log:\n{tail}") }
}
