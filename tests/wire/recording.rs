//! Reads the recordings, and what comes of them.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result};
use modulet::{
    domain::{Answer, ListedModule, Reply},
    tunnel::{CodecError, Heartbeat, IdentityError, Message, Topics, decode},
};
use serde::Deserialize;
use serde_json::Value;

/// One recorded message.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) scenario: String,
    pub(crate) step: String,
    pub(crate) dir: String,
    pub(crate) topic: String,
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

/// Everything that was recorded from bases, in order.
pub(crate) fn from_bases() -> Result<Vec<Line>> {
    let mut lines = recorded()?;
    lines.retain(|line| line.dir == "from-base");
    Ok(lines)
}

/// Everything that was recorded, in order.
pub(crate) fn recorded() -> Result<Vec<Line>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire/recorded.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
}

/// Why a message goes no further.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No topic of a base.
    Topic,
    Identity(IdentityError),
    Payload(CodecError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => f.write_str("no topic of a base"),
            Self::Identity(error) => error.fmt(f),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

/// What the tunnel does with a message.
pub(crate) fn receive(topics: &Topics, topic: &str, payload: &[u8]) -> Result<Message, Refusal> {
    let (identity, kind) = topics.parse(topic).ok_or(Refusal::Topic)?;
    topics.base(identity).map_err(Refusal::Identity)?;
    decode(identity, kind, payload).map_err(Refusal::Payload)
}

/// The topics of the environment that a recorded topic belongs to.
pub(crate) fn topics_of(topic: &str) -> Topics {
    let env = topic.strip_prefix("koupleless_").and_then(|rest| rest.split('/').next());
    Topics::new(env.unwrap_or_default())
}

/// A message in one line.
pub(crate) fn describe(message: &Message) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    match message {
        Message::Heartbeat(Heartbeat { info, no_address, going_away, .. }) => {
            let leaves = if *going_away { ", leaves" } else { "" };
            let (cluster, ip, host) = (text(&info.cluster), text(&info.ip), text(&info.host_name));
            let refused = no_address.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("heart {} {} {cluster} {ip} {host}{refused}{leaves}", info.name, info.version)
        }
        Message::QueryBaseline(None) => "baseline?".to_owned(),
        Message::QueryBaseline(Some(info)) => {
            format!("baseline? {} {} {}", info.name, info.version, text(&info.cluster))
        }
        Message::Health(health) => {
            let (name, version) = health.master.clone().unwrap_or_default();
            format!("health {name} {version} java {} metaspace {:?}", text(&health.java_version), health.max_metaspace)
        }
        Message::Modules(modules) => {
            let mut modules: Vec<_> = modules.iter().map(describe_module).collect();
            modules.sort();
            format!("[{}]", modules.join(", "))
        }
        Message::Reply(Reply { command, module, answer, .. }) => {
            let module = module.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            let answer = match answer {
                Answer::Done { actual: None } => "done".to_owned(),
                Answer::Done { actual: Some(actual) } => format!("done: it is {actual}"),
                Answer::Failed(message) => format!("failed: {message}"),
                Answer::Repeat { .. } => "repeat".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            format!("{command} {module} {answer}")
        }
    }
}

fn describe_module(module: &ListedModule) -> String {
    let state = format!("{:?}", module.state).to_lowercase();
    let message = module.message.as_ref().map(|message| format!(" ({message})"));
    format!("{} {state}{}", module.id, message.unwrap_or_default())
}
