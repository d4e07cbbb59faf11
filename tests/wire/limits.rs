//! What comes from a stranger is bounded: in time, in depth and in what is made of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use modulet::{
    domain::Answer,
    tunnel::{CodecError, Kind, Message, decode},
};
use serde_json::json;

/// What is refused unread.
const TOO_LARGE: usize = 4 * 1024 * 1024 + 1;

/// Others use the machine too, so three tries.
fn assert_quick(what: &str, limit_ms: u64, run: impl Fn()) {
    let limit = Duration::from_millis(limit_ms);
    let mut took = limit;
    for _ in 0..3 {
        let start = Instant::now();
        run();
        took = took.min(start.elapsed());
        if took < limit {
            return;
        }
    }
    assert!(took < limit, "{what}: {took:?}");
}

#[test]
fn ten_megabytes_are_refused_unread() {
    let payload = vec![b'['; 10 * 1024 * 1024];
    for kind in Kind::ALL {
        assert_quick(kind.as_str(), 5, || {
            assert!(matches!(decode("base-1", kind, &payload), Err(CodecError::TooLarge(_))));
        });
    }
    let payload = vec![b' '; TOO_LARGE];
    assert!(matches!(decode("base-1", Kind::Heart, &payload), Err(CodecError::TooLarge(_))));
    assert!(matches!(decode("base-1", Kind::Heart, &payload[1..]), Err(CodecError::Malformed { .. })));
}

/// So many modules can be on a list.
const MODULES: usize = 10_000;

#[test]
fn the_longest_list_is_read_in_time_and_a_longer_one_is_refused() {
    // As long as entries can be for so many of them.
    let record =
        format!(r#"{{"changeTime":1,"state":"ACTIVATED","reason":"STARTED","message":"{}"}}"#, "x".repeat(200));
    let element = format!(r#"{{"name":"biz1","version":"0.0.1","state":"activated","latestStateRecord":{record}}}"#);
    for kind in [Kind::SimpleBiz, Kind::Biz] {
        let of = |count: usize| {
            let list = vec![element.as_str(); count].join(",");
            match kind {
                Kind::Biz => format!(r#"{{"publishTimestamp":1,"data":{{"data":[{list}]}}}}"#),
                _ => format!(r#"{{"publishTimestamp":1,"data":[{list}]}}"#),
            }
        };
        let longest = of(MODULES);
        assert!(longest.len() > 3_000_000 && longest.len() < TOO_LARGE, "{}", longest.len());
        assert_quick("the longest list", 900, || {
            let list = decode("base-1", kind, longest.as_bytes());
            assert!(matches!(list, Ok(Message::Modules(modules)) if modules.len() == MODULES));
        });
        let short = element.replace(&record, "null");
        let longer = of(MODULES + 1).replace(&element, &short);
        let refused = decode("base-1", kind, longer.as_bytes());
        let Err(CodecError::Malformed { reason, .. }) = refused else { panic!("{kind:?} is read") };
        assert!(reason.contains("more than 10000 modules"), "{reason}");
    }
}

/// Unoptimised, on a busy machine, one takes up to 400 ms; what grew with the square of the depth would take minutes.
#[test]
fn deep_nesting_is_refused_or_skipped() {
    const DEPTH: usize = 100_000;
    for (open, close) in [("[", "]"), (r#"{"data":"#, "}"), (r#"{"a":["#, "]}")] {
        let nested = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
        for shape in [
            nested.clone(),
            open.repeat(DEPTH),
            format!(r#"{{"data":{nested}}}"#),
            format!(r#"{{"data":{{"response":{{"data":{{"bizInfos":[{nested}]}}}}}}}}"#),
            format!(r#"{{"data":{{"bizInfos":{nested},"data":{nested}}}}}"#),
            format!(r#"{{"unknown":{nested},"data":[]}}"#),
        ] {
            for kind in Kind::ALL {
                assert_quick(kind.as_str(), 2000, || drop(decode("base-1", kind, shape.as_bytes())));
            }
        }
    }
}

#[test]
fn why_a_message_is_refused_is_told_in_a_line() {
    let huge = "x".repeat(4_000_000);
    for shape in [
        json!({ "data": huge }),
        json!({ "data": { "baseMetadata": huge } }),
        json!({ "data": { "baseMetadata": { "identity": huge } } }),
        json!({ "data": { "identity": huge, "response": huge } }),
        json!({ "data": { "data": huge } }),
        json!({ "data": [{ "name": "a", "version": "1", "latestStateRecord": huge }] }),
        json!({ "data": { huge.as_str(): 1, "data": 1 } }),
        json!(huge),
    ] {
        let payload = shape.to_string();
        for kind in Kind::ALL {
            if let Err(error) = decode("base-1", kind, payload.as_bytes()) {
                let text = error.to_string();
                assert!(text.chars().count() < 600 && !text.contains('\n'), "{kind:?}: {} characters", text.len());
                assert!(format!("{error:?}").len() < 3000, "{kind:?}");
            }
        }
    }
}

#[test]
fn causes_are_cut_to_a_readable_length() -> Result<()> {
    let huge = "ä".repeat(500_000);
    let of = |response: serde_json::Value| {
        let payload = json!({ "data": {
            "command": "installBiz", "bizName": "biz1", "bizVersion": "0.0.1", "response": response,
        } });
        decode("base-1", Kind::BizOperation, payload.to_string().as_bytes())
    };
    for response in [
        json!({ "code": "FAILED", "message": huge }),
        json!({ "code": "FAILED", "message": "x", "data": { "code": "FAILED", "message": format!("Caused by: {huge}") } }),
        json!({ "code": "FAILED", "data": { "code": "FAILED", "message": "Caused by: ".repeat(90_000) + &huge } }),
        json!({ "code": huge, "message": huge, "data": { "code": huge, "message": huge } }),
    ] {
        let reply = of(response);
        let Ok(Message::Reply(reply)) = reply else { bail!("{reply:?}") };
        let Answer::Failed(message) = reply.answer else { bail!("{:?}", reply.answer) };
        assert!((1..=1001).contains(&message.chars().count()), "{}", message.chars().count());
    }
    let list = json!({ "data": [{
        "name": "biz1", "version": "0.0.1", "state": "broken", "latestStateRecord": { "message": huge },
    }] });
    let list = decode("base-1", Kind::SimpleBiz, list.to_string().as_bytes());
    let Ok(Message::Modules(modules)) = list else { bail!("{list:?}") };
    assert!(modules.iter().all(|m| m.message.as_ref().is_some_and(|text| text.chars().count() == 1001)));
    Ok(())
}

#[test]
fn what_a_base_tells_of_itself_is_cut_before_it_reaches_a_log_or_a_node() {
    let huge = "x".repeat(300_000);
    let heart = json!({ "data": {
        "baseMetadata": { "name": huge, "version": huge, "clusterName": huge },
        "localIP": huge, "localHostName": huge, "state": huge,
    } });
    let health = json!({ "data": { "data": { "healthData": {
        "jvm": { "java version": huge }, "masterBizInfo": { "bizName": huge, "bizVersion": huge },
    } } } });
    let reply = json!({ "data": {
        "command": huge, "bizName": huge, "bizVersion": huge,
        "response": { "code": "SUCCESS", "data": { "code": "SUCCESS", "bizInfos": [{ "bizName": huge, "bizVersion": huge }] } },
    } });
    for (kind, payload) in [
        (Kind::Heart, &heart),
        (Kind::QueryBaseline, &heart["data"]["baseMetadata"]),
        (Kind::Health, &health),
        (Kind::BizOperation, &reply),
    ] {
        let payload = if kind == Kind::QueryBaseline { json!({ "data": payload }) } else { payload.clone() };
        let message = decode("base-1", kind, payload.to_string().as_bytes());
        assert!(message.is_ok(), "{kind:?}");
        let length = format!("{message:?}").len();
        assert!(length < 5000, "{kind:?}: {length}");
    }
}

#[test]
fn odd_infos_do_not_hide_the_end_of_a_command() -> Result<()> {
    for odd in
        ["null", "{}", r#"{"a":1}"#, "[]", "[null]", "[7]", r#"["x"]"#, "[[1]]", "7", r#""x""#, r#"[{"$ref":"$"}]"#]
    {
        let payload = format!(
            r#"{{"data":{{"command":"installBiz","bizName":"biz1","bizVersion":"0.0.1","response":{{"code":"SUCCESS","data":{{"code":"SUCCESS","bizInfos":{odd}}}}}}}}}"#
        );
        let message = decode("base-1", Kind::BizOperation, payload.as_bytes());
        let Ok(Message::Reply(reply)) = message else { bail!("{odd}: {message:?}") };
        assert_eq!(reply.answer, Answer::Done { actual: None }, "{odd}");
    }
    Ok(())
}
