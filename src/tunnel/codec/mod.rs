//! JSON → domain. Lenient in what it reads: only what is needed is decoded, unknown fields and
//! odd `bizInfos` (8–10 kB of class path and fastjson references) are skipped unread. No text that comes out has a
//! character that a terminal acts on.

mod exchange;
mod health;
mod identity;
mod list;
mod reply;
mod text;

use serde::Deserialize;

use super::{Kind, address::AddressError};
use crate::domain::{BaseInfo, ListedModule, Reply};
pub use exchange::{Posted, exchanged, posted};
use list::RawList;

/// Payloads above this are refused unread. A real list of 1,000 modules is about 200 kB.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;

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
    /// Why the address that it says is none.
    pub no_address: Option<AddressError>,
    /// It says that it goes away.
    pub going_away: bool,
    /// It did not come when it was due, so the JVM may be another one.
    pub out_of_turn: bool,
}

/// Health of a base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Health {
    /// Bytes; none where the JVM has no limit (`-1` on the wire).
    pub max_metaspace: Option<u64>,
    /// Bytes of it that are used.
    pub used_metaspace: Option<u64>,
    /// Classes that are loaded.
    pub loaded_classes: Option<u64>,
    /// Java's version.
    pub java_version: Option<String>,
    /// Name and version of the application.
    pub master: Option<(String, String)>,
    /// Cores that its JVM sees.
    pub cpus: Option<u64>,
    /// Whether modules can have a context in a web server of the base; none where it does not list its plugins.
    pub web_server: Option<bool>,
    /// How long its JVM runs.
    pub run_time: Option<std::time::Duration>,
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
    /// It does not say from whom it is.
    #[error("{0} without an identity")]
    Anonymous(&'static str),
    /// A question that was not answered.
    #[error("the base refuses {question}: {why}")]
    Refused {
        /// The question's name on the wire.
        question: &'static str,
        /// In the base's words.
        why: String,
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
    Ok(match kind {
        Kind::Heart => Message::Heartbeat(identity::heartbeat(identity, data(kind, payload)?)?),
        Kind::QueryBaseline => Message::QueryBaseline(identity::info(identity, data(kind, payload)?)?),
        Kind::Health => Message::Health(data::<Inner<_>>(kind, payload)?.data.map(health::health).unwrap_or_default()),
        Kind::SimpleBiz => Message::Modules(data::<RawList>(kind, payload)?.0),
        Kind::Biz => Message::Modules(data::<Inner<RawList>>(kind, payload)?.data.unwrap_or_default().0),
        Kind::BizOperation => Message::Reply(reply::reply(data(kind, payload)?)),
        Kind::BatchInstallBizResponse => {
            Message::Reply(Reply { command: "baseline", module: None, ..reply::reply(data(kind, payload)?) })
        }
    })
}

/// Health, and lists of bases up to 2.1.6, are data in data.
#[derive(Deserialize)]
struct Inner<T> {
    data: Option<T>,
}

fn data<'p, T: Deserialize<'p>>(kind: Kind, payload: &'p [u8]) -> Result<T, CodecError> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        data: T,
    }
    serde_json::from_slice::<Envelope<T>>(payload)
        .map(|e| e.data)
        .map_err(|error| CodecError::Malformed { what: kind.as_str(), reason: text::text(&error.to_string()) })
}
