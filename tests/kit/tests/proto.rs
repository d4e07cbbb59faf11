//! The schemas and the `AsyncAPI` document against the recordings and the simulated base.

#[path = "proto/http.rs"]
mod http;
#[path = "wire_sim/recording.rs"]
mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use modulet_testkit::base::{BaseOptions, Generation, SimulatedBase};
use modulet_testkit::broker::{Mosquitto, Spy};
use modulet_testkit::schema;
use serde_json::{Value, json};

/// How many commands of each scenario are malformed on purpose, and must be refused.
const MALFORMED: &[(&str, usize)] = &[
    ("baseline-odd", 2),
    ("incomplete-fields", 11),
    ("malformed-baseline", 7),
    ("malformed-commands", 4),
    ("malformed-health", 7),
    ("malformed-installBiz", 7),
    ("malformed-queryAllBiz", 7),
    ("malformed-uninstallBiz", 7),
    ("retained-commands", 2),
    // modulet never sends names that a base in a POSIX locale could not answer.
    ("non-ascii-payload-posix-locale", 2),
    ("non-ascii-payload-utf8-locale", 2),
    // An URL without scheme.
    ("bad-url-no-scheme", 1),
];

#[test]
fn recorded_messages() -> Result<()> {
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (scenario, lines) in recording::scenarios()? {
        let mut latest = 0;
        for line in lines {
            assert!(line.t_ms >= latest, "{scenario} is not in the broker's order");
            latest = line.t_ms;
            let result = schema::validate(&line.topic, &line.bytes());
            if line.to_base {
                let entry = refused.entry(scenario.clone()).or_default();
                entry.extend(result.err().map(|error| format!("{}: {error}", line.step)));
            } else {
                assert!(line.qos == 1 && !line.retain, "{scenario}, {}", line.step);
                assert_eq!(result, Ok(()), "{scenario}, {}", line.step);
                assert_eq!(schema::is_from_base(&line.topic), Some(true), "{}", line.topic);
            }
        }
    }
    for (scenario, faults) in &refused {
        let expected = MALFORMED.iter().find(|(name, _)| name == scenario).map_or(0, |(_, count)| *count);
        assert_eq!(faults.len(), expected, "{scenario}: {faults:#?}");
    }
    Ok(())
}

#[test]
fn schemas_mean_something() {
    let heart = "koupleless_dev/base-1/base/heart";
    let list = "koupleless_dev/a/b/base/simpleBiz";
    let operation = "koupleless_dev/base-1/base/bizOperation";
    let refused = [
        (heart, json!({"publishTimestamp": 1, "data": {}})),
        (heart, json!({"data": []})),
        (list, json!({"publishTimestamp": 1, "data": [{"name": "a", "version": "1", "state": "ACTIVATED"}]})),
        (list, json!({"publishTimestamp": 1, "data": [{"name": "a", "state": "activated"}]})),
        (
            operation,
            json!({"publishTimestamp": 1, "data": {"command": "installBiz", "response": {"code": "REPEAT_BIZ"}}}),
        ),
        (operation, json!({"publishTimestamp": 1, "data": {"command": "installBiz", "response": {"code": "SUCCESS"}}})),
        ("koupleless_dev/base-1/installBiz", json!({"bizName": "a", "bizVersion": "1"})),
        ("koupleless_dev/base-1/uninstallBiz", json!({"bizName": "a", "bizVersion": "1", "more": 1})),
        ("koupleless_dev/base-1/queryAllBiz", json!(null)),
        ("koupleless_dev/base-1/switchBiz", json!({})),
        ("somewhere/else", json!({})),
    ];
    for (topic, payload) in refused {
        assert!(schema::validate(topic, payload.to_string().as_bytes()).is_err(), "{topic} {payload}");
    }
    // The command of a base that is called "base" looks much like an answer.
    assert_eq!(schema::validate("koupleless_dev/base/health", b"{}"), Ok(()));
    assert_eq!(schema::is_from_base("koupleless_dev//base/heart"), Some(true));
}

async fn played(generation: Generation) -> Result<()> {
    let broker = Mosquitto::start().await?;
    let spy = Spy::start(broker.address(), "#").await?;
    let address = broker.address().clone();
    let options = BaseOptions {
        username: address.username,
        password: address.password,
        keep_broken: true,
        ..BaseOptions::new("base-1", address.port)
    };
    let base = SimulatedBase::start(options.of_generation(generation)).await?;
    let element = |name: &str, file: &str| {
        json!({"bizName": name, "bizVersion": "0.0.1", "bizUrl": format!("http://modules/{file}"),
               "installStrategy": "installOnly", "args": ["--a"], "envs": {"A": "b"}})
    };
    let good = element("biz1", "biz1-0.0.1-ark-biz.jar");
    let unfit = element("biz2", "broken.jar");
    let gone = json!({"bizName": "biz1", "bizVersion": "0.0.1"});
    let commands = [
        ("installBiz", good.clone()),
        ("installBiz", good.clone()),
        ("installBiz", unfit.clone()),
        ("installBiz", element("biz3", "missing.jar")),
        ("queryAllBiz", json!({})),
        ("health", json!({})),
        ("uninstallBiz", gone.clone()),
        ("uninstallBiz", gone),
        ("base/baseline", json!([good, unfit])),
        ("base/baseline", json!([])),
        ("queryAllBiz", json!({})),
    ];
    for (word, payload) in commands {
        let topic = format!("koupleless_dev/{}/{word}", base.identity());
        spy.publish(&topic, payload.to_string()).await?;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let messages = spy.messages();
    assert!(messages.len() > 15, "{generation:?}: only {} messages", messages.len());
    for message in messages {
        let result = schema::validate(&message.topic, message.text().as_bytes());
        assert_eq!(result, Ok(()), "{generation:?}: {}", message.text());
    }
    Ok(())
}

#[tokio::test]
async fn what_the_simulated_base_says() -> Result<()> {
    for generation in
        [Generation::V2_1_5, Generation::V2_1_6, Generation::V2_1_7, Generation::V2_1_9, Generation::V2_1_11]
    {
        played(generation).await?;
    }
    Ok(())
}

/// All `$ref`s anywhere below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let (true, Some(target)) = (key == "$ref", value.as_str()) {
                    found.insert(target.to_owned());
                }
                references(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// A document of `proto/`, and the files that it refers to. What it refers to within itself is there.
fn document(name: &str) -> Result<(Value, BTreeSet<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto").join(name);
    let document: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    let (inside, files): (BTreeSet<_>, _) = targets.into_iter().partition(|target| target.starts_with('#'));
    for target in inside {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
    Ok((document, files))
}

#[test]
fn asyncapi_document() -> Result<()> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let (document, targets) = document("asyncapi.yaml")?;
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut files = BTreeSet::new();
    for target in &targets {
        files.insert(target.strip_prefix("schemas/").context("a reference outside of schemas/")?.to_owned());
    }
    let mut existing = BTreeSet::new();
    for entry in std::fs::read_dir(proto.join("schemas"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            existing.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    assert_eq!(files, existing, "schemas that are referenced, and those that are there");
    assert_eq!(existing, schema::files().into_iter().map(str::to_owned).collect());
    let channels = document["channels"].as_object().context("channels")?;
    for (name, channel) in channels {
        let address = channel["address"].as_str().context("address")?;
        let topic = address.replace("{env}", "dev").replace("{identity}", "base-1");
        let from_base = schema::is_from_base(&topic).with_context(|| format!("{topic} has no schema"))?;
        let operations = document["operations"].as_object().context("operations")?;
        let action = if from_base { "send" } else { "receive" };
        let used = operations.values().any(|operation| {
            let here = format!("#/channels/{name}");
            operation["action"] == action && operation["channel"]["$ref"] == here.as_str()
                || operation["reply"]["channel"]["$ref"] == here.as_str()
        });
        assert!(used, "no operation on {name}");
    }
    assert_eq!(channels.len(), existing.len());
    Ok(())
}
