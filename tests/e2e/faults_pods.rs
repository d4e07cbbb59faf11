//! One Pod, whatever its author wrote into it, does not stop the others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use modulet_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::{
    faults_help::{bound, impatient, installed, still_runs, waits},
    stage::{SOON, Stage, container_message, container_reason, is_ready, phase},
    workloads::told,
};

/// A Pod that is deleted with one second of grace is gone by then, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(8);
/// What a controller may ask for; the machine has others to feed.
const MEMORY: u64 = 4 << 30;

fn variables(pod: &mut Value, more: &[Value]) -> Result<()> {
    pod["spec"]["containers"][0]["env"].as_array_mut().context("no variables")?.extend_from_slice(more);
    Ok(())
}

/// Ten variables, each ten references to the one before: 10 GB.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_variables_grow_without_end_says_so_and_the_others_go_on() -> Result<()> {
    let stage = Stage::set_with("fault-bomb", |options| options.memory(MEMORY)).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "before", "1").await?;
    let mut bomb = bound(&stage, "base-1", "bomb", "1");
    let mut all = vec![json!({ "name": "V0", "value": "0123456789" })];
    all.extend((1..10).map(|n| json!({ "name": format!("V{n}"), "value": format!("$(V{})", n - 1).repeat(10) })));
    variables(&mut bomb, &all)?;
    // In the arguments as well, where variables are expanded once more.
    bomb["spec"]["containers"][0]["args"] = json!(["$(V9)"]);
    stage.create_pod(bomb).await?;
    let pod = waits(&stage, "bomb", "CreateContainerConfigError", &[]).await?;
    let message = container_message(&pod).unwrap_or_default();
    assert!(message.chars().any(|c| c.is_ascii_digit()), "it names the bound: {message}");
    installed(&stage, "base-1", "after", "1").await?;
    assert!(is_ready(&stage.pods().get("before").await?));
    still_runs(&stage).await?;
    assert_eq!(told(&base, "bomb"), [] as [String; 0]);
    stage.delete_pod("bomb").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_all_the_time_in_the_world_can_be_deleted_and_the_others_go_on() -> Result<()> {
    let stage = Stage::set("fault-eternal").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let mut eternal = bound(&stage, "base-1", "eternal", "1");
    eternal["spec"]["terminationGracePeriodSeconds"] = json!(i64::MAX);
    eternal["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": i64::MAX } } });
    stage.create_pod(eternal).await?;
    stage.pod_ready("eternal").await?;
    stage.pods().delete("eternal", &DeleteParams::default()).await?;
    installed(&stage, "base-1", "other", "1").await?;
    still_runs(&stage).await?;
    assert_eq!(told(&base, "eternal"), ["install 1"], "it has time");

    stage.pods().delete("eternal", &DeleteParams::default().grace_period(1)).await?;
    let asked = Instant::now();
    stage.pod_gone("eternal").await?;
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(told(&base, "eternal"), ["install 1", "uninstall 1"]);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_grace_of_the_deletion_cuts_the_sleep_before_the_stop() -> Result<()> {
    let stage = Stage::set("fault-grace").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for (pod, first) in [("at-once", None), ("hurried", Some(30))] {
        let mut sleepy = bound(&stage, "base-1", pod, "1");
        sleepy["spec"]["terminationGracePeriodSeconds"] = json!(60);
        sleepy["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 30 } } });
        stage.create_pod(sleepy).await?;
        stage.pod_ready(pod).await?;
        if let Some(first) = first {
            stage.pods().delete(pod, &DeleteParams::default().grace_period(first)).await?;
        }
        let asked = Instant::now();
        stage.pods().delete(pod, &DeleteParams::default().grace_period(1)).await?;
        stage.pod_gone(pod).await?;
        assert!(asked.elapsed() < AT_ONCE, "{pod}: {:?}", asked.elapsed());
        assert_eq!(told(&base, pod), ["install 1", "uninstall 1"]);
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_300_kb_is_refused_and_no_node_stands_still() -> Result<()> {
    let stage = Stage::set_with("fault-version", impatient).await?;
    let one = stage.base(stage.base_options("base-1")).await?;
    let two = stage.base(stage.base_options("base-2")).await?;
    let mut huge = bound(&stage, "base-1", "huge", "1");
    huge["spec"]["containers"][0]["env"] = json!([{ "name": "BIZ_VERSION", "value": "1".repeat(300_000) }]);
    stage.create_pod(huge).await?;
    waits(&stage, "huge", "InvalidModule", &["BIZ_VERSION"]).await?;
    assert_eq!(one.received("installBiz"), 0);
    installed(&stage, "base-1", "other", "1").await?;
    // The Nodes tell the truth as before, of this base and of others.
    for (base, id) in [(&one, "base-1"), (&two, "base-2")] {
        base.hang();
        stage.node_ready(&stage.node_name(id), "Unknown").await?;
        base.resume();
        stage.node_ready(&stage.node_name(id), "True").await?;
    }
    stage.delete_pod("huge").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_beyond_the_capacity_of_a_node_are_rejected_as_by_a_kubelet() -> Result<()> {
    let stage = Stage::set_with("fault-capacity", |options| options.env("MODULET_MAX_PODS", "20")).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for number in 0..30 {
        stage.create_pod(bound(&stage, "base-1", &format!("biz{number}"), "1")).await?;
    }
    eventually("20 Ready and 10 rejected", SOON, async || {
        let pods = stage.pods_with("module-controller.koupleless.io/component=module").await?;
        let ready = pods.iter().filter(|p| is_ready(p)).count();
        let out = |p: &&k8s_openapi::api::core::v1::Pod| {
            phase(p) == "Failed" && p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("OutOfpods")
        };
        let rejected = pods.iter().filter(out).count();
        ensure!((ready, rejected) == (20, 10), "{ready} are Ready, {rejected} rejected");
        Ok(())
    })
    .await?;
    assert_eq!(base.received("installBiz"), 20);
    // A place that becomes free is for who comes next, not for one that was rejected.
    let pods = stage.pods().list(&Default::default()).await?.items;
    let name = pods.iter().find(|p| is_ready(p)).and_then(|p| p.metadata.name.clone()).context("none is Ready")?;
    stage.delete_pod(&name).await?;
    installed(&stage, "base-1", "next", "1").await?;
    assert_eq!(base.received("installBiz"), 21);
    stage.ends_quietly().await
}

/// What makes a Pod ask for something.
type Change = fn(&mut Value, &Value);

/// Each is done, or said: an Event names the field.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_pod_asks_for_is_dropped_in_silence() -> Result<()> {
    let stage = Stage::set("fault-dropped").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let probe = json!({ "exec": { "command": ["true"] } });
    let asks: [(&str, &str, Change); 5] = [
        ("probed", "livenessProbe", |pod, probe| pod["spec"]["containers"][0]["livenessProbe"] = probe.clone()),
        ("readied", "readinessProbe", |pod, probe| pod["spec"]["containers"][0]["readinessProbe"] = probe.clone()),
        ("mounted", "volume", |pod, _| {
            pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
        }),
        ("timed", "activeDeadlineSeconds", |pod, _| pod["spec"]["activeDeadlineSeconds"] = json!(3)),
        ("once", "restartPolicy", |pod, _| pod["spec"]["restartPolicy"] = json!("Never")),
    ];
    for (name, _, ask) in &asks {
        let mut pod = bound(&stage, "base-1", name, "1");
        ask(&mut pod, &probe);
        stage.create_pod(pod).await?;
    }
    let mut missing = Vec::new();
    for (name, field, _) in &asks {
        let said = eventually(name, Duration::from_secs(8), async || {
            let told = stage.told_about(name).await?;
            let pod = stage.pods().get(name).await?;
            let deadline = pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("DeadlineExceeded");
            let refused = container_reason(&pod) == Some("InvalidModule")
                && container_message(&pod).is_some_and(|message| message.contains(field));
            ensure!(deadline || refused || told.iter().any(|text| text.contains(field)), "{told:?}");
            Ok(())
        });
        missing.extend(said.await.err().map(|error| format!("{error:#}")));
    }
    assert_eq!(missing, [] as [String; 0]);
    // Also what comes later, as by `kubectl debug`.
    stage.create_pod(bound(&stage, "base-1", "plain", "1")).await?;
    stage.pod_ready("plain").await?;
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{ "name": "shell", "image": "busybox" }] } });
    let patch = ephemeral.to_string();
    stage.kubectl(&["patch", "pod", "plain", "--subresource=ephemeralcontainers", "-p", &patch]).await?;
    stage.event_with("plain", &["ephemeralContainers (shell)"]).await?;
    stage.ends_quietly().await
}
