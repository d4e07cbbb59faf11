//! Whatever comes on a base's topic: no panic, an answer in time, and nothing made of nothing.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use modulet::{
    domain::{Answer, BaseInfo, ModuleId},
    tunnel::{Kind, Message, decode},
};
use proptest::{collection, prelude::*, sample::Index};
use serde_json::{Map, Value, json};

use crate::recording::from_bases;

/// For small payloads on a busy machine, unoptimised.
const DEADLINE: Duration = Duration::from_millis(250);

static RECORDED: LazyLock<Vec<(Kind, Vec<u8>)>> = LazyLock::new(|| {
    let kind = |topic: &str| Kind::ALL.into_iter().find(|kind| topic.ends_with(&format!("/base/{}", kind.as_str())));
    let lines = from_bases().unwrap_or_default();
    lines.iter().filter_map(|line| Some((kind(&line.topic)?, line.bytes()))).collect()
});

/// What a terminal acts on, or what is read otherwise than it is shown.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// All text of a message.
fn texts(message: &Message) -> Vec<String> {
    let module = |id: &ModuleId| vec![id.name.clone(), id.version.clone()];
    let info = |info: &BaseInfo| {
        let optional = [&info.cluster, &info.ip, &info.host_name].into_iter().flatten().cloned();
        [info.name.clone(), info.version.clone()].into_iter().chain(optional).collect::<Vec<_>>()
    };
    match message {
        Message::Heartbeat(heart) => {
            let mut all = info(&heart.info);
            all.extend(heart.no_address.as_ref().map(ToString::to_string));
            all
        }
        Message::QueryBaseline(said) => said.as_ref().map(info).unwrap_or_default(),
        Message::Health(health) => {
            let master = health.master.iter().flat_map(|(name, version)| [name.clone(), version.clone()]);
            health.java_version.iter().cloned().chain(master).collect()
        }
        Message::Modules(modules) => {
            modules.iter().flat_map(|m| module(&m.id).into_iter().chain(m.message.clone())).collect()
        }
        Message::Reply(reply) => {
            let mut all = reply.module.as_ref().map(module).unwrap_or_default();
            match &reply.answer {
                Answer::Failed(why) => all.push(why.clone()),
                Answer::Done { actual: Some(id) } | Answer::Repeat { actual: Some(id) } => all.extend(module(id)),
                _ => {}
            }
            all
        }
    }
}

/// Reads a payload as every kind, and checks what must hold for whatever comes out.
fn check(payload: &[u8]) -> Result<(), TestCaseError> {
    for kind in Kind::ALL {
        let start = Instant::now();
        let result = decode("base-1", kind, payload);
        let took = start.elapsed();
        prop_assert!(took < DEADLINE, "{:?}: {:?} for {} bytes", kind, took, payload.len());
        let said = result.as_ref().map_or_else(|error| vec![error.to_string()], texts);
        prop_assert!(!said.iter().any(|text| text.chars().any(acts)), "{:?}: {:?}", kind, said);
        match result {
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!text.is_empty() && text.chars().count() < 600, "{}", text);
            }
            Ok(Message::Modules(modules)) => {
                // The shortest element that names a module has more than 20 bytes.
                prop_assert!(modules.len() * 20 <= payload.len());
                for message in modules.iter().filter_map(|m| m.message.as_ref()) {
                    prop_assert!(message.chars().count() <= 1001);
                }
            }
            Ok(Message::Reply(reply)) => {
                if let Answer::Failed(message) = &reply.answer {
                    prop_assert!(!message.is_empty() && message.chars().count() <= 1001);
                }
            }
            Ok(Message::Heartbeat(_) | Message::Health(_) | Message::QueryBaseline(_)) => {}
        }
    }
    Ok(())
}

const KEYS: &[&str] = &[
    "data",
    "publishTimestamp",
    "baseMetadata",
    "masterBizInfo",
    "networkInfo",
    "identity",
    "name",
    "version",
    "clusterName",
    "localIP",
    "localHostName",
    "state",
    "port",
    "command",
    "bizName",
    "bizVersion",
    "bizState",
    "response",
    "code",
    "message",
    "bizInfos",
    "latestStateRecord",
    "healthData",
    "jvm",
    "java max metaspace",
    "java used metaspace",
    "java version",
    "bizUrlToResponse",
    "$ref",
];

const WORDS: &[&str] = &[
    "",
    "base-1",
    "somebody-else",
    "SUCCESS",
    "FAILED",
    "REPEAT_BIZ",
    "NOT_FOUND_BIZ",
    "installBiz",
    "uninstallBiz",
    "activated",
    "ACTIVATED",
    "resolved",
    "deactivated",
    "broken",
    "Caused by: ",
    "\u{0}",
    "ä",
    "\u{1F9E9}",
    "conflict, exist unfinished command",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "safe\u{202e}gpj.exe",
    "Caused by: a\u{9b}31m\r\nb",
    "Biz: a\u{1b}b:1\u{8} has been installed or registered.",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(WORDS).prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

/// JSON made of the protocol's keys, with any types in any places.
fn odd_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(8, 96, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            collection::vec((proptest::sample::select(KEYS), inner), 0..7).prop_map(|fields| Value::from(
                fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
            )),
        ]
    })
}

/// Everything in a document, as paths to it.
fn paths(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| paths(v, &format!("{here}/{}", escape(k)), all)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| paths(v, &format!("{here}/{i}"), all)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in collection::vec(any::<u8>(), 0..2000)) {
        check(&bytes)?;
    }

    #[test]
    fn any_json_with_the_right_keys(data in odd_json()) {
        check(json!({ "publishTimestamp": 1, "data": data.clone() }).to_string().as_bytes())?;
        check(data.to_string().as_bytes())?;
    }

    /// Messages that are read, with any text in each place that has one.
    #[test]
    fn recorded_payloads_with_any_text(which in any::<Index>(), text in any::<String>(), word in proptest::sample::select(WORDS)) {
        let mut value: Value = serde_json::from_slice(&which.get(&RECORDED).1).unwrap_or_default();
        let mut all = Vec::new();
        paths(&value, "", &mut all);
        for path in &all {
            // What the kind of an answer or a state is read from stays.
            let kept = ["/code", "/command", "/state", "/identity"].iter().any(|end| path.ends_with(end));
            if let Some(Value::String(part)) = value.pointer_mut(path).filter(|_| !kept) {
                *part = format!("{text}{word}");
            }
        }
        check(value.to_string().as_bytes())?;
    }

    #[test]
    fn numbers_of_any_size(number in "-?[0-9]{1,400}(\\.[0-9]{1,300})?([eE][+-]?[0-9]{1,10})?") {
        for at in [r#"{"data":N}"#, r#"{"publishTimestamp":N,"data":[]}"#, r#"{"data":{"port":N,"baseMetadata":{"name":"a","version":"1"}}}"#,
            r#"{"data":{"data":{"healthData":{"jvm":{"java max metaspace":N}}}}}"#] {
            check(at.replace('N', &number).as_bytes())?;
        }
    }

    #[test]
    fn recorded_payloads_with_a_part_exchanged(which in any::<Index>(), place in any::<Index>(), other in odd_json(), remove in any::<bool>()) {
        let mut value: Value = serde_json::from_slice(&which.get(&RECORDED).1).unwrap_or_default();
        let mut all = Vec::new();
        paths(&value, "", &mut all);
        let path = place.get(&all);
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        match value.pointer_mut(parent) {
            Some(Value::Object(fields)) if remove => drop(fields.remove(key)),
            _ => if let Some(part) = value.pointer_mut(path) { *part = other },
        }
        check(value.to_string().as_bytes())?;
    }

    #[test]
    fn recorded_payloads_damaged(
        which in any::<Index>(),
        flips in collection::vec((any::<Index>(), any::<u8>()), 0..8),
        cut in proptest::option::of(any::<Index>()),
        doubled in proptest::option::of((any::<Index>(), any::<Index>())),
    ) {
        let mut bytes = which.get(&RECORDED).1.clone();
        if let Some((from, to)) = doubled {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(to..to, part);
        }
        for (at, with) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes)?;
    }

    #[test]
    fn recorded_payloads_with_a_key_twice(which in any::<Index>(), key in proptest::sample::select(KEYS), other in odd_json()) {
        let text = String::from_utf8_lossy(&which.get(&RECORDED).1).into_owned();
        let quoted = format!("\"{key}\":");
        check(text.replacen(&quoted, &format!("{quoted}{other},{quoted}"), 1).as_bytes())?;
        check(text.replacen('{', &format!("{{{quoted}{other},"), 1).as_bytes())?;
    }

    #[test]
    fn nobody_speaks_for_another(identity in "\\PC{0,100}") {
        prop_assume!(identity != "base-1");
        let metadata = json!({ "identity": identity, "name": "a", "version": "1" });
        for (kind, data) in [(Kind::Heart, json!({ "baseMetadata": metadata })), (Kind::QueryBaseline, metadata.clone())] {
            let result = decode("base-1", kind, json!({ "data": data }).to_string().as_bytes());
            prop_assert!(result.is_err(), "{:?}", result);
        }
    }
}
