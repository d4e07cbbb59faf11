//! Reads the recordings.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

/// One recorded message.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) step: String,
    pub(crate) t_ms: u64,
    pub(crate) to_base: bool,
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payload: Value,
}

#[derive(Deserialize)]
struct Raw {
    scenario: String,
    step: String,
    t_ms: u64,
    dir: String,
    topic: String,
    qos: u8,
    retain: bool,
    payload: Value,
}

impl Line {
    /// The bytes that went over the wire, or some with the same meaning.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.payload.get("raw").and_then(Value::as_str) {
            Some(raw) => raw.as_bytes().to_vec(),
            None => self.payload.to_string().into_bytes(),
        }
    }
}

/// All scenarios by name.
pub(crate) fn scenarios() -> Result<BTreeMap<String, Vec<Line>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/wire/recorded.jsonl");
    let mut all: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for text in std::fs::read_to_string(path)?.lines() {
        let Raw { scenario, step, t_ms, dir, topic, qos, retain, payload } = serde_json::from_str(text)?;
        let line = Line { step, t_ms, to_base: dir == "to-base", topic, qos, retain, payload };
        all.entry(scenario).or_default().push(line);
    }
    Ok(all)
}
