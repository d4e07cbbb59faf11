//! Replies: how a command ended.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    identity::RawMaster,
    text::{module_id, root_cause},
};
use crate::domain::{Answer, ModuleId, Reply};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawReply {
    command: Option<String>,
    biz_name: Option<String>,
    biz_version: Option<String>,
    response: Option<RawResponse>,
}

/// What a base answers to a command, over either tunnel.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawResponse {
    code: Option<String>,
    message: Option<String>,
    data: Option<RawResult>,
    /// Over HTTP, of what was thrown.
    error_stack_trace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResult {
    code: Option<String>,
    message: Option<String>,
    /// Whatever stands there: a reply without it is still a reply.
    elapsed_space: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "first_info")]
    biz_infos: Option<RawMaster>,
}

/// The first element's name and version, if it has them: whatever else stands there must not hide
/// how the command ended. fastjson writes other elements as references.
fn first_info<'de, D: Deserializer<'de>>(d: D) -> Result<Option<RawMaster>, D::Error> {
    let infos = Option::<&RawValue>::deserialize(d)?;
    let infos: Option<Vec<&RawValue>> = infos.and_then(|infos| serde_json::from_str(infos.get()).ok());
    Ok(infos.and_then(|infos| serde_json::from_str(infos.first()?.get()).ok()))
}

pub(super) fn reply(raw: RawReply) -> Reply {
    let command = match raw.command.as_deref() {
        Some("uninstallBiz") => "uninstallBiz",
        _ => "installBiz",
    };
    let module = module_id(raw.biz_name, raw.biz_version);
    let Some(response) = raw.response else {
        return Reply { command, module, answer: Answer::Failed("the base gave no reason".to_owned()), space: None };
    };
    Reply { command, module, space: space(&response), answer: answer(response) }
}

/// By how much metaspace grew meanwhile.
pub(super) fn space(response: &RawResponse) -> Option<u64> {
    response.data.as_ref()?.elapsed_space.as_ref()?.as_u64()
}

/// What came of a command.
pub(super) fn answer(response: RawResponse) -> Answer {
    let outer = response.message.unwrap_or_default();
    let trace = response.error_stack_trace.unwrap_or_default();
    let success = response.code.as_deref() == Some("SUCCESS");
    match response.data {
        Some(result) => {
            let fine = result.code.unwrap_or_default();
            match fine.as_str() {
                _ if success => Answer::Done { actual: result.biz_infos.and_then(|i| module_id(i.name, i.version)) },
                "REPEAT_BIZ" => Answer::Repeat { actual: result.message.as_deref().and_then(repeated) },
                "NOT_FOUND_BIZ" => Answer::NotFound,
                _ => Answer::Failed(failure(&outer, result.message.as_deref().unwrap_or_default())),
            }
        }
        None if success => Answer::Done { actual: None },
        None if outer.contains("conflict, exist unfinished command") => Answer::Conflict,
        None => Answer::Failed(failure(outer.strip_prefix("Internal Error: ").unwrap_or(&outer), &trace)),
    }
}

/// The module that `Biz: biz1:0.0.1 has been installed or registered.` speaks of (as recorded).
fn repeated(message: &str) -> Option<ModuleId> {
    let (name, version) = message.strip_prefix("Biz: ")?.split_once(" has been ")?.0.split_once(':')?;
    module_id(Some(name.to_owned()), Some(version.to_owned()))
}

/// The root cause, wherever it stands: the outer message often is only `InvocationTargetException`,
/// the inner one a stack trace of several kB.
fn failure(outer: &str, inner: &str) -> String {
    let (from_outer, from_trace) = (root_cause(outer), root_cause(inner));
    let opaque = outer.is_empty() || outer.ends_with("InvocationTargetException") || outer.ends_with("not success!");
    let trace_first = opaque || inner.contains("Caused by: ");
    let (first, then) = if trace_first { (from_trace, from_outer) } else { (from_outer, from_trace) };
    [first, then].into_iter().find(|cause| !cause.is_empty()).unwrap_or_else(|| "the base gave no reason".to_owned())
}
