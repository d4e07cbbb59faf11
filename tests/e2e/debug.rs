//! What people see who look at a base by `/debug/bases`.

use anyhow::{Context, Result, ensure};
use modulet_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, module_pod};

async fn look(stage: &Stage, path: &str) -> Result<Value> {
    let text = stage.controller.get(path).await?;
    serde_json::from_str(&text).with_context(|| text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_base_can_be_read() -> Result<()> {
    let stage = Stage::set("debug-bases").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    let secret = "do-not-tell-this";
    let env = pod["spec"]["containers"][0]["env"].as_array_mut().context("no environment")?;
    env.push(json!({ "name": "TOKEN", "value": secret }));
    stage.create_pod(pod).await?;
    stage.pod_ready("biz1").await?;

    let base = eventually("the module on the base", SOON, async || {
        let base = look(&stage, "/debug/bases/base-1").await?;
        ensure!(base["commands"] == json!([]) && base["recorded"] == true, "{base:#}");
        Ok(base)
    })
    .await?;
    assert_eq!(base["node"], stage.node_name("base-1"));
    assert_eq!(base["reachability"], "Online");
    assert_eq!(base["modules"].as_array().map(Vec::len), Some(1), "{base:#}");
    assert_eq!((&base["modules"][0]["module"], &base["modules"][0]["state"]), (&json!("biz1:1"), &json!("Activated")));
    assert_eq!((&base["failures"], &base["waiting"]), (&json!([]), &json!([])));
    assert_eq!(base["claims"][0]["module"], "biz1:1");
    assert_eq!(base["installed"], json!(["biz1:1"]));
    assert!(!base.to_string().contains(secret), "{base:#}");

    let all = look(&stage, "/debug/bases").await?;
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    assert_eq!((&all[0]["base"], &all[0]["modules"]), (&json!("base-1"), &json!(1)));
    let unknown = stage.controller.get("/debug/bases/base-2").await;
    assert!(unknown.is_err_and(|error| error.to_string().contains("404 no such base")));
    stage.ends_quietly().await
}
