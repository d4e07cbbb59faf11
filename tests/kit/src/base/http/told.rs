//! Answers in the shapes that they have over HTTP: lower-case states, capitalised reasons, all state records, and another
//! code for what was thrown.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::{
    answers::{Answer, Response},
    module::Module,
    options::BaseOptions,
    wire,
};

const COMMANDS: &[(&str, &str)] = &[
    ("health", "get all health info"),
    ("batchInstallBiz", "install one ark biz"),
    ("queryAllBiz", "query all ark biz(including master biz)"),
    ("help", "list all supported commands"),
    ("uninstallBiz", "uninstall one ark biz"),
    ("switchBiz", "switch one ark biz"),
    ("installBiz", "install one ark biz"),
    ("queryBizOps", "query ark biz ops"),
];

/// The commands that it knows.
pub(super) fn help(options: &BaseOptions) -> Value {
    let known: Vec<_> = COMMANDS.iter().map(|(id, about)| json!({"id": id, "desc": about})).collect();
    json!({"code": "SUCCESS", "data": known, "baseIdentity": options.id})
}

/// A command that it does not know.
pub(super) fn unknown() -> Value {
    json!({"code": "CMD_NOT_FOUND", "message": "please follow the doc"})
}

/// The answer to a command; `asked` is its body.
pub(super) fn told(answer: Answer, asked: &Value, options: &BaseOptions, uptime: Duration) -> Value {
    let mut told = match answer {
        Answer::List(modules) => json!({"code": "SUCCESS", "data": modules.iter().map(entry).collect::<Vec<_>>()}),
        Answer::Health(modules) => match health(wire::health(&modules, options, uptime.as_secs_f64()), asked) {
            Ok(health) => health,
            Err(refusal) => return thrown(refusal),
        },
        Answer::Operation { response, .. } | Answer::Batch(response) if response.threw => return thrown(response),
        Answer::Operation { response, .. } | Answer::Batch(response) => response.into_json(),
    };
    told["baseIdentity"] = json!(options.id);
    over_http(&mut told);
    told
}

/// What was thrown has another code than over MQTT, a trace of its own, and no identity.
fn thrown(response: Response) -> Value {
    let response = response.into_json();
    json!({
        "code": "CMD_PROCESS_INTERNAL_ERROR",
        "message": format!("Internal Error: {}", response["message"].as_str().unwrap_or_default()),
        "errorStackTrace": response["data"]["message"],
    })
}

fn entry(module: &Module) -> Value {
    json!({
        "bizName": module.name, "bizVersion": module.version, "bizState": module.state().upper(),
        "bizStateRecords": module.records.iter().map(|record| record.json(false)).collect::<Vec<_>>(),
        "mainClass": format!("e2e.{}.Application", module.name), "webContextPath": module.context,
    })
}

/// The part of its health that was asked for.
fn health(mut all: Value, asked: &Value) -> Result<Value, Response> {
    let text = |field: &str| asked[field].as_str().filter(|text| !text.is_empty());
    let (name, version) = (text("bizName"), text("bizVersion"));
    let parts = match text("type") {
        None => return Ok(all),
        Some("system") => &["jvm", "cpu"][..],
        Some("biz") => &["bizListInfo"][..],
        Some("plugin") => &["pluginListInfo"][..],
        Some(other) => return Err(Response::invalid(&format!("type: {other} can not be found"))),
    };
    let wanted = asked["metrics"].as_array();
    let health = &mut all["data"]["healthData"];
    if let Some(fields) = health.as_object_mut() {
        fields.retain(|part, _| parts.contains(&&**part) && wanted.is_none_or(|wanted| wanted.contains(&json!(part))));
    }
    if let (Some(name), Some(modules)) = (name, health["bizListInfo"].as_array_mut()) {
        modules.retain(|m| m["bizName"] == name && version.is_none_or(|version| m["bizVersion"] == version));
        match modules.pop() {
            None => return Ok(json!({"code": "FAILED", "message": "can not find biz"})),
            Some(module) if version.is_some() => *health = json!({ "bizInfo": module }),
            Some(module) => modules.push(module),
        }
    }
    Ok(all)
}

/// States and reasons as they are written over HTTP, and only what is told of a module there.
fn over_http(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !key.starts_with("export") && key != "dependentPlugins");
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), &mut *value) {
                    ("bizState" | "state", Value::String(state)) => *state = state.to_lowercase(),
                    ("reason", Value::String(reason)) => *reason = capitalised(reason),
                    (_, value) => over_http(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(over_http),
        _ => {}
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.to_lowercase();
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}
