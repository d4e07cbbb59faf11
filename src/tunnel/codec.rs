//! JSON → domain. Lenient in what it reads: only what is needed is decoded, unknown fields and
//! odd `bizInfos` (8–10 kB of class path and fastjson references) are skipped unread.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Kind;
use crate::domain::{Answer, BaseInfo, ListedModule, ModuleId, ModuleState, Reply};

/// Payloads above this are refused unread. A real list of 1,000 modules is about 200 kB.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;
/// Root causes are cut to this many characters.
const MAX_MESSAGE: usize = 1000;
/// What a base says of itself, and why it can't be read, to this many.
const MAX_TEXT: usize = 300;

/// A message from a base.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Sign of life.
    Heartbeat(Heartbeat),
    /// The list of modules.
    Modules(Vec<ListedModule>),
    /// Health.
    Health(Health),
    /// The end of a command.
    Reply(Reply),
    /// A question for the baseline, with what the base tells of itself.
    QueryBaseline(Option<BaseInfo>),
}

/// A sign of life with metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// What the base tells of itself.
    pub info: BaseInfo,
    /// It says that it goes away.
    pub going_away: bool,
}

/// Health of a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Bytes; none where the JVM has no limit (`-1` on the wire).
    pub max_metaspace: Option<u64>,
    /// Java's version.
    pub java_version: Option<String>,
    /// Name and version of the application.
    pub master: Option<(String, String)>,
}

/// Why a payload was refused.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Too big.
    #[error("payload of {0} bytes is larger than {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// Not the JSON that is expected there.
    #[error("not a {what} message: {reason}")]
    Malformed {
        /// The last level of the topic.
        what: &'static str,
        /// Where and why.
        reason: String,
    },
    /// The identity inside is not the topic's.
    #[error("the message says it is from {inside:?}")]
    ForeignIdentity {
        /// The identity in the payload.
        inside: String,
    },
    /// A heartbeat without a name and version.
    #[error("{0} without the application's name and version")]
    Nameless(&'static str),
}

/// Reads a message of a base.
///
/// # Errors
/// The payload is too big, malformed, or speaks for another base. The caller counts and logs it.
pub fn decode(identity: &str, kind: Kind, payload: &[u8]) -> Result<Message, CodecError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(CodecError::TooLarge(payload.len()));
    }
    match kind {
        Kind::Heart => heartbeat(identity, data(kind, payload)?),
        Kind::QueryBaseline => query_baseline(identity, data(kind, payload)?),
        Kind::Health => Ok(Message::Health(health(data(kind, payload)?))),
        Kind::SimpleBiz => Ok(Message::Modules(list(data(kind, payload)?))),
        Kind::Biz => Ok(Message::Modules(list(data::<OldList>(kind, payload)?.data))),
        Kind::BizOperation => Ok(Message::Reply(reply(data(kind, payload)?))),
        Kind::BatchInstallBizResponse => {
            let mut reply = reply(data(kind, payload)?);
            reply.command = "baseline";
            reply.module = None;
            Ok(Message::Reply(reply))
        }
    }
}

fn data<'p, T: Deserialize<'p>>(kind: Kind, payload: &'p [u8]) -> Result<T, CodecError> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        data: T,
    }
    serde_json::from_slice::<Envelope<T>>(payload)
        .map(|e| e.data)
        .map_err(|error| CodecError::Malformed { what: kind.as_str(), reason: cut(&error.to_string(), MAX_TEXT) })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMetadata {
    identity: Option<String>,
    name: Option<String>,
    version: Option<String>,
    cluster_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHeart {
    base_metadata: Option<RawMetadata>,
    /// Bases up to 2.1.7.
    master_biz_info: Option<RawMaster>,
    network_info: Option<RawNetwork>,
    #[serde(rename = "localIP")]
    local_ip: Option<String>,
    local_host_name: Option<String>,
    state: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMaster {
    /// `name`/`version` in 2.1.6, `bizName`/`bizVersion` before and in health.
    #[serde(alias = "bizName")]
    name: Option<String>,
    #[serde(alias = "bizVersion")]
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNetwork {
    #[serde(rename = "localIP")]
    local_ip: Option<String>,
    local_host_name: Option<String>,
}

fn heartbeat(identity: &str, raw: RawHeart) -> Result<Message, CodecError> {
    let metadata = match (raw.base_metadata, raw.master_biz_info) {
        (Some(metadata), _) => metadata,
        (None, Some(master)) => RawMetadata { name: master.name, version: master.version, ..RawMetadata::default() },
        (None, None) => return Err(CodecError::Nameless("heartbeat")),
    };
    let mut info = info(identity, metadata)?.ok_or(CodecError::Nameless("heartbeat"))?;
    let network = raw.network_info.unwrap_or_default();
    let told = |text: Option<String>| text.filter(|t| !t.is_empty()).map(|t| cut(&t, MAX_TEXT));
    info.ip = told(raw.local_ip.or(network.local_ip));
    info.host_name = told(raw.local_host_name.or(network.local_host_name));
    // Every other word than "activated" means that the base serves no longer (as the Go controller reads it);
    // none at all comes from bases up to 2.1.5, which say it by beating.
    let going_away = raw.state.is_some_and(|s| !s.eq_ignore_ascii_case("activated"));
    Ok(Message::Heartbeat(Heartbeat { info, going_away }))
}

fn query_baseline(identity: &str, raw: RawMetadata) -> Result<Message, CodecError> {
    Ok(Message::QueryBaseline(info(identity, raw)?))
}

fn info(identity: &str, raw: RawMetadata) -> Result<Option<BaseInfo>, CodecError> {
    if let Some(inside) = raw.identity.filter(|inside| inside != identity) {
        return Err(CodecError::ForeignIdentity { inside: inside.chars().take(80).collect() });
    }
    let (Some(name), Some(version)) = (raw.name, raw.version) else { return Ok(None) };
    let cluster = raw.cluster_name.map(|cluster| cut(&cluster, MAX_TEXT));
    Ok(Some(BaseInfo {
        name: cut(&name, MAX_TEXT),
        version: cut(&version, MAX_TEXT),
        cluster,
        ip: None,
        host_name: None,
    }))
}

#[derive(Deserialize)]
struct RawHealth {
    data: Option<RawHealthData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHealthData {
    health_data: Option<RawHealthParts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHealthParts {
    jvm: Option<RawJvm>,
    master_biz_info: Option<RawMaster>,
}

#[derive(Deserialize)]
struct RawJvm {
    #[serde(rename = "java max metaspace")]
    max_metaspace: Option<serde_json::Number>,
    #[serde(rename = "java version")]
    version: Option<String>,
}

fn health(raw: RawHealth) -> Health {
    let parts = raw.data.and_then(|d| d.health_data);
    let (jvm, master) = parts.map_or((None, None), |p| (p.jvm, p.master_biz_info));
    let (metaspace, java_version) = jvm.map_or((None, None), |j| (j.max_metaspace, j.version));
    Health {
        max_metaspace: metaspace.and_then(|m| m.as_u64()).filter(|m| *m > 0),
        java_version: java_version.map(|version| cut(&version, MAX_TEXT)),
        master: master.and_then(|m| Some((cut(&m.name?, MAX_TEXT), cut(&m.version?, MAX_TEXT)))),
    }
}

#[derive(Deserialize)]
struct OldList {
    #[serde(default, deserialize_with = "null_as_empty")]
    data: Vec<RawModule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModule {
    #[serde(alias = "bizName")]
    name: Option<String>,
    #[serde(alias = "bizVersion")]
    version: Option<String>,
    #[serde(alias = "bizState")]
    state: Option<String>,
    latest_state_record: Option<RawRecord>,
}

#[derive(Deserialize)]
struct RawRecord {
    message: Option<String>,
}

fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

fn list(raw: Vec<RawModule>) -> Vec<ListedModule> {
    raw.into_iter()
        .filter_map(|m| {
            let state = match m.state.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
                "resolved" => ModuleState::Resolved,
                "activated" => ModuleState::Activated,
                "deactivated" => ModuleState::Deactivated,
                "broken" => ModuleState::Broken,
                _ => ModuleState::Unknown,
            };
            let message = m.latest_state_record.and_then(|r| r.message).filter(|t| !t.is_empty());
            Some(ListedModule { id: module_id(m.name, m.version)?, state, message: message.map(|t| root_cause(&t)) })
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReply {
    command: Option<String>,
    biz_name: Option<String>,
    biz_version: Option<String>,
    response: Option<RawResponse>,
}

#[derive(Deserialize)]
struct RawResponse {
    code: Option<String>,
    message: Option<String>,
    data: Option<RawResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResult {
    code: Option<String>,
    message: Option<String>,
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

/// None where it is too long to be anybody's module.
fn module_id(name: Option<String>, version: Option<String>) -> Option<ModuleId> {
    let (name, version) = name.zip(version)?;
    (name.len() + version.len() <= MAX_MESSAGE).then(|| ModuleId::new(name, version))
}

fn reply(raw: RawReply) -> Reply {
    let command = match raw.command.as_deref() {
        Some("uninstallBiz") => "uninstallBiz",
        _ => "installBiz",
    };
    let module = module_id(raw.biz_name, raw.biz_version);
    let Some(response) = raw.response else {
        return Reply { command, module, answer: Answer::Failed("the base gave no reason".to_owned()) };
    };
    let outer = response.message.unwrap_or_default();
    let success = response.code.as_deref() == Some("SUCCESS");
    let answer = match response.data {
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
        None => Answer::Failed(failure(&outer, "")),
    };
    Reply { command, module, answer }
}

/// The module that `Biz: biz1:0.0.1 has been installed or registered.` speaks of (as recorded).
fn repeated(message: &str) -> Option<ModuleId> {
    let (name, version) = message.strip_prefix("Biz: ")?.split_once(" has been ")?.0.split_once(':')?;
    module_id(Some(name.to_owned()), Some(version.to_owned()))
}

/// The root cause, wherever it stands: the outer message often is only `InvocationTargetException`,
/// the inner one a stack trace of several kB.
fn failure(outer: &str, inner: &str) -> String {
    let from_trace = root_cause(inner);
    let opaque = outer.is_empty() || outer.ends_with("InvocationTargetException") || outer.ends_with("not success!");
    match (opaque, from_trace.is_empty()) {
        (_, true) if outer.is_empty() => "the base gave no reason".to_owned(),
        (false, _) if !inner.contains("Caused by: ") => root_cause(outer),
        (_, true) => root_cause(outer),
        _ => from_trace,
    }
}

/// The deepest `Caused by:` of a Java stack trace, or its first line, cut to a readable length.
fn root_cause(trace: &str) -> String {
    let cause = trace.rsplit_once("Caused by: ").map_or(trace, |(_, cause)| cause);
    let line = cause.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    cut(line, MAX_MESSAGE)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
