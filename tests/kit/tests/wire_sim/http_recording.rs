//! Reads the recordings of the HTTP tunnel.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

/// One recorded exchange, or a note of the tester.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) scenario: String,
    #[serde(default)]
    pub(crate) step: String,
    pub(crate) dir: Dir,
    #[serde(default)]
    pub(crate) t_ms: u64,
    #[serde(default)]
    pub(crate) ms: f64,
    #[serde(default)]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) body: Value,
    #[serde(default)]
    pub(crate) response: Response,
    /// How the connection ended.
    #[serde(default)]
    pub(crate) end: String,
    /// What a heartbeat was answered with.
    #[serde(default)]
    pub(crate) answer: Answer,
    #[serde(default)]
    pub(crate) note: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dir {
    ToBase,
    FromBase,
    Note,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Response {
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
}

impl Line {
    /// The body that was sent, or one with the same meaning.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.body, self.body.get("raw").and_then(Value::as_str)) {
            (_, Some(raw)) => raw.as_bytes().to_vec(),
            (Value::Null, _) => Vec::new(),
            (body, None) => body.to_string().into_bytes(),
        }
    }
}

/// Everything that was recorded over HTTP, in order.
pub(crate) fn recorded() -> Result<Vec<Line>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/wire/http-recorded.jsonl");
    std::fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The scenarios in their order; a name may come twice.
pub(crate) fn scenarios() -> Result<Vec<Vec<Line>>> {
    let mut all: Vec<Vec<Line>> = Vec::new();
    for line in recorded()? {
        match all.last_mut() {
            Some(scenario) if scenario.first().is_some_and(|first| first.scenario == line.scenario) => scenario.push(line),
            _ => all.push(vec![line]),
        }
    }
    Ok(all)
}
