//! Commands that take long, fail, or would say what is not so.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase, UrlBehaviour},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::{Log, bound, impatient, installed, lasts, told_becomes, waits},
    stage::{SOON, Stage, container_message, container_reason, is_ready, phase, url},
    workloads::{alone, deployment, lock, rolled_out, told, told_no_more_than},
};

/// Longer than any answer is waited for.
const DOWNLOAD: Duration = Duration::from_secs(100);
const QUIET: Duration = Duration::from_secs(3);

fn restarts(pod: &Pod) -> Value {
    json!(pod.status)["containerStatuses"][0]["restartCount"].clone()
}

/// The base lists nothing meanwhile, and answers "conflict" to whoever asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_100_s_is_no_failure() -> Result<()> {
    let stage = Stage::set("fault-download").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    base.set_url_behaviour("biz1-1-", UrlBehaviour::FetchesSlowly(DOWNLOAD));
    let trouble = Log::of_pods(&stage, |pod| {
        let reason = container_reason(pod).unwrap_or_default();
        (!is_ready(pod) && !matches!(reason, "" | "Installing" | "WaitingForBase"))
            .then(|| format!("{reason} {:?}", container_message(pod)))
    });
    stage.create_pod(bound(&stage, "base-1", "biz1", "1")).await?;
    waits(&stage, "biz1", "Installing", &[]).await?;
    // Others need not wait.
    installed(&stage, "base-1", "other", "1").await?;
    lasts(Duration::from_secs(60)).await;
    let pod = stage.pods().get("biz1").await?;
    let message = container_message(&pod).unwrap_or_default();
    assert!(message.contains("for more than"), "it says for how long: {message:?}");
    let pod = eventually("Ready", DOWNLOAD, async || {
        let pod = stage.pods().get("biz1").await?;
        if is_ready(&pod) { Ok(pod) } else { anyhow::bail!("{}", json!(pod.status)) }
    })
    .await?;
    assert_eq!(restarts(&pod), 0);
    assert_eq!(trouble.found(), [] as [String; 0]);
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated));
    let events = stage.told_about("biz1").await?;
    assert!(events.iter().all(|text| !text.starts_with("Warning")), "{events:?}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_of_a_version_does_not_pay_for_the_restarts_of_another() -> Result<()> {
    let stage = Stage::set_with("fault-first-failure", impatient).await?;
    let options = BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") };
    let base = stage.base(options).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 1, "1", &limits)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    for restart in 1..=5 {
        base.restart().await?;
        eventually(&format!("restart {restart} counted"), SOON, async || {
            let pods = stage.pods_with("app=biz1").await?;
            ensure!(pods.iter().any(|pod| is_ready(pod) && restarts(pod) == restart));
            Ok(())
        })
        .await?;
    }
    let mut update = deployment(&stage, "biz1", 1, "2", &limits);
    let image = "https://modules.example.com/biz1-broken-2-ark-biz.jar";
    update["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    stage.apply(&update).await?;
    let tries = || -> Vec<Instant> {
        let install =
            |c: &&modulet_testkit::base::ReceivedCommand| c.command == "installBiz" && c.payload["bizVersion"] == "2";
        base.commands().iter().filter(install).map(|c| c.at).collect()
    };
    eventually("a second try", SOON, async || tries().len() >= 2).await?;
    let pause = tries()[1] - tries()[0];
    assert!(pause > Duration::from_secs(9) && pause < Duration::from_secs(15), "{pause:?}");
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated));
    stage.kubectl(&["delete", "deployment", "biz1"]).await?;
    eventually("an empty base", SOON, async || base.modules().is_empty()).await?;
    stage.ends_quietly().await
}

/// As a kubelet restarts a container; and the status never names what does not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_changes_its_url_and_not_its_version_gets_the_other_jar() -> Result<()> {
    let stage = Stage::set_with("fault-url", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    let fixed = "https://modules.example.com/fixed/biz1-1-ark-biz.jar";
    let runs = || {
        let last = base.commands().into_iter().rfind(|c| c.command == "installBiz");
        last.and_then(|c| c.payload["bizUrl"].as_str().map(str::to_owned)).unwrap_or_default()
    };
    let lies = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    stage.kubectl(&["set", "image", "pod/biz1", &format!("biz1={fixed}")]).await?;
    let outcome = eventually("done or said", SOON, async || {
        let pod = stage.pods().get("biz1").await?;
        let status = json!(pod.status)["containerStatuses"][0].clone();
        let claims = [&status["image"], &status["imageID"]]
            .iter()
            .any(|field| field.as_str().is_some_and(|f| f.contains("/fixed/")));
        if claims && runs() != fixed && is_ready(&pod) {
            lock(&lies).push(status.to_string());
        }
        let done =
            runs() == fixed && is_ready(&pod) && status["imageID"].as_str().is_some_and(|id| id.contains("/fixed/"));
        ensure!(done, "it runs {}, and says {status}", runs());
        Ok(())
    })
    .await;
    assert_eq!(*lock(&lies), [] as [String; 0], "it claims what does not run");
    outcome?;
    assert_eq!(told(&base, "biz1"), ["install 1", "uninstall 1", "install 1"]);
    assert_eq!(restarts(&stage.pods().get("biz1").await?), 1);
    // Another Pod that asks for another jar of that version waits, and says for whom.
    let mut other = bound(&stage, "base-1", "biz1", "1");
    other["metadata"]["name"] = json!("other");
    stage.create_pod(other).await?;
    waits(&stage, "other", "VersionInUse", &["for Pod", "another image"]).await?;
    stage.delete_pod("biz1").await?;
    stage.pod_ready("other").await?;
    assert_eq!(runs(), url("biz1", "1"));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstall_that_fails_says_why_at_its_pod() -> Result<()> {
    let stage = Stage::set_with("fault-stuck", impatient).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    base.fail_uninstalls(Some("java.lang.IllegalStateException: a thread will not end"));
    stage.pods().delete("biz1", &DeleteParams::default()).await?;
    stage.event_with("biz1", &["Warning", "a thread will not end"]).await?;
    let told = |p: &Pod| container_message(p).is_some_and(|message| message.contains("a thread will not end"));
    stage.pod_until("biz1", "says why it is still there", told).await?;
    // With a back-off, and not said again for the same cause.
    base.wait_for_commands("uninstallBiz", 2, SOON).await?;
    lasts(QUIET).await;
    assert!(base.received("uninstallBiz") <= 3, "{:?}", crate::workloads::told(&base, "biz1"));
    let events = stage.told_about("biz1").await?;
    assert_eq!(events.iter().filter(|text| text.contains("a thread will not end")).count(), 1, "{events:?}");
    base.fail_uninstalls(None);
    stage.pod_gone("biz1").await?;
    assert_eq!(base.modules(), []);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_release_has_no_warning() -> Result<()> {
    let stage = Stage::set("fault-warnings").await?;
    let mut bases = Vec::new();
    for (id, activation) in [("base-1", Activation::ActivateNew), ("base-2", Activation::Default)] {
        bases.push(stage.base(BaseOptions { activation, ..stage.base_options(id) }).await?);
    }
    for version in ["1", "2", "3"] {
        stage.apply(&deployment(&stage, "biz1", 2, version, &json!({ "maxSurge": 1, "maxUnavailable": 0 }))).await?;
        rolled_out(&stage, "deployment/biz1").await?;
        alone(&bases, "biz1", version, SOON).await?;
    }
    stage.kubectl(&["delete", "deployment", "biz1"]).await?;
    eventually("empty bases", SOON, async || bases.iter().all(|base| base.modules().is_empty())).await?;
    stage.ends_quietly().await?;
    let table = stage.kubectl_table(&["get", "events", "-o", "custom-columns=TYPE:.type,REASON:.reason,BY:.source.component,BY2:.reportingComponent,OF:.involvedObject.name"]).await?;
    let ours: Vec<_> = table
        .iter()
        .filter(|row| row["TYPE"] == "Warning" && row["BY"] != "default-scheduler" && row["BY2"] != "default-scheduler")
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert!(table.iter().any(|row| row["REASON"] == "BizDeactivate" && row["TYPE"] == "Normal"), "{table:?}");
    Ok(())
}

/// Two versions of a web module have one context path, and a base can load only one of them.
async fn web_stage(name: &str) -> Result<(Stage, SimulatedBase)> {
    let stage = Stage::set_with(name, impatient).await?;
    let options = BaseOptions { web: true, activation: Activation::ActivateNew, ..stage.base_options("base-1") };
    let base = stage.base(options).await?;
    Ok((stage, base))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_web_module_with_surge_says_the_ways_out() -> Result<()> {
    let (stage, base) = web_stage("fault-web").await?;
    let surge = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 1, "1", &surge)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    stage.apply(&deployment(&stage, "biz1", 1, "2", &surge)).await?;
    let name = eventually("the new Pod", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/version=2").await?;
        pods.first().and_then(|pod| pod.metadata.name.clone()).context("none")
    })
    .await?;
    stage.event_with(&name, &["Warning", "Child name [biz1] is not unique", "maxSurge"]).await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated), "the old version serves on");

    // One way out: the old Pod goes first.
    let room = json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } } } });
    stage.kubectl(&["patch", "deployment", "biz1", "-p", &room.to_string()]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(std::slice::from_ref(&base), "biz1", "2", SOON).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_module_with_the_old_pod_first_is_updated_and_undone_without_a_failure() -> Result<()> {
    let (stage, base) = web_stage("fault-web-first").await?;
    let first = json!({ "maxSurge": 0, "maxUnavailable": 1 });
    for version in ["1", "2"] {
        stage.apply(&deployment(&stage, "biz1", 1, version, &first)).await?;
        rolled_out(&stage, "deployment/biz1").await?;
        alone(std::slice::from_ref(&base), "biz1", version, SOON).await?;
    }
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(std::slice::from_ref(&base), "biz1", "1", SOON).await?;
    let straight = ["install 1", "uninstall 1", "install 2", "uninstall 2", "install 1"];
    told_no_more_than(&base, "biz1", &straight, QUIET).await?;
    stage.ends_quietly().await
}

/// A Deployment with surge, whose Pods have the old version make room.
fn replacing(stage: &Stage, version: &str, broken: bool) -> Value {
    let mut release = deployment(stage, "biz1", 1, version, &json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    let template = &mut release["spec"]["template"];
    template["metadata"]["annotations"] = json!({ "modulet.koupleless.io/update": "replace" });
    let container = &mut template["spec"]["containers"][0];
    container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 2 } } });
    if broken {
        container["image"] = json!(format!("https://modules.example.com/biz1-broken-{version}-ark-biz.jar"));
    }
    release
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_module_that_asks_for_room_is_updated_with_surge_and_put_back_if_it_does_not_start() -> Result<()> {
    let (stage, base) = web_stage("fault-web-replace").await?;
    stage.apply(&replacing(&stage, "1", false)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    stage.apply(&replacing(&stage, "2", false)).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(std::slice::from_ref(&base), "biz1", "2", SOON).await?;
    told_becomes(&base, "biz1", &["install 1", "install 2", "uninstall 1", "install 2"]).await?;
    let warnings = stage.kubectl(&["get", "events", "--field-selector", "type=Warning"]).await?;
    assert!(!warnings.contains("WebContextInUse") && !warnings.contains("InstallFailed"), "{warnings}");
    // The old Pod left its Services before its module went.
    let events = stage.kubectl(&["get", "events", "-o", "custom-columns=R:.reason,M:.note"]).await?;
    assert!(events.contains("Replacing"), "{events}");

    stage.apply(&replacing(&stage, "3", true)).await?;
    let name = eventually("the new Pod", SOON, async || {
        let pods = stage.pods_with("module.koupleless.io/version=3").await?;
        pods.first().and_then(|pod| pod.metadata.name.clone()).context("none")
    })
    .await?;
    stage.event_with(&name, &["Warning", "broken on purpose"]).await?;
    let serves = ["install 3", "uninstall 2", "install 3", "install 2"];
    eventually("the old version again", SOON, async || {
        let told = told(&base, "biz1");
        ensure!(told.ends_with(&serves.map(str::to_owned)) || told.ends_with(&["install 3".to_owned()]), "{told:?}");
        ensure!(base.state_of("biz1", "2") == Some(BizState::Activated));
        Ok(())
    })
    .await?;
    stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    rolled_out(&stage, "deployment/biz1").await?;
    alone(std::slice::from_ref(&base), "biz1", "2", SOON).await?;
    stage.ends_quietly().await
}

/// What the Pod wants is said before it is done: the module of the old Pod is replaced, and put back if the new one fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_pod_of_a_failed_update_goes_on_serving() -> Result<()> {
    let stage = Stage::set_with("fault-serves-on", impatient).await?;
    let base = stage.base(BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") }).await?;
    installed(&stage, "base-1", "old", "1").await?;
    let mut new = bound(&stage, "base-1", "old", "2");
    new["metadata"]["name"] = json!("new");
    new["spec"]["containers"][0]["image"] = json!("https://modules.example.com/old-broken-2-ark-biz.jar");
    stage.create_pod(new).await?;
    waits(&stage, "new", "InstallFailed", &["broken on purpose"]).await?;
    assert!(is_ready(&stage.pods().get("old").await?) && phase(&stage.pods().get("old").await?) == "Running");
    stage.delete_pod("new").await?;
    told_becomes(&base, "old", &["install 1", "install 2"]).await?;
    stage.ends_quietly().await
}
