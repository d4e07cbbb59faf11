//! What real bases were recorded to say, and what is understood.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use modulet::{
    domain::Answer,
    tunnel::{CodecError, IdentityError, Message, decode},
};
use serde_json::Value;

use crate::recording::{Refusal, describe, from_bases, receive, topics_of};

const BROKEN: &str = "failed: java.lang.IllegalStateException: this module is broken on purpose";
const INACTIVE: &str = "deactivated (start but is deactivated)";

/// Scenario, step, and what is understood.
fn understood() -> Vec<(&'static str, &'static str, String)> {
    let given = [
        ("start-up", "start", "baseline? testbase 1.0.0 default"),
        ("start-up", "heartbeat", "heart testbase 1.0.0 default 192.0.2.10 base-host"),
        ("identity-stock-hook", "heartbeat", "heart TO_BE_IMPLEMENTED 1.0.0 default 192.0.2.10 192.0.2.10"),
        ("health", "health on a fresh base", "health testbase 1.0.0 java 17.0.15 metaspace None"),
        ("query-empty", "query on a fresh base", "[]"),
        ("install-ok", "install biz1 0.0.1", "installBiz biz1:0.0.1 done: it is biz1:0.0.1"),
        ("install-repeat", "again, no installStrategy", "installBiz biz1:0.0.1 repeat"),
        ("uninstall-ok", "uninstall biz1 0.0.1", "uninstallBiz biz1:0.0.1 done"),
        ("uninstall-missing", "uninstall a module never installed", "uninstallBiz nope:9.9.9 notfound"),
        ("uninstall-missing", "uninstall a version that is not there", "uninstallBiz biz1:0.0.2 notfound"),
        ("conflict", "install of the same version meanwhile", "installBiz biz1:0.0.1 conflict"),
        ("conflict", "uninstall of the same version meanwhile", "uninstallBiz biz1:0.0.1 conflict"),
        ("conflict", "query meanwhile", "[biz1:0.0.1 resolved]"),
        ("uninstall-then-install-slow", "query meanwhile", "[biz1:0.0.2 resolved]"),
        ("conflict", "slow install of biz1 0.0.1", "installBiz biz1:0.0.1 done: it is biz1:0.0.1"),
        (
            "conflict-other-version",
            "0.0.2 meanwhile, uninstallThenInstall",
            "installBiz biz1:0.0.2 failed: java.lang.IllegalArgumentException: BizState must be ACTIVATED, DEACTIVATED \
             or BROKEN.",
        ),
        ("second-version-multi-active", "query with both", "[biz1:0.0.1 activated, biz1:0.0.2 activated]"),
        (
            "second-version-activate-new",
            "query with both",
            "[biz1:0.0.1 deactivated (switch to new biz biz1:0.0.2), \
             biz1:0.0.2 activated (switch from old biz: biz1:0.0.1)]",
        ),
        (
            "name-version-mismatch",
            "ask for biz9 9.9.9, the jar is biz1 0.0.1",
            "installBiz biz9:9.9.9 done: it is biz1:0.0.1",
        ),
        ("name-version-mismatch", "query", "[biz1:0.0.1 activated]"),
        ("incomplete-fields", "install without name and version", "installBiz - done: it is biz1:0.0.1"),
        ("incomplete-fields", "install without URL", "installBiz biz1:0.0.1 failed: bizUrl should not be blank"),
        ("baseline-all-good", "baseline of two", "baseline - done"),
        ("baseline-empty", "empty baseline on an empty base", "baseline - done"),
        ("baseline-one-broken", "baseline with one broken module", "baseline - failed: batch install failed"),
        ("baseline-replay", "the same again", "baseline - failed: batch install failed"),
        (
            "baseline-one-unfetchable",
            "baseline with one http 404",
            "baseline - failed: java.io.FileNotFoundException: http://127.0.0.1:18980/nope.jar",
        ),
        ("malformed-baseline", "empty payload", "baseline - failed: bizList is null"),
        (
            "sofaark-3.1.7-empty-state-record",
            "query: latestStateRecord is {}",
            "[biz1:0.0.1 activated, biz1:0.0.2 deactivated]",
        ),
        ("sofaark-3.1.7-broken-kept", "query", "[bizbroken:0.0.1 broken]"),
        (
            "non-ascii-payload-utf8-locale",
            "uninstall of a module with a non-ASCII name",
            "uninstallBiz bizä-模块:0.0.1 notfound",
        ),
        ("identity-named-base", "query", "[biz1:0.0.1 activated]"),
        ("identity-dots", "heartbeat", "heart testbase 1.0.0 default 192.0.2.10 base-host"),
    ];
    given.into_iter().map(|(scenario, step, text)| (scenario, step, text.to_owned())).chain(failures()).collect()
}

/// The same of what is broken, inactive or cannot be fetched.
fn failures() -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    for scenario in ["broken-module-default", "broken-module-auto-uninstall-false", "sofaark-3.1.7-broken-kept"] {
        all.push((scenario, "install the broken module", format!("installBiz bizbroken:0.0.1 {BROKEN}")));
    }
    for step in ["broken 0.0.4 on top, installOnly", "broken 0.0.4, uninstallThenInstall"] {
        all.push(("broken-update", step, format!("installBiz biz1:0.0.4 {BROKEN}")));
    }
    let both = format!("[biz1:0.0.1 activated, biz1:0.0.2 {INACTIVE}]");
    all.push(("second-version-default", "query with both", both));
    all.push(("second-version-default", "query: 0.0.2 alone", format!("[biz1:0.0.2 {INACTIVE}]")));
    let kept = "[biz1:0.0.1 activated, biz1:0.0.4 broken (java.lang.IllegalStateException: this module is broken on \
                purpose)]";
    all.push(("broken-update-auto-uninstall-false", "query: both listed", kept.to_owned()));
    let file = "/srv/koupleless/modules";
    for (scenario, step, cause) in [
        (
            "bad-url-404",
            "install, http 404",
            "java.io.FileNotFoundException: http://127.0.0.1:18980/nope.jar".to_owned(),
        ),
        ("bad-url-refused", "install, connection refused", "java.net.ConnectException: Connection refused".to_owned()),
        (
            "bad-url-file-missing",
            "install, file missing",
            format!("java.io.FileNotFoundException: {file}/nope.jar (No such file or directory)"),
        ),
        (
            "bad-url-unresolvable",
            "install, host name does not resolve",
            "java.net.UnknownHostException: nosuch.invalid".to_owned(),
        ),
        (
            "bad-url-unknown-scheme",
            "install, unknown scheme",
            "java.net.MalformedURLException: unknown protocol: oss".to_owned(),
        ),
        (
            "bad-url-no-scheme",
            "install, no scheme",
            format!("java.net.MalformedURLException: no protocol: {file}/biz1-0.0.1-ark-biz.jar"),
        ),
        (
            "bad-jar-not-a-zip",
            "install, a file that is no jar",
            "java.util.zip.ZipException: zip END header not found".to_owned(),
        ),
        (
            "bad-jar-no-module",
            "install, a jar that is no module",
            "java.lang.IllegalArgumentException: Biz Name must not be empty!".to_owned(),
        ),
    ] {
        all.push((scenario, step, format!("installBiz biz1:0.0.1 failed: {cause}")));
    }
    all
}

#[test]
fn what_bases_were_recorded_to_say_is_understood() -> Result<()> {
    let lines = from_bases()?;
    for (scenario, step, expected) in understood() {
        let mut of_step = lines.iter().filter(|l| l.scenario == scenario && l.step == step);
        let line = of_step.next().with_context(|| format!("{scenario}, {step} is not recorded"))?;
        let message = receive(&topics_of(&line.topic), &line.topic, &line.bytes());
        let message = message.map_err(|refusal| anyhow::anyhow!("{scenario}, {step}: {refusal}"))?;
        assert_eq!(describe(&message), expected, "{scenario}, {step}");
    }
    Ok(())
}

#[test]
fn only_odd_identities_are_refused_and_each_for_its_reason() -> Result<()> {
    let mut refused: BTreeMap<String, Vec<IdentityError>> = BTreeMap::new();
    let mut understood = 0;
    for line in from_bases()? {
        match receive(&topics_of(&line.topic), &line.topic, &line.bytes()) {
            Ok(_) => understood += 1,
            Err(Refusal::Identity(error)) => refused.entry(line.scenario).or_default().push(error),
            Err(other) => anyhow::bail!("{}, {}: {other}", line.scenario, line.step),
        }
    }
    assert_eq!(understood, 467);
    let not_dns = |identity: &str| IdentityError::NotDns(identity.to_owned());
    let slash = |identity: &str| IdentityError::Slash(identity.to_owned());
    let long = "b012345678901234567890123456789012345678901234567890123456789";
    for (scenario, error) in [
        ("identity-300-characters", IdentityError::TooLong(format!("{long}01234567890123456789")[..80].to_owned())),
        ("identity-70-characters", IdentityError::TooLong(format!("{long}abcdefgh1"))),
        ("identity-colon-at", not_dns("base:1@x")),
        ("identity-empty", IdentityError::Empty),
        ("identity-leading-slash", slash("/base-1")),
        ("identity-non-ascii-utf8", not_dns("bäse-1")),
        ("identity-percent-quote", not_dns("base%s\"q\\1")),
        ("identity-slash", slash("group/base-1")),
        ("identity-space", not_dns("base one")),
        ("identity-underscore", not_dns("base_under_1")),
        ("identity-upper-case", not_dns("BASE-Upper-1")),
    ] {
        assert_eq!(refused.remove(scenario), Some(vec![error; 7]), "{scenario}");
    }
    assert!(refused.is_empty(), "{refused:?}");
    Ok(())
}

#[test]
fn every_recorded_answer_says_what_its_codes_say() -> Result<()> {
    for line in from_bases()? {
        let Ok(message) = receive(&topics_of(&line.topic), &line.topic, &line.bytes()) else { continue };
        let payload: Value = serde_json::from_slice(&line.bytes())?;
        let data = &payload["data"];
        let place = format!("{}, {}", line.scenario, line.step);
        match message {
            Message::Reply(reply) => {
                let response = &data["response"];
                let outcome = match reply.answer {
                    Answer::Done { .. } => ("SUCCESS", Some("SUCCESS")),
                    Answer::Repeat { .. } => ("FAILED", Some("REPEAT_BIZ")),
                    Answer::NotFound => ("FAILED", Some("NOT_FOUND_BIZ")),
                    Answer::Conflict => ("FAILED", None),
                    Answer::Failed(message) => {
                        assert!(!message.is_empty() && message.len() < 400, "{place}: {message}");
                        assert!(!message.contains("InvocationTargetException"), "{place}: {message}");
                        ("FAILED", response["data"]["code"].as_str())
                    }
                };
                assert_eq!(
                    (response["code"].as_str(), response["data"]["code"].as_str()),
                    (Some(outcome.0), outcome.1)
                );
                let asked = data["bizName"].as_str().zip(data["bizVersion"].as_str());
                let module = reply.module.as_ref().map(|m| (m.name.as_str(), m.version.as_str()));
                assert_eq!(module, asked, "{place}");
            }
            Message::Modules(modules) => {
                let listed = data.as_array().context("a list that is none")?;
                assert_eq!(modules.len(), listed.len(), "{place}");
                for (module, listed) in modules.iter().zip(listed) {
                    assert_eq!(module.id.name, listed["name"], "{place}");
                    assert_eq!(module.id.version, listed["version"], "{place}");
                    assert_eq!(format!("{:?}", module.state).to_lowercase(), listed["state"], "{place}");
                }
            }
            Message::Health(health) => assert_eq!(health.max_metaspace, None, "{place}: no limit was set"),
            Message::Heartbeat(heartbeat) => assert!(!heartbeat.going_away, "{place}"),
            Message::QueryBaseline(info) => assert!(info.is_some(), "{place}"),
        }
    }
    Ok(())
}

#[test]
fn a_metaspace_limit_is_read_and_minus_one_is_none() -> Result<()> {
    let lines = from_bases()?;
    let line = lines.iter().find(|l| l.step == "health on a fresh base").context("no health")?;
    let topics = topics_of(&line.topic);
    let mut payload: Value = serde_json::from_slice(&line.bytes())?;
    for (limit, expected) in
        [("-1", None), ("0", None), ("268435456", Some(268_435_456)), ("1e3", None), ("null", None)]
    {
        payload["data"]["data"]["healthData"]["jvm"]["java max metaspace"] = serde_json::from_str(limit)?;
        let message = receive(&topics, &line.topic, payload.to_string().as_bytes());
        let Ok(Message::Health(health)) = message else { anyhow::bail!("{limit}: {message:?}") };
        assert_eq!(health.max_metaspace, expected, "{limit}");
        assert_eq!(health.master, Some(("testbase".to_owned(), "1.0.0".to_owned())));
        assert!(health.used_metaspace.is_some_and(|used| used > 1_000_000), "{:?}", health.used_metaspace);
    }
    Ok(())
}

#[test]
fn used_metaspace_is_read_where_it_is_a_number_of_bytes_and_takes_nothing_else_with_it() -> Result<()> {
    let lines = from_bases()?;
    let line = lines.iter().find(|l| l.step == "health on a fresh base").context("no health")?;
    let topics = topics_of(&line.topic);
    let mut payload: Value = serde_json::from_slice(&line.bytes())?;
    for (used, expected) in [
        ("0", Some(0)),
        ("36871224", Some(36_871_224)),
        ("18446744073709551615", Some(u64::MAX)),
        ("-1", None),
        ("1e3", None),
        ("null", None),
        ("\"36871224\"", None),
        ("{\"$ref\":\"$.data\"}", None),
    ] {
        payload["data"]["data"]["healthData"]["jvm"]["java used metaspace"] = serde_json::from_str(used)?;
        let message = receive(&topics, &line.topic, payload.to_string().as_bytes());
        let Ok(Message::Health(health)) = message else { anyhow::bail!("{used}: {message:?}") };
        assert_eq!(health.used_metaspace, expected, "{used}");
        assert_eq!(health.java_version.as_deref(), Some("17.0.15"), "{used}");
    }
    Ok(())
}

#[test]
fn a_message_that_speaks_for_another_base_is_refused() -> Result<()> {
    for line in from_bases()? {
        let topics = topics_of(&line.topic);
        let Some((_, kind)) = topics.parse(&line.topic) else { continue };
        let result = decode("somebody-else", kind, &line.bytes());
        if matches!(kind.as_str(), "heart" | "queryBaseline") {
            assert!(matches!(result, Err(CodecError::ForeignIdentity { .. })), "{}: {result:?}", line.scenario);
        } else {
            assert!(result.is_ok(), "{}, {}: {result:?}", line.scenario, line.step);
        }
    }
    Ok(())
}

#[test]
fn commands_are_not_taken_for_messages_of_bases() -> Result<()> {
    for line in crate::recording::recorded()?.iter().filter(|line| line.dir == "to-base") {
        assert_eq!(topics_of(&line.topic).parse(&line.topic), None, "{}", line.topic);
    }
    Ok(())
}
