//! What a module Pod's owner can ask for besides the module itself, and how the base is spoken to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use modulet_testkit::{
    base::{BaseOptions, BizState},
    broker::Spy,
    wait::eventually,
};
use rumqttc::QoS;
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, container_message, is_ready, module_pod, phase},
    workloads::{deployment, told, told_no_more_than, workload},
};

/// `lifecycle.preStop.sleep` of the test.
const SLEEP: Duration = Duration::from_secs(4);
/// What is promised for a quick deletion, and some time for a busy machine.
const QUICK: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_environment_go_along() -> Result<()> {
    let stage = Stage::set("life-env").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    pod["spec"]["containers"][0]["args"] = json!(["--one", "--two=2"]);
    let env = json!([{ "name": "BIZ_VERSION", "value": "1" }, { "name": "COLOUR", "value": "blue" }]);
    pod["spec"]["containers"][0]["env"] = env;
    stage.create_pod(pod).await?;
    stage.pod_ready("biz1").await?;
    let command = base.wait_for_command("installBiz", SOON).await?.payload;
    assert_eq!(command["args"], json!(["--one", "--two=2"]));
    assert_eq!(command["envs"], json!({ "COLOUR": "blue" }));
    assert_eq!(command["bizUrl"], "https://modules.example.com/biz1-1-ark-biz.jar");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_takes_its_module_along_quickly() -> Result<()> {
    let stage = Stage::set("life-delete").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    let asked = Instant::now();
    stage.delete_pod("biz1").await?;
    assert!(asked.elapsed() < QUICK, "it took {:?}", asked.elapsed());
    assert_eq!(base.modules(), [], "first the module, then the Pod");
    told_no_more_than(&base, "biz1", &["install 1", "uninstall 1"], QUIET).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_several_modules_is_ready_when_all_are() -> Result<()> {
    let stage = Stage::set("life-several").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "both", &[("biz1", "1"), ("biz2", "1")]);
    pod["spec"]["containers"][1]["image"] = json!("https://modules.example.com/biz2-slow-2000-1-ark-biz.jar");
    stage.create_pod(pod).await?;
    base.wait_for_state("biz1", "1", Some(BizState::Activated), SOON).await?;
    let half = |p: &Pod| {
        let ready: Vec<_> =
            p.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.ready).collect();
        ready == [true, false]
    };
    let pod = stage.pod_until("both", "half Ready", half).await?;
    assert!(!is_ready(&pod) && phase(&pod) == "Pending");
    stage.pod_ready("both").await?;
    stage.delete_pod("both").await?;
    assert_eq!(base.modules(), []);
    for module in ["biz1", "biz2"] {
        assert_eq!(told(&base, module), ["install 1", "uninstall 1"]);
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_modules_are_updated_together() -> Result<()> {
    let stage = Stage::set("life-together").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let of = |version: &str| {
        let mut deployment = workload(&stage, "Deployment", "biz1", Some(1), version);
        let other = workload(&stage, "Deployment", "biz2", Some(1), version);
        let all = &mut deployment["spec"]["template"]["spec"]["containers"];
        *all = json!([all[0], other["spec"]["template"]["spec"]["containers"][0]]);
        deployment
    };
    stage.apply(&of("1")).await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;
    stage.apply(&of("2")).await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;
    for module in ["biz1", "biz2"] {
        assert_eq!(base.state_of(module, "2"), Some(BizState::Activated));
        told_no_more_than(&base, module, &["install 1", "install 2", "install 2", "switch 2"], QUIET).await?;
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_leaves_its_services_before_its_module_goes() -> Result<()> {
    let stage = Stage::set("life-sleep").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    pod["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": SLEEP.as_secs() } } });
    stage.create_pod(pod).await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "biz1" },
        "spec": { "selector": { "module.koupleless.io/name": "biz1" }, "ports": [{ "port": 8080 }] },
    });
    stage.apply(&service).await?;
    stage.pod_ready("biz1").await?;
    let ready = async || -> Result<bool> {
        let slices: Api<EndpointSlice> = Api::namespaced(stage.client.clone(), &stage.name);
        let slices = slices.list(&ListParams::default().labels("kubernetes.io/service-name=biz1")).await?;
        let endpoints = slices.items.iter().flat_map(|s| s.endpoints.iter().flatten());
        let mut conditions = endpoints.filter_map(|e| e.conditions.as_ref());
        Ok(conditions.any(|c| c.ready == Some(true)))
    };
    eventually("an endpoint", SOON, async || {
        ensure!(ready().await?);
        Ok(())
    })
    .await?;

    stage.pods().delete("biz1", &DeleteParams::default()).await?;
    let deleted = Instant::now();
    eventually("no endpoint", SOON, async || {
        ensure!(!ready().await?);
        Ok(())
    })
    .await?;
    let left = deleted.elapsed();
    base.wait_for_command("uninstallBiz", SOON).await?;
    let uninstalled = deleted.elapsed();
    assert!(left < uninstalled && uninstalled > SLEEP.mul_f32(0.9), "{left:?}, {uninstalled:?}");
    assert!(uninstalled < SLEEP + QUICK, "{uninstalled:?}");
    stage.pod_gone("biz1").await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_gate_keeps_a_pod_from_being_ready() -> Result<()> {
    let stage = Stage::set("life-gate").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    pod["spec"]["readinessGates"] = json!([{ "conditionType": "example.com/open" }]);
    stage.create_pod(pod).await?;
    let pod = stage.pod_until("biz1", "Running", |p| phase(p) == "Running").await?;
    assert!(!is_ready(&pod));
    let condition = |type_: &str, pod: &Pod| {
        let all = json!(pod.status)["conditions"].clone();
        all.as_array().and_then(|all| all.iter().find(|c| c["type"] == type_).cloned()).unwrap_or_default()
    };
    assert_eq!(condition("ContainersReady", &pod)["status"], "True");
    assert_eq!(condition("Ready", &pod)["reason"], "ReadinessGatesNotReady");
    for (status, ready) in [("True", true), ("False", false), ("True", true)] {
        let gate = json!({ "status": { "conditions": [{ "type": "example.com/open", "status": status }] } });
        stage.pods().patch_status("biz1", &PatchParams::default(), &Patch::Strategic(gate)).await?;
        let pod = stage.pod_until("biz1", "as its gate says", |p| is_ready(p) == ready).await?;
        assert_eq!(condition("example.com/open", &pod)["status"], status, "it is somebody else's");
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn min_ready_seconds_are_waited_for() -> Result<()> {
    let stage = Stage::set("life-min-ready").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let mut object = deployment(&stage, "biz1", 1, "1", &json!({}));
    object["spec"]["minReadySeconds"] = json!(3);
    stage.apply(&object).await?;
    eventually("a Ready Pod", SOON, async || {
        ensure!(stage.pods_with("app=biz1").await?.iter().any(is_ready));
        Ok(())
    })
    .await?;
    let ready = Instant::now();
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=40s"]).await?;
    // Kubernetes counts from the second in which the Pod became Ready.
    assert!(ready.elapsed() > Duration::from_millis(1500), "{:?}", ready.elapsed());
    stage.ends_quietly().await
}

/// QoS 1, and nothing that a base which comes later would take for a command.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_sent_at_least_once_and_never_retained() -> Result<()> {
    let stage = Stage::set("life-qos").await?;
    let commands = |spy: &Spy| {
        let ours = |topic: &str| {
            ["installBiz", "uninstallBiz", "queryAllBiz", "health", "base/baseline"]
                .iter()
                .any(|word| topic == format!("koupleless_life-qos/base-1/{word}"))
        };
        spy.messages().into_iter().filter(|m| ours(&m.topic)).collect::<Vec<_>>()
    };
    let spy = Spy::start(stage.broker.address(), "#").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    stage.delete_pod("biz1").await?;
    let seen = commands(&spy);
    for word in ["installBiz", "uninstallBiz", "queryAllBiz", "health", "base/baseline"] {
        assert!(seen.iter().any(|m| m.topic.ends_with(word)), "no {word}");
    }
    assert!(seen.iter().all(|m| m.qos == QoS::AtLeastOnce), "{seen:?}");
    let late = Spy::start(stage.broker.address(), "#").await?;
    // What is retained comes before anything that is said after the subscription.
    late.publish("end", "of what is retained").await?;
    late.wait_for("the end", SOON, |all| all.iter().any(|m| m.topic == "end").then_some(())).await?;
    assert!(late.messages().iter().all(|m| !m.retained), "{:?}", late.messages());
    stage.ends_quietly().await
}

/// Also where two versions of one module are asked for at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn at_most_four_commands_are_in_flight_and_one_for_each_module() -> Result<()> {
    const MODULES: usize = 12;
    let stage = Stage::set("life-flight").await?;
    let options = BaseOptions { latency: Duration::from_millis(200), ..stage.base_options("base-1") };
    let base = stage.base(options).await?;
    let spy = Spy::start(stage.broker.address(), "koupleless_life-flight/#").await?;
    for number in 0..MODULES {
        for version in ["1", "2"].into_iter().take(1 + usize::from(number < 3)) {
            let module = format!("biz{number}");
            stage.create_pod(module_pod(&stage.name, &format!("{module}-{version}"), &[(&module, version)])).await?;
        }
    }
    eventually("all modules", SOON, async || {
        let active = base.modules().iter().filter(|m| m.2 == BizState::Activated).count();
        ensure!(active == MODULES, "{active}");
        Ok(())
    })
    .await?;
    for number in 0..MODULES {
        for version in ["1", "2"].into_iter().take(1 + usize::from(number < 3)) {
            stage.pods().delete(&format!("biz{number}-{version}"), &DeleteParams::default()).await?;
        }
    }
    eventually("an empty base", SOON, async || {
        ensure!(base.modules().is_empty(), "{:?}", base.modules());
        Ok(())
    })
    .await?;

    let (mut open, mut most) = (Vec::<Value>::new(), 0);
    for message in spy.messages() {
        let payload = message.json();
        match message.topic.rsplit('/').next() {
            Some("installBiz" | "uninstallBiz") => {
                let name = payload["bizName"].clone();
                assert!(!open.contains(&name), "two commands for {name} at once");
                open.push(name);
                most = most.max(open.len());
            }
            Some("bizOperation") => {
                let name = &payload["data"]["bizName"];
                let at = open.iter().position(|n| n == name).with_context(|| format!("not asked for: {payload}"))?;
                open.remove(at);
            }
            _ => {}
        }
    }
    assert_eq!(most, 4, "the base is kept busy, and one of its five workers is free");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ready_says_why_in_its_conditions() -> Result<()> {
    let stage = Stage::set("life-why").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    pod["spec"]["containers"][0]["image"] = json!("https://nowhere.invalid/biz1-1-ark-biz.jar");
    stage.create_pod(pod).await?;
    let failed = |p: &Pod| container_message(p).is_some_and(|m| m.contains("UnknownHostException: nowhere.invalid"));
    let pod = stage.pod_until("biz1", "failed", failed).await?;
    let conditions = json!(pod.status)["conditions"].to_string();
    assert!(conditions.contains("ContainersNotReady") && conditions.contains("nowhere.invalid"), "{conditions}");
    stage.ends_quietly().await
}
