//! Real bases that are reached over HTTP: the whole life of a module there, without a broker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::{http, java_base::module_url, wait::eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    real_base::{Scene, restarts},
    stage::{SOON, Stage, container_message, container_reason, is_ready},
    workloads::{deployment, rolled_out},
};

/// A controller that is away for so long was away for longer than Kubernetes waits for a Node (40 s).
const AWAY: Duration = Duration::from_secs(60);
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(2);

/// A Deployment with surge of one version of a module.
fn release(stage: &Stage, name: &str, version: &str) -> Value {
    let mut release = deployment(stage, name, 1, version, &json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    release["spec"]["template"]["spec"]["containers"][0]["image"] = json!(module_url(name, version));
    release
}

/// Calls a module all the time.
struct Caller {
    ends: Arc<AtomicBool>,
    calls: JoinHandle<Vec<Result<String, String>>>,
}

impl Caller {
    fn start(port: u16, path: &'static str) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let calls = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !end.load(Ordering::Relaxed) {
                answers.push(match http::get(&format!("127.0.0.1:{port}"), path).await {
                    Ok((200, body)) => Ok(body),
                    Ok((status, body)) => Err(format!("{status} {body}")),
                    Err(error) => Err(format!("{error:#}")),
                });
                tokio::time::sleep(PAUSE).await;
            }
            answers
        });
        Self { ends, calls }
    }

    /// Ends, and has had no answer but these, in this order.
    async fn had(self, expected: &[&str]) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        let mut answers = self.calls.await?;
        let calls = answers.len();
        answers.dedup();
        let expected: Vec<_> = expected.iter().map(|text| Ok((*text).to_owned())).collect();
        ensure!(answers == expected, "{answers:?}");
        ensure!(calls > 100, "{calls} calls only");
        Ok(())
    }
}

/// How many of each command were sent: installs, switches, uninstalls.
async fn told(scene: &Scene) -> Result<String> {
    let mut told = Vec::new();
    for name in ["installBiz", "switchBiz", "uninstallBiz"] {
        let count = scene.stage.controller.metric("modulet_commands_total", &[("name", name)]).await?;
        told.push(format!("{name} {count}"));
    }
    Ok(told.join(" "))
}

/// The Pod of a version that is Ready; those that are superseded can still be there.
async fn ready_pod(stage: &Stage, version: &str) -> Result<String> {
    eventually(&format!("a Ready Pod of {version}"), SOON, async || {
        let pods = stage.pods_with(&format!("module.koupleless.io/version={version}")).await?;
        pods.iter().find(|pod| is_ready(pod)).and_then(|pod| pod.metadata.name.clone()).context("none")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_base_over_http_is_released_to_updated_undone_and_survives_kills_on_both_sides() -> Result<()> {
    let mut scene = Scene::over_http("real-http", |_| {}).await?;
    let node = scene.stage.node_name("jvm-1");
    let uid = scene.stage.nodes().get(&node).await?.metadata.uid;

    scene.stage.apply(&release(&scene.stage, "biz1", "0.0.1")).await?;
    rolled_out(&scene.stage, "deployment/biz1").await?;
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    assert_eq!(scene.base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on jvm-1"));
    assert_eq!(told(&scene).await?, "installBiz 1 switchBiz 0 uninstallBiz 0");

    // A base with default settings: the update and its undo are switches, and nobody who calls sees a gap.
    let caller = Caller::start(scene.base.http_port(), "/biz1");
    scene.stage.apply(&release(&scene.stage, "biz1", "0.0.2")).await?;
    rolled_out(&scene.stage, "deployment/biz1").await?;
    scene.modules_are(&[("biz1:0.0.2", "activated")]).await?;
    scene.stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&scene.stage, "deployment/biz1").await?;
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    caller.had(&["biz1 0.0.1 on jvm-1", "biz1 0.0.2 on jvm-1", "biz1 0.0.1 on jvm-1"]).await?;
    assert_eq!(told(&scene).await?, "installBiz 3 switchBiz 2 uninstallBiz 2");

    // A JVM that is killed says nothing; its first beat is enough.
    let pod = ready_pod(&scene.stage, "0.0.1").await?;
    scene.base.kill9().await?;
    scene.base.restart().await?;
    let begun = Instant::now();
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}: not by the first beat", begun.elapsed());
    scene.stage.pod_until(&pod, "Ready after a kill", |pod| is_ready(pod) && restarts(pod) == [1]).await?;
    scene.agree().await?;

    // Without its controller the module serves on. What was asked for meanwhile is done when it is back.
    let caller = Caller::start(scene.base.http_port(), "/biz1");
    scene.stage.controller.kill9().await?;
    let gone = Instant::now();
    scene.stage.apply(&release(&scene.stage, "biz2", "0.0.1")).await?;
    eventually("the end of the outage", AWAY * 2, async || gone.elapsed() >= AWAY).await?;
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    scene.stage.controller.restart().await?;
    rolled_out(&scene.stage, "deployment/biz2").await?;
    scene.stage.node_ready(&node, "True").await?;
    scene.stage.pod_until(&pod, "Ready, and not restarted", |pod| is_ready(pod) && restarts(pod) == [1]).await?;
    caller.had(&["biz1 0.0.1 on jvm-1"]).await?;
    scene.modules_are(&[("biz1:0.0.1", "activated"), ("biz2:0.0.1", "activated")]).await?;
    assert_eq!(scene.base.ask("biz2").await?.as_deref(), Some("biz2 0.0.1 on jvm-1"));
    assert_eq!(
        told(&scene).await?,
        "installBiz 1 switchBiz 0 uninstallBiz 0",
        "by the new process, and it knows the other as its own:"
    );

    scene.stage.kubectl(&["delete", "deployment", "biz1", "biz2"]).await?;
    scene.modules_are(&[]).await?;
    assert_eq!(scene.base.ask("biz1").await?, None);
    assert_eq!(scene.stage.nodes().get(&node).await?.metadata.uid, uid, "the same Node all the time");
    scene.stage.ends_quietly().await
}

/// What this arklet answers differs in places from what later ones do: its records of states are empty, for one.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_on_a_real_base_over_http_says_why_and_what_runs_goes_on() -> Result<()> {
    let scene = Scene::over_http("real-http-fails", |options| options.keep_broken = true).await?;
    let stage = &scene.stage;
    scene.create("v1", &[("biz1", "0.0.1")], None, &[]).await?;
    scene.ready("v1").await?;
    scene.create("other-name", &[("biz9", "0.0.1")], Some(("bizslow", "0.0.1")), &["--sleep=10"]).await?;
    scene.three_fail().await?;
    scene.fails("other-name", "ModuleMismatch", &["biz9:0.0.1", "bizslow:0.0.1"]).await?;
    assert!(is_ready(&stage.pods().get("v1").await?));
    assert_eq!(scene.base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on jvm-1"));
    for pod in ["broken", "broken-update", "nowhere", "other-name"] {
        stage.delete_pod(pod).await?;
    }
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    stage.delete_pod("v1").await?;
    scene.modules_are(&[]).await?;
    stage.ends_quietly().await
}

/// More modules that take long than the base has threads for: it is never taken for dead meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_base_at_work_over_http_is_never_taken_for_dead() -> Result<()> {
    let scene = Scene::over_http("real-http-busy", |_| {}).await?;
    let pods = [("fast", "biz1", "0"), ("other", "biz2", "9000"), ("slow", "bizslow", "9000"), ("none", "biz9", "0")];
    for (pod, module, sleep) in pods {
        scene.create(pod, &[(module, "0.0.1")], None, &[&format!("--sleep={sleep}")]).await?;
    }
    let all = [("biz1:0.0.1", "activated"), ("biz2:0.0.1", "activated"), ("bizslow:0.0.1", "activated")];
    for pod in ["fast", "other", "slow"] {
        scene.ready(pod).await?;
    }
    scene.modules_are(&all).await?;
    let none = scene.stage.pods().get("none").await?;
    assert_eq!(container_reason(&none), Some("InstallFailed"), "{:?}", container_message(&none));
    let node = scene.stage.nodes().get(&scene.stage.node_name("jvm-1")).await?;
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.clone().find(|c| c.type_ == "Ready").context("no condition")?;
    let (made, since) = (node.metadata.creation_timestamp.context("no time")?, ready.last_transition_time.clone());
    ensure!(since.is_none_or(|since| since.0.duration_since(made.0).as_secs() < 3), "it was not Ready in between");
    for (pod, ..) in pods {
        scene.stage.delete_pod(pod).await?;
    }
    scene.modules_are(&[]).await?;
    scene.stage.ends_quietly().await
}
