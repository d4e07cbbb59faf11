//! Traffic: a Service's endpoints follow Ready, and an update is not seen by those who call.
//!
//! All of it with `examples/service.yaml` as it stands, but for the names of bases, their number and
//! ports, and where jars are.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url},
    wait::eventually,
};
use serde_json::json;

use crate::{
    endpoints::{Call, Client, Endpoints, Unserved},
    real_base::{JVMS, java_base_options},
    stage::{SOON, Stage},
    workloads::{serves, told, workload},
};

const FILE: &str = "service.yaml";
/// Clients that call at the same time.
const CLIENTS: usize = 2;
/// Calls that each client makes at least before and after an update.
const CALLS: usize = 200;

/// A stage with bases called base-1, base-2 ..., and what the Service's endpoints are.
struct Scene {
    stage: Stage,
    /// By address.
    bases: Arc<BTreeMap<String, SimulatedBase>>,
    endpoints: Arc<Endpoints>,
}

impl Scene {
    /// With the example's version 0.0.1 on all bases.
    async fn set(name: &str, count: usize, activation: Activation) -> Result<Self> {
        let stage = Stage::set_with(name, |options| options.env("MODULET_UNREACHABLE_AFTER", "5")).await?;
        let mut bases = BTreeMap::new();
        for number in 1..=count {
            let ip = format!("10.20.0.{number}");
            let options = BaseOptions { ip: ip.clone(), activation, ..stage.base_options(&format!("base-{number}")) };
            bases.insert(ip, stage.base(options).await?);
        }
        let endpoints = Endpoints::watch(&stage, "biz1").await?;
        let scene = Self { stage, bases: Arc::new(bases), endpoints };
        scene.release("0.0.1").await?;
        let ready = scene.endpoints.are(count).await?;
        ensure!(ready.iter().all(|endpoint| endpoint.ends_with(":8080")), "{ready:?}");
        Ok(scene)
    }

    async fn release(&self, version: &str) -> Result<()> {
        self.release_with(version, "maxSurge: 1").await
    }

    async fn release_with(&self, version: &str, surge: &str) -> Result<()> {
        let here = format!("values: [{}]", self.stage.name);
        let replicas = format!("replicas: {}", self.bases.len());
        let changes =
            [("values: [base]", here.as_str()), ("replicas: 3", &replicas), ("maxSurge: 1", surge), ("0.0.1", version)];
        self.stage.apply_example(FILE, &changes).await?;
        self.rolled_out(version).await
    }

    /// Waits for the rollout, and until other versions have left the bases.
    async fn rolled_out(&self, version: &str) -> Result<()> {
        self.stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=80s"]).await?;
        eventually(&format!("only {version}"), SOON, async || {
            for base in self.bases.values() {
                let all = base.modules();
                ensure!(all.len() == 1 && all[0].1 == version, "{}: {all:?}", base.identity());
            }
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn during_an_update_and_its_undoing_one_base_at_a_time_leaves_its_service_for_a_moment() -> Result<()> {
    let scene = Scene::set("services", 3, Activation::ActivateNew).await?;
    let unserved = Unserved::watch(&scene.endpoints, &scene.bases, "biz1");
    let mark = scene.endpoints.mark();
    scene.release("0.0.2").await?;
    scene.stage.kubectl(&["rollout", "undo", "deployment/biz1"]).await?;
    scene.rolled_out("0.0.1").await?;
    scene.endpoints.are(3).await?;
    assert!(scene.endpoints.fewest(mark) >= 2, "{} ready endpoints", scene.endpoints.fewest(mark));
    eprintln!("one of three was away for {:?} at the longest", scene.endpoints.longest_with_less_than(3, mark));
    assert_eq!(unserved.found(), [] as [String; 0], "ready endpoints of bases where no version was active");
    for base in scene.bases.values() {
        let way = ["install 0.0.1", "install 0.0.2", "uninstall 0.0.1", "install 0.0.1", "uninstall 0.0.2"];
        assert_eq!(told(base, "biz1"), way, "{}", base.identity());
    }
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_base_does_not_leave_its_service_during_an_update() -> Result<()> {
    let scene = Scene::set("services-one", 1, Activation::ActivateNew).await?;
    let unserved = Unserved::watch(&scene.endpoints, &scene.bases, "biz1");
    let mark = scene.endpoints.mark();
    for version in ["0.0.2", "0.0.3", "0.0.4"] {
        scene.release(version).await?;
        assert_eq!(scene.endpoints.fewest(mark), 1, "at every moment of the update to {version}");
    }
    assert_eq!(unserved.found(), [] as [String; 0], "ready endpoints of bases where no version was active");
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_all_bases_at_once_leaves_the_service_an_endpoint() -> Result<()> {
    let scene = Scene::set("services-all", 3, Activation::ActivateNew).await?;
    let unserved = Unserved::watch(&scene.endpoints, &scene.bases, "biz1");
    let mark = scene.endpoints.mark();
    for version in ["0.0.2", "0.0.3", "0.0.4"] {
        scene.release_with(version, "maxSurge: 100%").await?;
        assert!(scene.endpoints.fewest(mark) >= 1, "no endpoint during the update to {version}");
    }
    assert_eq!(unserved.found(), [] as [String; 0], "ready endpoints of bases where no version was active");
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_leaves_its_service_before_its_module_does() -> Result<()> {
    let scene = Scene::set("services-scale", 2, Activation::Default).await?;
    let unserved = Unserved::watch(&scene.endpoints, &scene.bases, "biz1");
    scene.stage.kubectl(&["scale", "deployment/biz1", "--replicas=1"]).await?;
    scene.endpoints.are(1).await?;
    let left = Instant::now();
    let serving = || scene.bases.values().filter(|base| serves(base, "biz1")).count();
    assert_eq!(serving(), 2, "the module of the Pod that left stays for the example's preStop.sleep");
    eventually("the uninstall", SOON, async || serving() == 1).await?;
    assert!(left.elapsed() > Duration::from_secs(3), "{:?} after it left the Service", left.elapsed());
    assert_eq!(unserved.found(), [] as [String; 0], "ready endpoints of bases where no version was active");
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_silent_or_gone_is_no_endpoint_until_it_is_back() -> Result<()> {
    let scene = Scene::set("services-away", 2, Activation::Default).await?;
    let (address, base) = scene.bases.first_key_value().context("no bases")?;
    let others = |ready: &std::collections::BTreeSet<String>| ready.iter().all(|e| !e.starts_with(address.as_str()));
    base.hang();
    assert!(others(&scene.endpoints.are(1).await?), "the silent base is the one that left");
    base.resume();
    scene.endpoints.are(2).await?;
    base.kill();
    assert!(others(&scene.endpoints.are(1).await?), "the killed base is the one that left");
    base.restart().await?;
    scene.endpoints.are(2).await?;
    assert!(serves(base, "biz1"));
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_daemon_set_takes_one_base_at_a_time_out_of_the_service() -> Result<()> {
    let scene = Scene::set("services-daemon", 3, Activation::Default).await?;
    scene.stage.kubectl(&["delete", "deployment", "biz1"]).await?;
    scene.endpoints.are(0).await?;
    let set = |version: &str| {
        let mut set = workload(&scene.stage, "DaemonSet", "biz1", None, version);
        let container = &mut set["spec"]["template"]["spec"]["containers"][0];
        container["ports"] = json!([{ "name": "http", "containerPort": 8080 }]);
        container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 1 } } });
        set
    };
    let rolled_out = ["rollout", "status", "daemonset/biz1", "--timeout=80s"];
    scene.stage.apply(&set("0.0.1")).await?;
    scene.stage.kubectl(&rolled_out).await?;
    scene.endpoints.are(3).await?;
    let unserved = Unserved::watch(&scene.endpoints, &scene.bases, "biz1");
    let mark = scene.endpoints.mark();
    scene.stage.apply(&set("0.0.2")).await?;
    scene.stage.kubectl(&rolled_out).await?;
    scene.endpoints.are(3).await?;
    assert_eq!(scene.endpoints.fewest(mark), 2, "bases - maxUnavailable, which is 1 if nothing else is said");
    assert_eq!(unserved.found(), [] as [String; 0], "ready endpoints of bases where no version was active");
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_gate_keeps_a_base_out_of_the_service_until_it_opens() -> Result<()> {
    let scene = Scene::set("services-gate", 1, Activation::ActivateNew).await?;
    let gate = [("terminationGracePeriodSeconds: 10", "readinessGates: [{ conditionType: example.com/traffic }]")];
    let here = format!("values: [{}]", scene.stage.name);
    let changes = [("values: [base]", here.as_str()), ("replicas: 3", "replicas: 1"), ("0.0.1", "0.0.2"), gate[0]];
    scene.stage.apply_example(FILE, &changes).await?;
    let base = scene.bases.values().next().context("no base")?;
    base.wait_for_state("biz1", "0.0.2", Some(BizState::Activated), SOON).await?;
    // The module serves, and its predecessor does not: without a Ready Pod there is no endpoint.
    scene.endpoints.are(0).await?;
    let pods = scene.stage.pods_with("module.koupleless.io/version=0.0.2").await?;
    let pod = pods.first().and_then(|pod| pod.metadata.name.as_deref()).context("no Pod")?;
    let open = json!({ "status": { "conditions": [{ "type": "example.com/traffic", "status": "True" }] } });
    scene.stage.kubectl(&["patch", "pod", pod, "--subresource=status", "-p", &open.to_string()]).await?;
    scene.endpoints.are(1).await?;
    scene.stage.ends_quietly().await
}

/// What clients saw of an update.
struct Seen {
    calls: usize,
    errors: Vec<Call>,
    /// Between the last answer of the old version and the first of the new one, the longest.
    change: Duration,
}

/// An update of the module of one real base, called by real clients all the time at the address and port
/// that its Service's `EndpointSlice` says. A test control plane has no kube-proxy: the clients themselves
/// watch the slice and choose a ready endpoint for each call, which is what kube-proxy does for others.
async fn update_of_a_real_base(name: &str, adapt: impl FnOnce(&mut JavaBaseOptions)) -> Result<Seen> {
    let _permit = JVMS.acquire().await?;
    ensure_built(|line| eprintln!("{line}")).await?;
    let stage = Stage::set(name).await?;
    // Its own idea of its address: an endpoint may not be one of loopback.
    let mut options = JavaBaseOptions { ip: String::new(), ..java_base_options(&stage, "jvm-1") };
    adapt(&mut options);
    let base = JavaBase::start(options).await?;
    stage.node_ready(&stage.node_name("jvm-1"), "True").await?;
    let endpoints = Endpoints::watch(&stage, "biz1").await?;
    release(&stage, &base, "0.0.1").await?;
    let ready = endpoints.are(1).await?;
    ensure!(ready.iter().all(|e| e.ends_with(&format!(":{}", base.http_port()))), "{ready:?}");
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::start(&endpoints, "/biz1")).collect();
    for client in &clients {
        client.makes(CALLS).await?;
    }

    release(&stage, &base, "0.0.2").await?;
    eventually("the old version uninstalled", SOON, async || {
        let modules = base.ask("").await?.unwrap_or_default();
        ensure!(modules == "biz1:0.0.2 activated", "{modules}");
        Ok(())
    })
    .await?;
    for client in &clients {
        client.makes(CALLS).await?;
    }

    let mut seen = Seen { calls: 0, errors: Vec::new(), change: Duration::ZERO };
    for client in clients {
        let calls = client.calls();
        let (old, new) = ("biz1 0.0.1 on jvm-1", "biz1 0.0.2 on jvm-1");
        let first_new = calls.iter().position(|c| c.answer.as_deref() == Ok(new)).context("never the new version")?;
        let last_old = calls.iter().rposition(|c| c.answer.as_deref() == Ok(old)).context("never the old version")?;
        assert!(last_old < first_new, "the old version answered after the new one");
        let other = calls.iter().filter_map(|c| c.answer.as_deref().ok()).find(|text| *text != old && *text != new);
        assert_eq!(other, None, "an answer of neither version");
        seen.calls += calls.len();
        seen.change = seen.change.max(calls[first_new].at - calls[last_old].at);
        seen.errors.extend(calls.into_iter().filter(|call| call.answer.is_err()));
    }
    eprintln!(
        "{name}: {} calls, {} errors, {:?} from the old version's last answer to the new one's first",
        seen.calls,
        seen.errors.len(),
        seen.change
    );
    stage.ends_quietly().await?;
    Ok(seen)
}

async fn release(stage: &Stage, base: &JavaBase, version: &str) -> Result<()> {
    let here = format!("values: [{}]", stage.name);
    let port = format!("containerPort: {}", base.http_port());
    let jar = module_url("biz1", version);
    let changes = [
        ("values: [base]", here.as_str()),
        ("replicas: 3", "replicas: 1"),
        ("containerPort: 8080", &port),
        ("https://modules.example.com/biz1-0.0.1-ark-biz.jar", &jar),
        ("0.0.1", version),
    ];
    // The URL has the version in it already.
    let changes = if version == "0.0.1" { &changes[..4] } else { &changes[..] };
    stage.apply_example(FILE, changes).await?;
    stage.kubectl(&["rollout", "status", "deployment/biz1", "--timeout=80s"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_base_that_activates_new_versions_see_no_error_during_an_update() -> Result<()> {
    let seen = update_of_a_real_base("services-real", |options| options.activate_new_module = true).await?;
    assert!(seen.errors.is_empty(), "{} of {}: {:?}", seen.errors.len(), seen.calls, seen.errors.first());
    Ok(())
}

/// A switch takes the old version away before the new one starts: what is promised is that it is short.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_base_with_default_settings_see_a_short_gap_during_an_update() -> Result<()> {
    let seen = update_of_a_real_base("services-real-default", |_| {}).await?;
    assert!(seen.change < SOON, "{:?}", seen.change);
    for call in &seen.errors {
        assert_eq!(call.answer, Err("503 no active module biz1 on jvm-1".to_owned()));
    }
    Ok(())
}
