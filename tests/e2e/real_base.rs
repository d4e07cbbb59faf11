//! The whole with real bases: JVMs that load and unload real modules.
//!
//! In all of it a Pod is Ready exactly when the base itself says that its modules are active, and
//! every message on the broker, in both directions, is valid by its schema.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use modulet_testkit::{
    broker::Spy,
    controller::ControllerOptions,
    java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url},
    ports::free_port,
    schema,
    wait::eventually,
};
use rumqttc::QoS;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::stage::{SOON, Stage, container_reason, is_ready, module_pod, phase};

/// More of them at a time would only wait for each other.
pub(crate) static JVMS: Semaphore = Semaphore::const_new(2);

/// A stage, a real base on it, and a record of all that is said by the broker.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    spy: Spy,
    pub(crate) base: JavaBase,
    _permit: SemaphorePermit<'static>,
}

impl Scene {
    async fn set(name: &str, adapt: impl FnOnce(&mut JavaBaseOptions)) -> Result<Self> {
        Self::set_with(name, |controller| controller, adapt).await
    }

    /// The same with other options of the controller.
    pub(crate) async fn set_with(
        name: &str,
        options: impl FnOnce(ControllerOptions) -> ControllerOptions,
        adapt: impl FnOnce(&mut JavaBaseOptions),
    ) -> Result<Self> {
        let permit = JVMS.acquire().await?;
        ensure_built(|line| eprintln!("{line}")).await?;
        let stage = Stage::set_with(name, options).await?;
        let options = java_base_options(&stage, "jvm-1");
        Self::on(stage, options, adapt, permit).await
    }

    /// The same without the broker: the base and its controller speak HTTP.
    pub(crate) async fn over_http(name: &str, adapt: impl FnOnce(&mut JavaBaseOptions)) -> Result<Self> {
        let permit = JVMS.acquire().await?;
        ensure_built(|line| eprintln!("{line}")).await?;
        let (stage, endpoint) = http_stage(name).await?;
        let options = java_base_options_http(&stage, &endpoint, "jvm-1");
        Self::on(stage, options, adapt, permit).await
    }

    async fn on(
        stage: Stage,
        mut options: JavaBaseOptions,
        adapt: impl FnOnce(&mut JavaBaseOptions),
        permit: SemaphorePermit<'static>,
    ) -> Result<Self> {
        let spy = Spy::start(stage.broker.address(), &format!("koupleless_{}/#", stage.name)).await?;
        adapt(&mut options);
        let base = JavaBase::start(options).await?;
        stage.node_ready(&stage.node_name("jvm-1"), "True").await?;
        Ok(Self { stage, spy, base, _permit: permit })
    }

    /// What the base itself says of its modules, not over the broker.
    pub(crate) async fn modules(&self) -> Result<BTreeMap<String, String>> {
        let text = self.base.ask("").await?.unwrap_or_default();
        let modules = text.lines().filter_map(|line| line.split_once(' '));
        Ok(modules.map(|(module, state)| (module.to_owned(), state.to_owned())).collect())
    }

    pub(crate) async fn modules_are(&self, expected: &[(&str, &str)]) -> Result<()> {
        let expected = expected.iter().map(|(module, state)| ((*module).to_owned(), (*state).to_owned())).collect();
        eventually("the base's modules", SOON, async || {
            let modules = self.modules().await?;
            ensure!(modules == expected, "{modules:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a Pod is Ready; then its modules must be active already.
    pub(crate) async fn ready(&self, pod: &str) -> Result<Pod> {
        let ready = self.stage.pod_ready(pod).await?;
        let modules = self.modules().await?;
        for module in modules_of(&ready) {
            assert_eq!(modules.get(&module).map(String::as_str), Some("activated"), "{pod} is Ready, but {modules:?}");
        }
        Ok(ready)
    }

    /// Waits until exactly those Pods are Ready whose modules are all active.
    pub(crate) async fn agree(&self) -> Result<()> {
        eventually("Pods as the base says", SOON, async || {
            let modules = self.modules().await?;
            let pods = self.stage.pods().list(&ListParams::default()).await?;
            for pod in pods.items.iter().filter(|pod| phase(pod) != "Failed") {
                let active = modules_of(pod).all(|m| modules.get(&m).is_some_and(|state| state == "activated"));
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                ensure!(is_ready(pod) == active, "{name}: Ready is {}, but {modules:?}", is_ready(pod));
            }
            Ok(())
        })
        .await
    }

    /// Creates a Pod of one module whose jar is that of another, perhaps.
    pub(crate) async fn create(
        &self,
        pod: &str,
        modules: &[(&str, &str)],
        jar: Option<(&str, &str)>,
        args: &[&str],
    ) -> Result<()> {
        self.stage.create_pod(self.pod(pod, modules, jar, args)).await.map(drop)
    }

    pub(crate) fn pod(&self, pod: &str, modules: &[(&str, &str)], jar: Option<(&str, &str)>, args: &[&str]) -> Value {
        let mut pod = module_pod(&self.stage.name, pod, modules);
        for (index, module) in modules.iter().enumerate() {
            let (name, version) = jar.unwrap_or(*module);
            let container = &mut pod["spec"]["containers"][index];
            container["image"] = json!(module_url(name, version));
            container["args"] = json!(args);
        }
        pod
    }

    /// Waits until a Pod has failed for `reason`; `kubectl describe` must say why, readably.
    pub(crate) async fn fails(&self, pod: &str, reason: &str, why: &[&str]) -> Result<()> {
        self.stage.pod_until(pod, reason, |pod| container_reason(pod) == Some(reason) && !is_ready(pod)).await?;
        let text = self.stage.kubectl(&["describe", "pod", pod]).await?;
        for word in why {
            assert!(text.contains(word), "{word:?} is not in:\n{text}");
        }
        assert!(!text.contains("InvocationTargetException") && !text.contains("\tat "), "{text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(1200), "{longest:?} characters in a line");
        self.agree().await
    }

    /// Three Pods that cannot be installed, each for a reason of its own, which it says: one that breaks at its start, a
    /// newer version of what runs that does, and one whose jar is nowhere.
    pub(crate) async fn three_fail(&self) -> Result<()> {
        let cause = "java.lang.IllegalStateException: broken on purpose";
        self.create("broken", &[("bizbroken", "0.0.1")], None, &[]).await?;
        self.create("broken-update", &[("biz1", "0.0.4")], None, &[]).await?;
        self.create("nowhere", &[("biz7", "7.7.7")], None, &[]).await?;
        self.fails("broken", "InstallFailed", &[cause]).await?;
        self.fails("broken-update", "InstallFailed", &[cause]).await?;
        let why = ["java.io.FileNotFoundException", "No such file or directory"];
        self.fails("nowhere", "InstallFailed", &why).await
    }

    fn said(&self, command: &str) -> usize {
        let topic = format!("koupleless_{}/jvm-1/{command}", self.stage.name);
        self.spy.count(|message| message.topic == topic)
    }

    /// All that was said is as the protocol has it, and none of it was kept by the broker.
    pub(crate) async fn everything_said_was_valid(&self) -> Result<()> {
        let messages = self.spy.messages();
        let mut from = [0, 0];
        for message in &messages {
            let result = schema::validate(&message.topic, &message.payload);
            assert_eq!(result, Ok(()), "{}", message.text());
            assert_eq!(message.qos, QoS::AtLeastOnce, "{}", message.topic);
            assert!(!message.retained, "{}", message.topic);
            from[usize::from(schema::is_from_base(&message.topic) == Some(true))] += 1;
        }
        assert!(from.iter().all(|count| *count > 5), "{from:?} to and from the base");
        let late = Spy::start(self.stage.broker.address(), &format!("koupleless_{}/#", self.stage.name)).await?;
        let mark = format!("koupleless_{}/mark", self.stage.name);
        late.publish(&mark, "").await?;
        late.wait_for("the mark", SOON, |all| all.iter().any(|m| m.topic == mark).then_some(())).await?;
        assert_eq!(late.count(|message| message.retained), 0, "the broker keeps messages");
        Ok(())
    }
}

/// Options of a real base of a stage: only that stage's Pods select it.
pub(crate) fn java_base_options(stage: &Stage, id: &str) -> JavaBaseOptions {
    JavaBaseOptions {
        env: stage.name.clone(),
        name: stage.name.clone(),
        ..JavaBaseOptions::new(stage.broker.address(), id)
    }
}

/// The same for a base that speaks HTTP.
pub(crate) fn java_base_options_http(stage: &Stage, endpoint: &str, id: &str) -> JavaBaseOptions {
    JavaBaseOptions { name: stage.name.clone(), ..JavaBaseOptions::over_http(endpoint, id) }
}

/// A stage whose controller knows no broker, and where its bases post their heartbeats.
pub(crate) async fn http_stage(name: &str) -> Result<(Stage, String)> {
    let port = free_port()?.to_string();
    let stage = Stage::set_with(name, |options| {
        options
            .env("ENABLE_MQTT_TUNNEL", "false")
            .env("ENABLE_HTTP_TUNNEL", "true")
            .env("HTTP_TUNNEL_LISTEN_PORT", port.as_str())
    });
    Ok((stage.await?, format!("http://localhost:{port}")))
}

/// `name:version` of a Pod's modules.
fn modules_of(pod: &Pod) -> impl Iterator<Item = String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.map(|c| {
        let version = c.env.iter().flatten().find(|e| e.name == "BIZ_VERSION").and_then(|e| e.value.as_deref());
        format!("{}:{}", c.name, version.unwrap_or_default())
    })
}

/// `restartCount` of each container.
pub(crate) fn restarts(pod: &Pod) -> Vec<i32> {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|s| s.restart_count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_base_in_its_default_mode_gets_installs_updates_and_readable_failures() -> Result<()> {
    let scene = Scene::set("real-default", |_| {}).await?;
    let (stage, base) = (&scene.stage, &scene.base);

    // Two modules in one Pod.
    scene.create("both", &[("biz1", "0.0.1"), ("biz2", "0.0.1")], None, &[]).await?;
    scene.ready("both").await?;
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on jvm-1"));
    assert_eq!(base.ask("biz2").await?.as_deref(), Some("biz2 0.0.1 on jvm-1"));
    assert_eq!((scene.said("installBiz"), scene.said("uninstallBiz")), (2, 0));
    stage.delete_pod("both").await?;
    scene.modules_are(&[]).await?;
    assert_eq!(base.ask("biz1").await?, None);
    assert_eq!((scene.said("installBiz"), scene.said("uninstallBiz")), (2, 2));

    // A jar that is another module, by name or by version: that module does not stay.
    for (pod, module) in [("other-name", ("biz9", "0.0.1")), ("other-version", ("bizslow", "9.9.9"))] {
        scene.create(pod, &[module], Some(("bizslow", "0.0.1")), &["--sleep=10"]).await?;
        let asked = format!("{}:{}", module.0, module.1);
        scene.fails(pod, "ModuleMismatch", &[&asked, "bizslow:0.0.1"]).await?;
        scene.modules_are(&[]).await?;
        stage.delete_pod(pod).await?;
    }

    // What fails, each for its reason; what runs goes on running.
    scene.create("v1", &[("biz1", "0.0.1")], None, &[]).await?;
    scene.ready("v1").await?;
    scene.three_fail().await?;
    for pod in ["broken", "broken-update", "nowhere"] {
        stage.delete_pod(pod).await?;
    }
    scene.modules_are(&[("biz1:0.0.1", "activated")]).await?;
    assert!(is_ready(&stage.pods().get("v1").await?));
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on jvm-1"));

    // The new version starts, stays deactivated, and is switched to.
    let installs = scene.said("installBiz");
    scene.create("v2", &[("biz1", "0.0.2")], None, &[]).await?;
    scene.ready("v2").await?;
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.2 on jvm-1"));
    assert_eq!(scene.said("installBiz"), installs + 3, "to see it start, to see that it can be fetched, to switch");
    let old = stage.pod_until("v1", "superseded", |pod| phase(pod) == "Failed").await?;
    assert_eq!(container_reason(&old), Some("BizDeactivate"));
    scene.modules_are(&[("biz1:0.0.2", "activated")]).await?;
    for pod in ["v1", "v2"] {
        stage.delete_pod(pod).await?;
    }
    scene.modules_are(&[]).await?;
    scene.everything_said_was_valid().await?;
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_base_that_activates_new_versions_survives_kills_and_gets_its_baseline() -> Result<()> {
    let mut scene = Scene::set("real-new", |options| options.activate_new_module = true).await?;
    scene.create("v1", &[("biz1", "0.0.1")], None, &[]).await?;
    scene.ready("v1").await?;
    scene.create("broken-update", &[("biz1", "0.0.4")], None, &[]).await?;
    scene.fails("broken-update", "InstallFailed", &["java.lang.IllegalStateException: broken on purpose"]).await?;
    assert_eq!(scene.base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on jvm-1"));
    scene.stage.delete_pod("broken-update").await?;
    let installs = scene.said("installBiz");
    scene.create("v2", &[("biz1", "0.0.2")], None, &[]).await?;
    scene.ready("v2").await?;
    scene.stage.pod_until("v1", "superseded", |pod| phase(pod) == "Failed").await?;
    assert_eq!(scene.base.ask("biz1").await?.as_deref(), Some("biz1 0.0.2 on jvm-1"));
    scene.stage.delete_pod("v1").await?;
    scene.modules_are(&[("biz1:0.0.2", "activated")]).await?;
    assert_eq!((scene.said("installBiz"), scene.said("uninstallBiz")), (installs + 1, 1));

    // kill -9: the same Node, the module again, counted as a restart.
    let node = scene.stage.node_name("jvm-1");
    let uid = scene.stage.nodes().get(&node).await?.metadata.uid;
    scene.base.kill9().await?;
    scene.base.restart().await?;
    let again = |pod: &Pod| is_ready(pod) && restarts(pod) == [1];
    scene.stage.pod_until("v2", "Ready after a kill", again).await?;
    scene.modules_are(&[("biz1:0.0.2", "activated")]).await?;
    scene.agree().await?;

    // SIGTERM, and Pods that are bound while the base is away: one baseline brings everything.
    scene.base.terminate().await?;
    let bound = [("more", "biz2"), ("slow", "bizslow")];
    for (pod, module) in bound {
        let mut pod = scene.pod(pod, &[(module, "0.0.1")], None, &["--sleep=500"]);
        pod["spec"]["nodeName"] = json!(node);
        scene.stage.create_pod(pod).await?;
    }
    eventually("Pods known to the controller", SOON, async || {
        let known = scene.stage.controller.metric("modulet_pods", &[]).await?;
        ensure!(known >= 3.0, "{known}");
        Ok(())
    })
    .await?;
    let (baselines, installs) = (scene.said("base/baseline"), scene.said("installBiz"));
    scene.base.restart().await?;
    for (pod, _) in bound {
        scene.ready(pod).await?;
    }
    let again = |pod: &Pod| is_ready(pod) && restarts(pod) == [2];
    scene.stage.pod_until("v2", "Ready after a stop", again).await?;
    let all = [("biz1:0.0.2", "activated"), ("biz2:0.0.1", "activated"), ("bizslow:0.0.1", "activated")];
    scene.modules_are(&all).await?;
    assert_eq!((scene.said("base/baseline"), scene.said("installBiz")), (baselines + 1, installs));
    assert_eq!(scene.stage.nodes().get(&node).await?.metadata.uid, uid, "the same Node all the time");
    scene.agree().await?;
    scene.everything_said_was_valid().await?;
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_base_and_its_installs_survive_outages_of_the_broker() -> Result<()> {
    const OUTAGE: Duration = Duration::from_secs(15);
    let scene = Scene::set("real-outage", |options| options.keep_broken = true).await?;
    let stage = &scene.stage;
    scene.create("fast", &[("biz1", "0.0.1")], None, &[]).await?;
    scene.ready("fast").await?;

    // In the middle of an install: its reply is lost.
    scene.create("slow", &[("bizslow", "0.0.1")], None, &["--sleep=4000"]).await?;
    scene.modules_are(&[("biz1:0.0.1", "activated"), ("bizslow:0.0.1", "resolved")]).await?;
    assert!(!is_ready(&stage.pods().get("slow").await?));
    let outage = Instant::now();
    stage.broker.stop().await?;
    let both = [("biz1:0.0.1", "activated"), ("bizslow:0.0.1", "activated")];
    scene.modules_are(&both).await?;
    eventually("the end of the outage", SOON, async || outage.elapsed() >= OUTAGE).await?;
    stage.broker.start_again().await?;
    scene.ready("slow").await?;
    scene.agree().await?;

    // While nothing happens: nothing happens.
    let outage = Instant::now();
    stage.broker.stop().await?;
    eventually("the end of the outage", SOON, async || outage.elapsed() >= OUTAGE).await?;
    stage.broker.start_again().await?;
    let lists = scene.said("base/simpleBiz");
    eventually("another list", SOON, async || scene.said("base/simpleBiz") > lists).await?;
    scene.agree().await?;
    for pod in ["fast", "slow"] {
        assert_eq!(restarts(&scene.ready(pod).await?), [0], "{pod}");
    }
    assert_eq!((scene.said("installBiz"), scene.said("uninstallBiz")), (2, 0));
    stage.node_ready(&stage.node_name("jvm-1"), "True").await?;

    // This base keeps what cannot start: it is removed, and does not stand in the way of what can.
    scene.create("broken", &[("biz1", "0.0.4")], None, &[]).await?;
    scene.fails("broken", "InstallFailed", &["java.lang.IllegalStateException: broken on purpose"]).await?;
    stage.delete_pod("broken").await?;
    scene.modules_are(&both).await?;
    for pod in ["fast", "slow"] {
        stage.delete_pod(pod).await?;
    }
    scene.modules_are(&[]).await?;
    let log = scene.base.log().context("the base's log")?;
    assert!(!log.contains("OutOfMemoryError"));
    scene.everything_said_was_valid().await?;
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jar_that_is_another_module_and_starts_slowly_does_not_stay_either() -> Result<()> {
    let scene = Scene::set("real-stray", |_| {}).await?;
    scene.create("slow", &[("biz9", "0.0.1")], Some(("bizslow", "0.0.1")), &["--sleep=7000"]).await?;
    scene.fails("slow", "ModuleMismatch", &["biz9:0.0.1", "bizslow:0.0.1"]).await?;
    scene.modules_are(&[]).await?;
    scene.everything_said_was_valid().await?;
    scene.stage.ends_quietly().await
}
