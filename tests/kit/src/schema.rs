//! Holds messages against the schemas in `proto/`: of MQTT here, of HTTP in [`http`].

pub mod http;

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// Topic below the identity, from the base or not, file name, schema.
type Entry = (&'static str, bool, &'static str, Result<Validator, String>);

macro_rules! entry {
    ($tail:literal, $from_base:literal, $file:literal) => {
        ($tail, $from_base, $file, compile(include_str!(concat!("../../../proto/schemas/", $file))))
    };
}

static SCHEMAS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    vec![
        entry!("base/heart", true, "heart.json"),
        entry!("base/queryBaseline", true, "query-baseline.json"),
        entry!("base/health", true, "health-reply.json"),
        entry!("base/simpleBiz", true, "simple-biz.json"),
        entry!("base/biz", true, "biz.json"),
        entry!("base/bizOperation", true, "biz-operation.json"),
        entry!("base/batchInstallBizResponse", true, "batch-install-biz-response.json"),
        entry!("installBiz", false, "install-biz.json"),
        entry!("uninstallBiz", false, "uninstall-biz.json"),
        entry!("queryAllBiz", false, "query-all-biz.json"),
        entry!("health", false, "health.json"),
        entry!("base/baseline", false, "baseline.json"),
    ]
});

fn compile(text: &str) -> Result<Validator, String> {
    let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| error.to_string())?;
    jsonschema::draft202012::new(&schema).map_err(|error| error.to_string())
}

/// The part of a topic below env and identity, if it is one of the protocol's.
///
/// Identities may contain slashes or be called `base`, so topics are read from their ends.
fn tail(topic: &str) -> Option<&str> {
    let (_, rest) = topic.strip_prefix("koupleless_")?.split_once('/')?;
    let slash = rest.rfind('/')?;
    match rest[..slash].rfind('/') {
        Some(before) if &rest[before + 1..slash] == "base" => Some(&rest[before + 1..]),
        _ => Some(&rest[slash + 1..]),
    }
}

fn find(topic: &str) -> Result<&'static Entry, String> {
    let tail = tail(topic).ok_or_else(|| format!("{topic} is no topic of the protocol"))?;
    let entry = SCHEMAS.iter().find(|entry| entry.0 == tail);
    entry.ok_or_else(|| format!("the protocol has no {tail} ({topic})"))
}

/// Whether messages on a topic come from bases; `None` if the protocol does not have it.
pub fn is_from_base(topic: &str) -> Option<bool> {
    find(topic).ok().map(|entry| entry.1)
}

/// The schema files in use, by name.
pub fn files() -> Vec<&'static str> {
    SCHEMAS.iter().map(|entry| entry.2).collect()
}

/// Checks a payload against the schema of its topic; the error names every fault.
pub fn validate(topic: &str, payload: &[u8]) -> Result<(), String> {
    let (_, _, file, schema) = find(topic)?;
    check(schema, file, topic, payload)
}

fn check(schema: &Result<Validator, String>, file: &str, what: &str, payload: &[u8]) -> Result<(), String> {
    let schema = schema.as_ref().map_err(|error| format!("{file}: {error}"))?;
    let value = serde_json::from_slice(payload).map_err(|error| format!("{what}: no JSON: {error}"))?;
    let faults: Vec<_> = schema
        .iter_errors(&value)
        .map(|fault| format!("at {:?}: {}", fault.instance_path().to_string(), shortened(&fault.to_string())))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(format!("{what}: {}", faults.join("; "))) }
}

/// Faults quote the value they are about, which may be 10 kB long.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(400).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
