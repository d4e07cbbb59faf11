//! The schemas of the HTTP tunnel.

use std::sync::LazyLock;

use jsonschema::Validator;

use super::{check, compile};

/// Which part of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is posted.
    Request,
    /// What comes back.
    Answer,
}

type Schema = (&'static str, Result<Validator, String>);
/// Path, request, answer.
type Entry = (&'static str, Option<Schema>, Option<Schema>);

macro_rules! schema {
    ($file:literal) => {
        Some(($file, compile(include_str!(concat!("../../../../proto/schemas/", $file)))))
    };
}

/// Whatever a base does not know is called so.
const UNKNOWN: &str = "/{command}";

static SCHEMAS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let version = || schema!("http/uninstall-biz.json");
    let version_answer = || schema!("http/uninstall-biz-answer.json");
    vec![
        // Its answer is a status, and nobody reads the words.
        ("/heartbeat", schema!("http/heartbeat.json"), None),
        ("/queryBaseline", schema!("http/query-baseline.json"), schema!("baseline.json")),
        ("/installBiz", schema!("http/install-biz.json"), schema!("http/install-biz-answer.json")),
        ("/uninstallBiz", version(), version_answer()),
        ("/switchBiz", version(), version_answer()),
        ("/batchInstallBiz", schema!("http/batch-install-biz.json"), schema!("http/batch-install-biz-answer.json")),
        ("/queryAllBiz", schema!("http/nothing.json"), schema!("http/query-all-biz-answer.json")),
        ("/health", schema!("http/health.json"), schema!("http/health-answer.json")),
        ("/queryBizOps", schema!("http/query-biz-ops.json"), schema!("http/query-biz-ops-answer.json")),
        ("/help", schema!("http/nothing.json"), schema!("http/help-answer.json")),
        (UNKNOWN, None, schema!("http/unknown-answer.json")),
    ]
});

/// Each path with the files of its request and its answer, below `schemas/`.
pub fn files() -> Vec<(&'static str, Option<&'static str>, Option<&'static str>)> {
    let file = |schema: &Option<Schema>| schema.as_ref().map(|schema| schema.0);
    SCHEMAS.iter().map(|(path, request, answer)| (*path, file(request), file(answer))).collect()
}

/// Checks a body against the schema of its path; the error names every fault.
///
/// # Errors
/// It does not fit, or the protocol has nothing there.
pub fn validate(path: &str, part: Part, body: &[u8]) -> Result<(), String> {
    let path = path.split('?').next().unwrap_or(path);
    let named = |name: &str| SCHEMAS.iter().find(|entry| entry.0 == name);
    let entry = named(path).or_else(|| named(UNKNOWN)).ok_or("no schemas")?;
    let schema = if part == Part::Request { &entry.1 } else { &entry.2 };
    let (file, schema) = schema.as_ref().ok_or_else(|| format!("the protocol has no {part:?} of {path}"))?;
    check(schema, file, path, body)
}
