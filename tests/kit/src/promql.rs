//! What Prometheus makes of metrics, queries and rules: its own engine says so.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::tools::Tool;

/// What `/metrics` said at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Scrape {
    /// Seconds after the beginning.
    pub at: u64,
    /// In the format that Prometheus asks for.
    pub text: String,
    /// Those that Prometheus gives to its target.
    pub labels: BTreeMap<&'static str, &'static str>,
}

/// What is asked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Question {
    /// What was scraped, oldest first.
    pub scrapes: Vec<Scrape>,
    /// When it is asked, in seconds after the beginning.
    pub at: u64,
    /// Expressions.
    pub queries: Vec<String>,
    /// A file of rules, if not empty; each of its expressions is asked too.
    pub rules: String,
}

/// A value with its labels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sample {
    /// All of them.
    pub labels: BTreeMap<String, String>,
    /// As a decimal number.
    pub value: String,
}

/// A selector of an expression.
#[derive(Debug, Clone, Deserialize)]
pub struct Selector {
    /// As Prometheus writes it.
    pub text: String,
    /// How many series it has ever matched.
    pub series: usize,
}

/// What came out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The alert whose expression it is; empty for a query.
    pub alert: String,
    /// For how long it has to hold.
    #[serde(rename = "for")]
    pub lasts: String,
    /// Labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the alert.
    pub annotations: BTreeMap<String, String>,
    /// The expression.
    pub query: String,
    /// Why there is no result; empty if there is.
    pub error: String,
    /// The result.
    pub result: Vec<Sample>,
    /// Its selectors.
    pub selectors: Vec<Selector>,
}

/// Asks: the queries in their order, then the rules.
pub async fn ask(question: &Question) -> Result<Vec<Answer>> {
    let mut child = Command::new(Tool::PromQl.program("promql").await?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("promql")?;
    let mut stdin = child.stdin.take().context("no input")?;
    stdin.write_all(&serde_json::to_vec(question)?).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("promql: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
