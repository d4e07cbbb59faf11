//! What goes wrong with modules: what people are told, how often it is tried again, what is left alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::DeleteParams;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase, UrlBehaviour},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, container_message, container_reason, is_ready, module_pod},
    workloads::{told, told_no_more_than},
};

/// A base is asked for its list every second: what is not told within this time is not told.
const QUIET: Duration = Duration::from_secs(4);
/// How much later than promised a try may be on a busy machine.
const LATE: Duration = Duration::from_secs(5);

async fn stage(name: &str) -> Result<Stage> {
    Stage::set_with(name, |options| options.env("MODULET_LIST_EVERY", "1")).await
}

async fn base(stage: &Stage) -> Result<SimulatedBase> {
    stage.base(stage.base_options("base-1")).await
}

fn with_image(mut pod: Value, image: &str) -> Value {
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

fn container(pod: &Pod) -> Result<&ContainerStatus> {
    pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).next().context("no container status")
}

fn installs(base: &SimulatedBase) -> Vec<Instant> {
    base.commands().iter().filter(|c| c.command == "installBiz").map(|c| c.at).collect()
}

async fn says(stage: &Stage, pod: &str, reason: &str, words: &[&str]) -> Result<()> {
    let told = stage.pod_until(pod, reason, |p| container_reason(p) == Some(reason)).await?;
    let message = container_message(&told).unwrap_or_default();
    assert!(words.iter().all(|word| message.contains(word)), "{pod}: {words:?} are not in {message}");
    eventually(&format!("the Event {reason} of {pod}"), SOON, async || {
        let events = stage.events(pod).await?;
        ensure!(events.iter().any(|e| e == reason), "{events:?}");
        Ok(())
    })
    .await
}

/// And a changed Pod does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn tries_are_spaced_out_as_a_kubelets_and_a_changed_pod_is_tried_at_once() -> Result<()> {
    let stage = stage("fail-backoff").await?;
    let base = base(&stage).await?;
    let image = "https://modules.example.com/biz1-broken-1-ark-biz.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    says(&stage, "biz1", "InstallFailed", &["IllegalStateException: broken on purpose"]).await?;
    base.wait_for_commands("installBiz", 3, SOON).await?;
    let at = installs(&base);
    for (pause, promised) in at.windows(2).zip([10, 20]) {
        let (pause, promised) = (pause[1] - pause[0], Duration::from_secs(promised));
        assert!(pause >= promised && pause < promised + LATE, "{pause:?} instead of {promised:?}");
    }
    let pod =
        stage.pod_until("biz1", "tried twice again", |p| container(p).is_ok_and(|c| c.restart_count == 2)).await?;
    let last = container(&pod)?.last_state.as_ref().and_then(|s| s.terminated.as_ref()).context("no last state")?;
    assert_eq!(last.reason.as_deref(), Some("InstallFailed"));
    let message = last.message.as_deref().unwrap_or_default();
    assert!(message.contains("broken on purpose") && !message.contains("InvocationTargetException"), "{message}");
    assert!(message.len() < 1100, "{} characters", message.len());

    let changed = Instant::now();
    stage.kubectl(&["set", "image", "pod/biz1", "biz1=https://modules.example.com/biz1-1-ark-biz.jar"]).await?;
    let pod = stage.pod_ready("biz1").await?;
    assert!(changed.elapsed() < LATE, "it took {:?}", changed.elapsed());
    assert_eq!(container(&pod)?.restart_count, 3);
    assert_eq!(installs(&base).len(), 4);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_controller_is_no_new_start_of_the_back_off() -> Result<()> {
    let mut stage = stage("fail-backoff-restart").await?;
    let base = base(&stage).await?;
    let image = "https://modules.example.com/missing.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    base.wait_for_commands("installBiz", 2, SOON).await?;
    stage.pod_until("biz1", "tried again", |p| container(p).is_ok_and(|c| c.restart_count == 1)).await?;
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    // What was when is forgotten, so it tries at once; how often is not.
    base.wait_for_commands("installBiz", 3, SOON).await?;
    let more = eventually("a hasty try", Duration::from_secs(12), async || installs(&base).len() > 3).await;
    assert!(more.is_err(), "the third try is followed by a pause of 40 s: {:?}", installs(&base));
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_removed_by_hand_is_installed_again() -> Result<()> {
    let stage = stage("fail-removed").await?;
    let base = base(&stage).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    assert!(base.remove_by_hand("biz1", "1"));
    base.wait_for_commands("installBiz", 2, SOON).await?;
    let again = |p: &Pod| is_ready(p) && container(p).is_ok_and(|c| c.restart_count == 1);
    let pod = stage.pod_until("biz1", "Ready again", again).await?;
    let last = container(&pod)?.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    assert_eq!(last.and_then(|t| t.reason.as_deref()), Some("ModuleGone"));
    told_no_more_than(&base, "biz1", &["install 1", "install 1"], QUIET).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jar_that_is_another_module_is_named_and_removed() -> Result<()> {
    let stage = stage("fail-mismatch").await?;
    let base = base(&stage).await?;
    let image = "https://modules.example.com/other-9-ark-biz.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    says(&stage, "biz1", "ModuleMismatch", &["biz1:1", "other:9"]).await?;
    eventually("the stray module removed", SOON, async || base.modules().is_empty()).await?;
    assert!(!is_ready(&stage.pods().get("biz1").await?));
    assert_eq!(told(&base, "other"), ["uninstall 9"]);
    assert_eq!(told(&base, "biz1"), ["install 1"]);
    stage.delete_pod("biz1").await?;
    told_no_more_than(&base, "biz1", &["install 1"], QUIET).await?;
    stage.ends_quietly().await
}

/// The jar's own module is there already, by somebody else's hand: it is not ours to remove.
#[tokio::test(flavor = "multi_thread")]
async fn a_jar_whose_module_somebody_else_put_there_is_named_and_left_alone() -> Result<()> {
    let stage = stage("fail-mismatch-foreign").await?;
    let base = base(&stage).await?;
    base.install_by_hand("other", "9");
    let image = "https://modules.example.com/other-9-ark-biz.jar";
    stage.create_pod(with_image(module_pod(&stage.name, "biz1", &[("biz1", "1")]), image)).await?;
    says(&stage, "biz1", "ModuleMismatch", &["biz1:1"]).await?;
    stage.delete_pod("biz1").await?;
    told_no_more_than(&base, "other", &[], QUIET).await?;
    assert_eq!(base.state_of("other", "9"), Some(BizState::Activated));
    stage.ends_quietly().await
}

/// A DaemonSet that tolerates everything lands on bases too.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_no_modules_are_never_sent_to_a_base() -> Result<()> {
    let stage = stage("fail-foreign").await?;
    let base = base(&stage).await?;
    let agent = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "agent" },
        "spec": { "selector": { "matchLabels": { "app": "agent" } }, "template": {
            "metadata": { "labels": { "app": "agent" } },
            "spec": {
                "containers": [{ "name": "agent", "image": "example.com/agent:1" }],
                "tolerations": [{ "operator": "Exists" }],
                "nodeSelector": { "base.koupleless.io/name": stage.name },
            },
        } },
    });
    stage.apply(&agent).await?;
    let pod = eventually("its Pod", SOON, async || {
        let mut pods = stage.pods_with("app=agent").await?;
        pods.pop().and_then(|p| p.metadata.name).context("none")
    })
    .await?;
    says(&stage, &pod, "NotAModule", &["virtual-kubelet.koupleless.io/component"]).await?;
    let sent = |base: &SimulatedBase| base.received("installBiz") + base.received("uninstallBiz");
    let told = eventually("a command", QUIET, async || sent(&base) > 0).await;
    assert!(told.is_err(), "{:?}", base.commands());
    stage.kubectl(&["delete", "daemonset", "agent", "--cascade=foreground", "--timeout=20s"]).await?;
    stage.pod_gone(&pod).await?;
    assert_eq!(sent(&base), 0);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_be_modules_say_why_and_can_be_mended() -> Result<()> {
    let stage = stage("fail-invalid").await?;
    let base = base(&stage).await?;
    let mut nameless = module_pod(&stage.name, "no-version", &[("biz1", "1")]);
    nameless["spec"]["containers"][0]["env"] = json!([]);
    nameless["metadata"]["labels"]["module.koupleless.io/version"] = json!("");
    stage.create_pod(nameless).await?;
    let image = "registry.example.com/biz2:1";
    stage.create_pod(with_image(module_pod(&stage.name, "no-url", &[("biz2", "1")]), image)).await?;
    says(&stage, "no-version", "InvalidModule", &["BIZ_VERSION", "module.koupleless.io/version"]).await?;
    says(&stage, "no-url", "InvalidModule", &[image, "URL"]).await?;
    assert_eq!(base.received("installBiz"), 0);

    stage.kubectl(&["label", "pod", "no-version", "module.koupleless.io/version=1", "--overwrite"]).await?;
    stage.kubectl(&["set", "image", "pod/no-url", "biz2=https://modules.example.com/biz2-1-ark-biz.jar"]).await?;
    stage.pod_ready("no-version").await?;
    stage.pod_ready("no-url").await?;

    stage.create_pod(with_image(module_pod(&stage.name, "no-url-either", &[("biz3", "1")]), image)).await?;
    says(&stage, "no-url-either", "InvalidModule", &[image]).await?;
    for pod in ["no-version", "no-url", "no-url-either"] {
        stage.delete_pod(pod).await?;
    }
    assert_eq!(base.modules(), []);
    assert_eq!(told(&base, "biz3"), [] as [String; 0]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn force_deleted_pods_leave_nothing_behind() -> Result<()> {
    let mut stage = stage("fail-force").await?;
    let base = base(&stage).await?;
    base.install_by_hand("by-hand", "1");
    for name in ["biz1", "biz2", "stays"] {
        stage.create_pod(module_pod(&stage.name, name, &[(name, "1")])).await?;
        stage.pod_ready(name).await?;
    }
    let force = DeleteParams::default().grace_period(0);
    stage.pods().delete("biz1", &force).await?;
    base.wait_for_state("biz1", "1", None, SOON).await?;

    stage.recorded(&base.identity(), "biz2", SOON).await?;
    stage.controller.kill9().await?;
    stage.pods().delete("biz2", &force).await?;
    stage.pod_gone("biz2").await?;
    assert_eq!(base.state_of("biz2", "1"), Some(BizState::Activated), "nobody is there to uninstall it");
    stage.controller.restart().await?;
    base.wait_for_state("biz2", "1", None, SOON).await?;
    for name in ["biz1", "biz2"] {
        told_no_more_than(&base, name, &["install 1", "uninstall 1"], Duration::ZERO).await?;
    }
    told_no_more_than(&base, "stays", &["install 1"], QUIET).await?;
    assert_eq!(base.state_of("by-hand", "1"), Some(BizState::Activated));
    assert!(is_ready(&stage.pods().get("stays").await?));
    stage.ends_quietly().await
}

/// Also where a Pod asks for another version of the same module.
#[tokio::test(flavor = "multi_thread")]
async fn modules_that_somebody_else_put_there_are_never_touched() -> Result<()> {
    let mut stage = stage("fail-by-hand").await?;
    let quiet = base(&stage).await?;
    let options = BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-2") };
    let switching = stage.base(options).await?;
    for base in [&quiet, &switching] {
        base.install_by_hand("biz1", "0");
    }
    for (pod, on) in [("one", "base-1"), ("two", "base-2")] {
        let mut object = module_pod(&stage.name, pod, &[("biz1", "1")]);
        object["spec"]["nodeName"] = json!(stage.node_name(on));
        stage.create_pod(object).await?;
    }
    stage.pod_ready("two").await?;
    says(&stage, "one", "ForeignModule", &["biz1:0"]).await?;
    stage.recorded(&quiet.identity(), "biz1", SOON).await?;
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    stage.delete_pod("one").await?;
    stage.delete_pod("two").await?;
    for base in [&quiet, &switching] {
        told_no_more_than(base, "biz1", &["install 1", "uninstall 1"], QUIET / 2).await?;
        assert_eq!(base.modules().len(), 1, "{:?}", base.modules());
        assert!(base.state_of("biz1", "0").is_some());
    }
    stage.ends_quietly().await
}

/// What a base keeps of a failed start is removed before the next try.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_keeps_broken_modules_is_cleaned_up_and_tried_again() -> Result<()> {
    let stage = stage("fail-kept").await?;
    let base = stage.base(BaseOptions { keep_broken: true, ..stage.base_options("base-1") }).await?;
    base.set_url_behaviour("biz1-1-", UrlBehaviour::Broken { cause: "no database".into() });
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    says(&stage, "biz1", "InstallFailed", &["no database"]).await?;
    base.set_url_behaviour("biz1-1-", UrlBehaviour::Ok);
    stage.pod_ready("biz1").await?;
    told_no_more_than(&base, "biz1", &["install 1", "uninstall 1", "install 1"], QUIET).await?;
    stage.ends_quietly().await
}
