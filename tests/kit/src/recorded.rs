//! What real bases were recorded to say over HTTP (`tests/data/wire/`).

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

/// One recorded exchange, or a note of the tester.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Its scenario.
    pub scenario: String,
    /// What it was a test of.
    #[serde(default)]
    pub step: String,
    /// Whose words they are.
    pub dir: Dir,
    /// When it was sent, since the scenario's start.
    #[serde(default)]
    pub t_ms: u64,
    /// How long the answer took.
    #[serde(default)]
    pub ms: f64,
    /// The request's method;
    #[serde(default)]
    pub method: String,
    /// its path;
    #[serde(default)]
    pub path: String,
    /// its body, `{"raw": "…"}` where that was no JSON.
    #[serde(default)]
    pub body: Value,
    /// What a command was answered with.
    #[serde(default)]
    pub response: Response,
    /// How the connection ended.
    #[serde(default)]
    pub end: String,
    /// What a heartbeat was answered with.
    #[serde(default)]
    pub answer: Answer,
    /// What the tester did.
    #[serde(default)]
    pub note: String,
}

/// Whose words a line is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Dir {
    /// A command and its answer.
    ToBase,
    /// A heartbeat.
    FromBase,
    /// A note of the tester.
    Note,
}

/// The answer of a base.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Response {
    /// None: there was no answer.
    pub status: Option<u16>,
    /// As they stood there.
    pub headers: Vec<String>,
    /// `{"raw": "…"}` where it was no JSON.
    pub body: Value,
}

/// The answer of the controller.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    /// 200 where it is pleased.
    pub status: u16,
}

impl Line {
    /// The body that was sent, or one with the same meaning.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.body, self.body.get("raw").and_then(Value::as_str)) {
            (_, Some(raw)) => raw.as_bytes().to_vec(),
            (Value::Null, _) => Vec::new(),
            (body, None) => body.to_string().into_bytes(),
        }
    }
}

/// Everything that was recorded, in order.
///
/// # Errors
/// The file cannot be read.
pub fn lines() -> Result<Vec<Line>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/wire/http-recorded.jsonl");
    std::fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The scenarios in their order; a name may come twice.
///
/// # Errors
/// The file cannot be read.
pub fn scenarios() -> Result<Vec<Vec<Line>>> {
    let mut all: Vec<Vec<Line>> = Vec::new();
    for line in lines()? {
        match all.last_mut() {
            Some(scenario) if scenario.first().is_some_and(|first| first.scenario == line.scenario) => {
                scenario.push(line);
            }
            _ => all.push(vec![line]),
        }
    }
    Ok(all)
}
