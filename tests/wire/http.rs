//! What real bases were recorded to say over HTTP, and what is understood.

use anyhow::{Context, Result, bail};
use modulet::{
    domain::{BaseId, Command, ModuleId, ModuleSpec, Origin, Strategy},
    tunnel::{Kind, Message, exchanged, posted},
};
use modulet_testkit::recorded::{self, Dir, Line};
use serde_json::Value;

use crate::recording::describe;

fn recorded(dir: Dir) -> Result<Vec<Line>> {
    let mut lines = recorded::lines()?;
    lines.retain(|line| line.dir == dir);
    Ok(lines)
}

/// The command that was recorded, as far as modulet sends it.
fn command(line: &Line) -> Option<Command> {
    let text = |field: &str| line.body[field].as_str().unwrap_or_default().to_owned();
    let id = ModuleId::new(text("bizName"), text("bizVersion"));
    match line.path.as_str() {
        "/queryAllBiz" => Some(Command::QueryModules),
        "/health" => Some(Command::QueryHealth),
        "/uninstallBiz" => Some(Command::Uninstall(id)),
        "/installBiz" | "/switchBiz" => {
            let spec = ModuleSpec {
                id,
                origin: Origin::of(&text("bizUrl")),
                url: text("bizUrl"),
                args: Vec::new(),
                envs: std::collections::BTreeMap::new(),
                unresolved: None,
            };
            let switches = line.path == "/switchBiz";
            Some(if switches { Command::Switch(spec) } else { Command::Install(spec, Strategy::InstallOnly) })
        }
        _ => None,
    }
}

fn understood(line: &Line) -> Option<String> {
    let (command, response) = (command(line)?, &line.response);
    // What was no JSON, or nothing at all, is kept apart.
    let body = match response.body.get("raw").and_then(Value::as_str) {
        Some(raw) => raw.to_owned(),
        None => response.body.to_string(),
    };
    let base = BaseId::new("192.0.2.2");
    Some(match exchanged(&base, &command, body.as_bytes()) {
        Ok(message) => describe(&message),
        Err(error) => format!("refused: {error}"),
    })
}

#[test]
fn every_recorded_heartbeat_is_understood() -> Result<()> {
    let mut beats = 0;
    for line in recorded(Dir::FromBase)? {
        let said = posted(Kind::Heart, line.body.to_string().as_bytes())?;
        assert_eq!(said.identity, "192.0.2.2", "{line:?}");
        assert!(matches!(said.port, Some(1238 | 1239)), "{line:?}");
        assert!(said.address.is_some());
        let Message::Heartbeat(beat) = said.message else { bail!("no heartbeat: {line:?}") };
        assert!(!beat.going_away && beat.no_address.is_none(), "{beat:?}");
        beats += 1;
    }
    assert!(beats > 20, "only {beats} heartbeats");
    Ok(())
}

#[test]
fn what_bases_answer_is_understood() -> Result<()> {
    let id = "biz1-web-single-host:0.0.1-SNAPSHOT";
    let given = [
        ("query-fresh", "queryAllBiz", "[]".to_owned()),
        ("install", "first install", format!("installBiz {id} done: it is {id}")),
        ("install", "the same again", format!("installBiz {id} repeat")),
        ("uninstall", "unknown version", "uninstallBiz biz1-web-single-host:9.9.9 notfound".to_owned()),
        (
            "error-uncut",
            "second version, same web context, reply uncut",
            "installBiz biz1-web-single-host:0.0.2-SNAPSHOT failed: java.lang.IllegalArgumentException: Child name [biz1] \
             is not unique"
                .to_owned(),
        ),
        ("conflict", "the same meanwhile", "installBiz mod1:0.0.1 conflict".to_owned()),
        ("conflict", "uninstall meanwhile", "uninstallBiz mod1:0.0.1 conflict".to_owned()),
        ("conflict", "switch meanwhile", "switchBiz mod1:0.0.1 conflict".to_owned()),
        ("switch-default-mode", "switch to 0.0.2", "switchBiz ctx1:0.0.2 done".to_owned()),
        ("switch-default-mode", "switch to an unknown version", "switchBiz ctx1:9.9.9 notfound".to_owned()),
        (
            "error-uncut",
            "main class missing, reply uncut",
            "installBiz biz1-web-single-host:0.0.9-SNAPSHOT failed: java.lang.ClassNotFoundException: com.example.NoSuchMain".to_owned(),
        ),
        ("bad-url", "404", "installBiz x1:1 failed: java.io.FileNotFoundException: http://127.0.0.1:9300/nosuch.jar".to_owned()),
        ("jar-mismatch", "asked for other:7.7", format!("installBiz other:7.7 done: it is {id}")),
    ];
    let lines = recorded(Dir::ToBase)?;
    for (scenario, step, text) in given {
        let line = lines.iter().find(|line| line.scenario == scenario && line.step == step);
        let line = line.with_context(|| format!("{scenario}: {step}"))?;
        assert_eq!(understood(line).as_deref(), Some(text.as_str()), "{scenario}: {step}");
    }
    Ok(())
}

#[test]
fn every_answer_is_understood_or_refused_with_a_reason() -> Result<()> {
    let mut counts = (0, 0);
    for line in recorded(Dir::ToBase)? {
        let Some(text) = understood(&line) else { continue };
        let code = line.response.body["code"].as_str().map(str::to_owned);
        let question = matches!(line.path.as_str(), "/queryAllBiz" | "/health");
        if code.as_deref() == Some("SUCCESS") {
            assert!(!text.starts_with("refused"), "{} {}: {text}", line.scenario, line.step);
            counts.0 += 1;
        } else if question || code.is_none() {
            assert!(text.starts_with("refused: ") && text.len() > 20, "{} {}: {text}", line.scenario, line.step);
            counts.1 += 1;
        } else {
            assert!(
                !text.contains("Internal Error") && !text.contains('\n'),
                "{} {}: {text}",
                line.scenario,
                line.step
            );
        }
    }
    assert!(counts.0 > 60 && counts.1 > 4, "{counts:?}");
    Ok(())
}
