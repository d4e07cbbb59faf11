//! The health check for Argo CD (`examples/argo-cd`), run by an interpreter of the Lua that Argo CD has (5.1).

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::{
    ModuleRolloutStatus,
    Phase::{Blocked, Completed, Idle, Paused, Progressing, RollingBack, Waiting},
};
use serde_json::{Value, json};

fn read(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn script() -> Result<String> {
    let file: Value = serde_saphyr::from_str(&read("examples/argo-cd/health.yaml")?)?;
    let script = file["data"]["resource.customizations.health.modulet.koupleless.io_ModuleRollout"].as_str();
    script.map(str::to_owned).context("no script")
}

/// A value as Lua has it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(list) => format!("{{{}}}", list.iter().map(lua).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("[{}]={}", lua(&json!(key)), lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        // A backslash before the end of a line is one in Lua, too.
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")),
        other => other.to_string(),
    }
}

/// Health and message, in one text.
fn health(object: &Value) -> Result<String> {
    let program = format!(
        "obj = {}\nlocal hs = (function()\n{}\nend)()\nio.write(hs.status, ' ', hs.message)",
        lua(object),
        script()?
    );
    let output = Command::new("lua5.1").args(["-e", &program]).output().context("lua5.1: run tests/kit/setup")?;
    ensure!(output.status.success(), "{}\n{program}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn argo_cd_suspends_what_waits_and_degrades_what_failed() -> Result<()> {
    let cases: Vec<Value> = serde_saphyr::from_multiple(&read("tests/data/module-rollouts.yaml")?)?;
    let mut phases = BTreeSet::new();
    for case in &cases {
        let (object, expected) = (&case["object"], case["health"].as_str().context("no health")?);
        assert_eq!(health(object)?, expected, "{object}");
        let status: ModuleRolloutStatus = serde_json::from_value(object["status"].clone()).unwrap_or_default();
        phases.extend(status.phase.map(|phase| format!("{phase:?}")));
    }
    let all = [Blocked, Completed, Idle, Paused, Progressing, RollingBack, Waiting].map(|phase| format!("{phase:?}"));
    ensure!(phases == all.into(), "{phases:?}");
    // One of a later version.
    let later = json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": 1, "phase": "Resting" } });
    assert_eq!(health(&later)?, "Unknown Resting");
    Ok(())
}
