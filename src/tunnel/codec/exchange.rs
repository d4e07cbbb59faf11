//! What comes over HTTP: what bases post, and what they answer.

use std::net::IpAddr;

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    CodecError, Kind, Message, health,
    identity::{self, RawHeart, RawMetadata},
    list::RawList,
    reply::{self, RawResponse},
    text::{root_cause, text},
};
use crate::domain::{BaseId, Command, ModuleId, Reply};

/// What a base posts.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// Who it says that it is.
    pub identity: String,
    /// Where it says that it is.
    pub address: Option<IpAddr>,
    /// The port to which commands go.
    pub port: Option<u16>,
    /// What it says.
    pub message: Message,
}

/// Reads what a base posts.
///
/// # Errors
/// It is malformed, or says from nobody.
pub fn posted(kind: Kind, body: &[u8]) -> Result<Posted, CodecError> {
    if kind == Kind::QueryBaseline {
        let raw: RawMetadata = json(kind.as_str(), body)?;
        let identity = raw.identity.clone().ok_or(CodecError::Anonymous("queryBaseline"))?;
        let message = Message::QueryBaseline(identity::info(&identity, raw)?);
        return Ok(Posted { identity, address: None, port: None, message });
    }
    let raw: RawHeart = json(kind.as_str(), body)?;
    let identity = raw.base_metadata.as_ref().and_then(|metadata| metadata.identity.clone());
    let identity = identity.ok_or(CodecError::Anonymous("heartbeat"))?;
    let address = raw.local_ip.as_ref().and_then(|said| said.parse().ok());
    let port = raw.port.filter(|port| *port > 0);
    let mut beat = identity::heartbeat(&identity, raw)?;
    beat.info.tunnel_port = port;
    Ok(Posted { identity, address, port, message: Message::Heartbeat(beat) })
}

/// Reads a base's answer to a command.
///
/// # Errors
/// It is malformed or cut off, from another base, or refuses to answer a question.
pub fn exchanged(base: &BaseId, command: &Command, body: &[u8]) -> Result<Message, CodecError> {
    let name = command.name();
    match command {
        Command::QueryModules => Ok(Message::Modules(answered::<RawList>(base, name, body)?.0)),
        Command::QueryHealth => Ok(Message::Health(health::health(answered(base, name, body)?))),
        Command::Install(spec, _) | Command::Switch(spec) => ended(base, name, &spec.id, body),
        Command::Uninstall(id) => ended(base, name, id, body),
        Command::Baseline(_) => {
            Err(CodecError::Malformed { what: name, reason: "a baseline has no answer".to_owned() })
        }
    }
}

/// An answer belongs to its connection, so it is about what was asked there.
fn ended(base: &BaseId, name: &'static str, module: &ModuleId, body: &[u8]) -> Result<Message, CodecError> {
    is_from(base, name, body)?;
    let response = json::<RawResponse>(name, body)?;
    let (space, answer) = (reply::space(&response), reply::answer(response));
    Ok(Message::Reply(Reply { command: name, module: Some(module.clone()), answer, space }))
}

/// The data of an answer to a question.
fn answered<T: DeserializeOwned>(base: &BaseId, question: &'static str, body: &[u8]) -> Result<T, CodecError> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        code: Option<String>,
        message: Option<String>,
        data: Option<T>,
    }
    is_from(base, question, body)?;
    let Envelope { code, message, data } = json::<Envelope<T>>(question, body)?;
    match data {
        Some(data) if code.as_deref() == Some("SUCCESS") => Ok(data),
        _ => Err(CodecError::Refused { question, why: root_cause(&message.or(code).unwrap_or_default()) }),
    }
}

/// Most answers name the base; one that names another comes from whoever has its address now.
fn is_from(base: &BaseId, what: &'static str, body: &[u8]) -> Result<(), CodecError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct From {
        base_identity: Option<String>,
    }
    match json::<From>(what, body)?.base_identity {
        Some(inside) if inside != base.as_str() => {
            Err(CodecError::ForeignIdentity { inside: inside.chars().take(80).collect() })
        }
        _ => Ok(()),
    }
}

fn json<'b, T: Deserialize<'b>>(what: &'static str, body: &'b [u8]) -> Result<T, CodecError> {
    serde_json::from_slice(body).map_err(|error| CodecError::Malformed { what, reason: text(&error.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Answer;

    #[test]
    fn a_beat_over_http_names_the_port_of_commands_and_one_without_it_none() {
        for (port, expected) in [(r#","port":1238"#, Some(1238)), (r#","port":0"#, None), ("", None)] {
            let metadata = r#""baseMetadata":{"identity":"base-1","name":"app","version":"1"}"#;
            let body = format!("{{{metadata},\"localIP\":\"192.0.2.2\",\"state\":\"activated\"{port}}}");
            let posted = posted(Kind::Heart, body.as_bytes()).unwrap();
            let Message::Heartbeat(beat) = posted.message else { panic!("{body}") };
            assert_eq!((beat.info.tunnel_port, posted.port), (expected, expected));
            // Over MQTT the same field says nothing.
            let body = format!("{{\"data\":{body}}}");
            let over_mqtt = super::super::decode("base-1", Kind::Heart, body.as_bytes()).unwrap();
            let Message::Heartbeat(beat) = over_mqtt else { panic!("{body}") };
            assert_eq!(beat.info.tunnel_port, None);
        }
    }

    #[test]
    fn lists_and_health_tell_of_paths_and_of_the_web_server_as_far_as_they_do() {
        let base = BaseId::new("base-1");
        let answered = |command: &Command, data: &str| {
            let body = format!("{{\"code\":\"SUCCESS\",\"data\":{data}}}");
            exchanged(&base, command, body.as_bytes()).unwrap()
        };
        for (path, expected) in [(r#""biz1""#, Some("biz1")), (r#""""#, None), ("7", None), ("null", None)] {
            let data =
                format!(r#"[{{"bizName":"biz1","bizVersion":"1","bizState":"activated","webContextPath":{path}}}]"#);
            let Message::Modules(modules) = answered(&Command::QueryModules, &data) else { panic!("{data}") };
            assert_eq!(modules[0].context_path.as_deref(), expected);
        }
        for (plugins, expected) in [
            (r#"[{"pluginName":"koupleless-base-plugin"},{"pluginName":"web-ark-plugin"}]"#, Some(true)),
            (r#"[{"pluginName":"koupleless-base-plugin"}]"#, Some(false)),
            (r#"[{"$ref":"$.data"},7]"#, Some(false)),
            (r#"{"odd":[]}"#, None),
            ("null", None),
        ] {
            let data = format!(r#"{{"healthData":{{"cpu":{{"count":2}},"pluginListInfo":{plugins}}}}}"#);
            let Message::Health(health) = answered(&Command::QueryHealth, &data) else { panic!("{data}") };
            assert_eq!((health.web_server, health.cpus), (expected, Some(2)), "{plugins}");
        }
    }

    #[test]
    fn an_install_says_how_much_metaspace_grew_as_far_as_it_does() {
        let (base, module) = (BaseId::new("base-1"), ModuleId::new("biz1", "1"));
        for (space, expected) in [("481448", Some(481_448)), ("-7", None), ("null", None), ("\"much\"", None)] {
            let response = format!(r#"{{"code":"SUCCESS","data":{{"code":"SUCCESS","elapsedSpace":{space}}}}}"#);
            let Message::Reply(reply) = ended(&base, "installBiz", &module, response.as_bytes()).unwrap() else {
                panic!("{response}")
            };
            let done = Answer::Done { actual: None };
            assert_eq!((reply.space, &reply.answer), (expected, &done), "{space}");
            let body = format!(
                r#"{{"data":{{"command":"installBiz","bizName":"biz1","bizVersion":"1","response":{response}}}}}"#
            );
            let over_mqtt = super::super::decode("base-1", Kind::BizOperation, body.as_bytes()).unwrap();
            assert_eq!(
                over_mqtt,
                Message::Reply(Reply {
                    command: "installBiz",
                    module: Some(module.clone()),
                    answer: done,
                    space: expected
                })
            );
        }
    }
}
