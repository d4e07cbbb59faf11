//! The schemas of the HTTP tunnel and the `OpenAPI` document against the recordings and the simulated base.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{BaseOptions, HttpBase, HttpOptions},
    http::post,
    office::Office,
    recorded::{self, Dir},
    schema::http::{Part, files, validate},
};
use serde_json::{Value, json};

use crate::document;

/// How many requests of each scenario are malformed on purpose, and must be refused.
const MALFORMED: &[(&str, usize)] = &[
    ("async", 2),
    ("bad-url", 4),
    ("batch", 2),
    ("health", 2),
    // Two without a body, which a base takes for none that is needed.
    ("query-fresh", 4),
    ("switch-default-mode", 1),
    ("uninstall", 2),
];

#[test]
fn recorded_bodies() -> Result<()> {
    let (mut refused, mut valid): (BTreeMap<String, Vec<String>>, usize) = (BTreeMap::new(), 0);
    for line in recorded::lines()?.iter().filter(|line| line.dir != Dir::Note) {
        let place = format!("{}, {}", line.scenario, line.step);
        // What a base does not know may be asked with anything.
        let known = files().iter().any(|(path, ..)| line.path.split('?').next() == Some(path));
        match validate(&line.path, Part::Request, &line.bytes()) {
            Err(fault) if known => refused.entry(line.scenario.clone()).or_default().push(fault),
            Err(fault) => assert!(fault.contains("has no Request"), "{place}: {fault}"),
            Ok(()) => valid += 1,
        }
        if line.dir == Dir::ToBase && line.response.body.get("raw").is_none() {
            let body = line.response.body.to_string();
            assert_eq!(validate(&line.path, Part::Answer, body.as_bytes()), Ok(()), "{place}");
            valid += 1;
        }
    }
    let counts: Vec<_> = refused.iter().map(|(scenario, faults)| (scenario.as_str(), faults.len())).collect();
    assert_eq!(counts, MALFORMED, "{refused:#?}");
    assert!(valid > 350, "only {valid}");
    Ok(())
}

#[test]
fn schemas_mean_something() {
    let beat = json!({
        "baseMetadata": {"identity": "a", "name": "b", "version": "1", "clusterName": "c"},
        "localIP": "192.0.2.1", "localHostName": "h", "port": 1238, "state": "activated",
    });
    assert_eq!(validate("/heartbeat", Part::Request, beat.to_string().as_bytes()), Ok(()));
    let without = |field: &str| {
        let mut beat = beat.clone();
        beat.as_object_mut().map(|beat| beat.remove(field));
        beat
    };
    let list = |state: &str| {
        let record = json!({"state": state, "reason": "Started"});
        json!({"code": "SUCCESS", "baseIdentity": "a", "data": [{
            "bizName": "a", "bizVersion": "1", "bizState": state, "webContextPath": "a", "bizStateRecords": [record],
        }]})
    };
    assert_eq!(validate("/queryAllBiz", Part::Answer, list("activated").to_string().as_bytes()), Ok(()));
    let install = json!({"bizName": "a", "bizVersion": "1", "bizUrl": "http://h/a.jar"});
    for (path, part, body) in [
        ("/heartbeat", Part::Request, without("port")),
        ("/heartbeat", Part::Request, without("baseMetadata")),
        ("/heartbeat", Part::Answer, json!("SUCCESS")),
        ("/queryAllBiz", Part::Answer, list("ACTIVATED")),
        ("/queryAllBiz", Part::Answer, json!([])),
        ("/queryAllBiz", Part::Answer, json!({"code": "FAILED", "message": "m", "baseIdentity": "a"})),
        ("/installBiz", Part::Answer, json!({"code": "REPEAT_BIZ", "message": "m", "baseIdentity": "a"})),
        ("/installBiz", Part::Answer, json!({"code": "SUCCESS", "baseIdentity": "a"})),
        ("/installBiz", Part::Answer, json!({"code": "CMD_PROCESS_INTERNAL_ERROR", "message": "no prefix"})),
        ("/installBiz", Part::Request, json!({"bizName": "a", "bizVersion": "1"})),
        ("/batchInstallBiz", Part::Request, json!([install])),
        ("/switchBiz", Part::Request, install.clone()),
        ("/switchbiz", Part::Request, json!({})),
        ("/switchbiz", Part::Answer, json!({"code": "SUCCESS"})),
        ("/health", Part::Answer, json!({"code": "SUCCESS", "baseIdentity": "a", "data": {"healthData": {}}})),
    ] {
        assert!(validate(path, part, body.to_string().as_bytes()).is_err(), "{path} {part:?} {body}");
    }
    let bytes = install.to_string();
    assert_eq!(validate("/installBiz?x=1", Part::Request, bytes.as_bytes()), Ok(()));
}

#[tokio::test]
async fn what_the_simulated_base_says_over_http() -> Result<()> {
    let mut office = Office::open().await?;
    let http = HttpOptions { heartbeat: Duration::from_millis(100), ..HttpOptions::new(office.port) };
    let base = HttpBase::start(BaseOptions { keep_broken: true, ..BaseOptions::default() }, http).await?;
    let beat = office.beat(Some(base.port()), 200, Duration::ZERO).await?;
    assert_eq!(validate("/heartbeat", Part::Request, beat.to_string().as_bytes()), Ok(()));
    let element = |name: &str, file: &str| {
        json!({"bizName": name, "bizVersion": "0.0.1", "bizUrl": format!("http://modules/{file}"),
               "installStrategy": "installOnly", "args": ["--a"], "envs": {"A": "b"}})
    };
    let good = element("biz1", "biz1-0.0.1-ark-biz.jar");
    let unfit = element("biz2", "broken.jar");
    let gone = json!({"bizName": "biz1", "bizVersion": "0.0.1"});
    let address = format!("127.0.0.1:{}", base.port());
    for (path, body, code) in [
        ("/installBiz", good.clone(), "SUCCESS"),
        ("/installBiz", good.clone(), "FAILED"),
        ("/installBiz", unfit.clone(), "CMD_PROCESS_INTERNAL_ERROR"),
        ("/installBiz", element("biz3", "missing.jar"), "CMD_PROCESS_INTERNAL_ERROR"),
        ("/switchBiz", gone.clone(), "SUCCESS"),
        ("/switchBiz", json!({"bizName": "biz1", "bizVersion": "2"}), "FAILED"),
        ("/queryAllBiz", json!({}), "SUCCESS"),
        ("/health", json!({}), "SUCCESS"),
        ("/health", json!({"type": "biz", "bizName": "biz1"}), "SUCCESS"),
        ("/health", json!({"type": "biz", "bizName": "no"}), "FAILED"),
        ("/uninstallBiz", gone.clone(), "SUCCESS"),
        ("/uninstallBiz", gone, "FAILED"),
        ("/batchInstallBiz", json!({"bizList": [good, unfit]}), "FAILED"),
        ("/queryAllBiz", json!({}), "SUCCESS"),
        ("/help", json!({}), "SUCCESS"),
        ("/nonsense", json!({}), "CMD_NOT_FOUND"),
    ] {
        if path != "/nonsense" {
            assert_eq!(validate(path, Part::Request, body.to_string().as_bytes()), Ok(()), "{path}");
        }
        let (status, answer) = post(&address, path, &body).await?;
        assert_eq!(status, 200, "{path}");
        assert_eq!(validate(path, Part::Answer, answer.as_bytes()), Ok(()), "{path} {answer}");
        assert_eq!(serde_json::from_str::<Value>(&answer)?["code"], code, "{path} {body}: {answer}");
    }
    Ok(())
}

#[test]
fn openapi_document() -> Result<()> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let (document, targets) = document("openapi.yaml")?;
    assert_eq!(document["openapi"], "3.1.1");
    let mut referred = BTreeSet::new();
    for target in &targets {
        assert!(proto.join(target).is_file(), "{target} leads nowhere");
        referred.extend(target.strip_prefix("schemas/http/").map(str::to_owned));
    }
    let mut existing = BTreeSet::new();
    for entry in std::fs::read_dir(proto.join("schemas/http"))? {
        existing.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    assert_eq!(referred, existing, "schemas that are referred to, and those that are there");
    let paths = document["paths"].as_object().context("paths")?;
    let mut ids = BTreeSet::new();
    for (path, request, answer) in files() {
        let item = paths.get(path).with_context(|| format!("{path} is not in the document"))?;
        let operation = &item["post"];
        let body = |content: &Value| {
            let target = content["application/json"]["schema"]["$ref"].as_str();
            target.map(|target| target.trim_start_matches("schemas/").to_owned())
        };
        assert_eq!(body(&operation["requestBody"]["content"]).as_deref(), request, "{path}");
        assert_eq!(body(&operation["responses"]["200"]["content"]).as_deref(), answer, "{path}");
        ensure!(item["servers"][0]["url"].is_string(), "{path}: who listens?");
        let listens = if matches!(path, "/heartbeat" | "/queryBaseline") { "controller" } else { "base" };
        assert_eq!(operation["tags"], json!([listens]), "{path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{path}: {}", operation["operationId"]);
    }
    assert_eq!(paths.len(), files().len(), "paths of the document, and those that have schemas");
    Ok(())
}
