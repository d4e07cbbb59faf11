//! The chart, rendered and installed by the real Helm.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::tools::Tool;

/// The chart of this checkout.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/modulet")
}

/// `helm template`: the chart's manifests with these values, for a release called `modulet`.
pub async fn helm_template(namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let chart = chart().display().to_string();
    let args = ["template", "modulet", &chart, "--namespace", namespace, "--values", "-"];
    let text = helm(&args, None, values).await?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).context("what Helm rendered")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// `helm upgrade --install` of the release `modulet` into a cluster; returns what Helm prints, the
/// chart's notes among it.
pub async fn helm_install(kubeconfig: &Path, namespace: &str, values: &Value) -> Result<String> {
    let chart = chart().display().to_string();
    let args = ["upgrade", "--install", "modulet", &chart, "--namespace", namespace];
    let args = [&args[..], &["--create-namespace", "--values", "-"]].concat();
    helm(&args, Some(kubeconfig), values).await
}

/// Any command about releases of a cluster, with the chart for `CHART` among its words.
pub async fn helm_release(kubeconfig: &Path, namespace: &str, args: &[&str], values: &Value) -> Result<String> {
    let chart = chart().display().to_string();
    let args = args.iter().map(|arg| if *arg == "CHART" { chart.as_str() } else { arg });
    let args: Vec<&str> = args.chain(["--namespace", namespace]).collect();
    helm(&args, Some(kubeconfig), values).await
}

/// `helm lint --strict`, with these values.
pub async fn helm_lint(values: &Value) -> Result<String> {
    let chart = chart().display().to_string();
    helm(&["lint", "--strict", &chart, "--values", "-"], None, values).await
}

async fn helm(args: &[&str], kubeconfig: Option<&Path>, values: &Value) -> Result<String> {
    let mut command = Command::new(Tool::Helm.program("helm").await?);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match kubeconfig {
        Some(kubeconfig) => command.env("KUBECONFIG", kubeconfig),
        // What only renders must not depend on whether there is a cluster.
        None => command.env_remove("KUBECONFIG"),
    };
    let mut child = command.kill_on_drop(true).spawn().context("helm")?;
    let mut stdin = child.stdin.take().context("no input")?;
    stdin.write_all(values.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("helm {}: {}", args.first().unwrap_or(&""), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
