//! What breaks, at its worst moment: nothing is lost, nothing is uninstalled by mistake, little is repeated.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use modulet_testkit::{
    base::{Activation, BaseOptions, BizState, SimulatedBase},
    control_plane::{ControlPlane, ControlPlaneOptions},
    wait::eventually,
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    stage::{SOON, Stage, is_ready, module_pod, phase},
    workloads::{Gaps, PodLog, alone, deployment, serving, told, told_no_more_than},
};

/// Everything is in order again so soon after the last fault.
const CONVERGED: Duration = Duration::from_secs(30);
/// A base is asked for its list every two seconds: a mistake would be made within this time.
const QUIET: Duration = Duration::from_secs(5);
/// How long the broker is away.
const WITHOUT_BROKER: Duration = Duration::from_secs(15);
/// How long the API server is away.
const WITHOUT_API: Duration = Duration::from_secs(30);
/// Less than the broker is away, and less than a base without a heartbeat is watched.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);

async fn stage(name: &str) -> Result<Stage> {
    Stage::set_with(name, |options| options.env("MODULET_LIST_EVERY", "2")).await
}

fn options(stage: &Stage, id: &str, activation: Activation) -> BaseOptions {
    BaseOptions { activation, ..stage.base_options(id) }
}

async fn bases(stage: &Stage, activation: Activation) -> Result<Arc<Vec<SimulatedBase>>> {
    let mut bases = Vec::new();
    for id in ["base-1", "base-2", "base-3"] {
        let options = BaseOptions { reconnect: Duration::from_millis(250), ..options(stage, id, activation) };
        bases.push(stage.base(BaseOptions { heartbeat: Duration::from_secs(3), ..options }).await?);
    }
    Ok(Arc::new(bases))
}

async fn create(stage: &Stage, pod: &str, module: &str, version: &str) -> Result<()> {
    stage.create_pod(module_pod(&stage.name, pod, &[(module, version)])).await.map(drop)
}

async fn delete(stage: &Stage, pod: &str) -> Result<()> {
    stage.pods().delete(pod, &DeleteParams::default()).await?;
    Ok(())
}

async fn superseded(stage: &Stage, pod: &str) -> Result<()> {
    stage.pod_until(pod, "Failed", |pod| phase(pod) == "Failed").await.map(drop)
}

/// Waits until every base has a Ready Pod of that version of biz1, and no other is Ready.
async fn converged(stage: &Stage, bases: &[SimulatedBase], version: &str) -> Result<()> {
    eventually(&format!("biz1:{version} Ready everywhere"), CONVERGED, async || {
        let pods = stage.pods_with("app=biz1").await?;
        let label = |p: &k8s_openapi::api::core::v1::Pod| {
            p.metadata.labels.as_ref().and_then(|l| l.get("module.koupleless.io/version")).cloned()
        };
        let ready: Vec<_> = pods.iter().filter(|p| is_ready(p)).filter_map(label).collect();
        ensure!(ready.len() == bases.len() && ready.iter().all(|v| v == version), "Ready are {ready:?}");
        Ok(())
    })
    .await?;
    serving(bases, "biz1", version, CONVERGED).await
}

/// Looks at Nodes all the time, for moments at which one is not Ready.
struct Nodes {
    found: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Nodes {
    fn watch(stage: &Stage, bases: &[SimulatedBase]) -> Self {
        let found = Arc::<Mutex<Vec<String>>>::default();
        let (nodes, seen) = (stage.nodes(), Arc::clone(&found));
        let names: Vec<_> = bases.iter().map(|b| stage.node_name(&b.identity())).collect();
        let task = tokio::spawn(async move {
            loop {
                for name in &names {
                    let Ok(node) = nodes.get(name).await else { continue };
                    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
                    for ready in conditions.filter(|c| c.type_ == "Ready" && c.status != "True") {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {}", json!(ready)));
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { found, task }
    }

    fn not_ready(&self) -> Vec<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Install, update, uninstall; SIGKILL each time before the reply is out. Returns what the base was told.
async fn killed_before_each_reply(name: &str, activation: Activation) -> Result<Vec<String>> {
    let mut stage = stage(name).await?;
    let base = stage.base(options(&stage, "base-1", activation)).await?;
    base.delay_replies(Duration::from_secs(1));
    let mut orders = 0;
    for (pod, version) in [("old", "1"), ("new", "2")] {
        create(&stage, pod, "biz1", version).await?;
        eventually("the command", SOON, async || told(&base, "biz1").len() > orders).await?;
        stage.controller.kill9().await?;
        stage.controller.restart().await?;
        stage.pod_ready(pod).await?;
        orders = told(&base, "biz1").len();
    }
    superseded(&stage, "old").await?;
    delete(&stage, "old").await?;
    stage.pod_gone("old").await?;
    orders = told(&base, "biz1").len();
    delete(&stage, "new").await?;
    eventually("the uninstall", SOON, async || told(&base, "biz1").len() > orders).await?;
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    stage.pod_gone("new").await?;
    eventually("an empty base", SOON, async || base.modules().is_empty()).await?;
    stage.ends_quietly().await?;
    Ok(told(&base, "biz1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_before_each_reply_repeats_nothing() -> Result<()> {
    let told = killed_before_each_reply("fault-reply", Activation::ActivateNew).await?;
    assert_eq!(told, ["install 1", "install 2", "uninstall 1", "uninstall 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_with_default_settings_proves_the_new_version_once_more_at_most() -> Result<()> {
    let told = killed_before_each_reply("fault-reply-default", Activation::Default).await?;
    // Whether 2 has started by our command is forgotten with the process.
    let again = ["install 1", "install 2", "uninstall 2", "install 2", "install 2", "switch 2", "uninstall 2"];
    let without = ["install 1", "install 2", "install 2", "switch 2", "uninstall 2"];
    assert!(told == again || told == without, "{told:?}");
    Ok(())
}

/// Installed and not yet on record, and its Pod goes while nobody is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_after_a_command_knows_what_it_installed() -> Result<()> {
    let mut stage = stage("fault-record").await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    base.delay_replies(Duration::from_secs(5));
    create(&stage, "biz1", "biz1", "1").await?;
    base.wait_for_command("installBiz", SOON).await?;
    // It is on record long before the reply; the record goes out together with the command.
    stage.recorded("base-1", "biz1", Duration::from_secs(4)).await?;
    stage.controller.kill9().await?;
    base.delay_replies(Duration::ZERO);
    stage.pods().delete("biz1", &DeleteParams::default().grace_period(0)).await?;
    stage.pod_gone("biz1").await?;
    assert_eq!(base.state_of("biz1", "1"), Some(BizState::Activated));
    stage.controller.restart().await?;
    base.wait_for_state("biz1", "1", None, CONVERGED).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_delays_and_loses_nothing() -> Result<()> {
    let stage = Stage::set_with("fault-broker", |options| {
        options.env("MODULET_UNREACHABLE_AFTER", UNREACHABLE_AFTER.as_secs().to_string())
    })
    .await?;
    let bases = bases(&stage, Activation::ActivateNew).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 3, "1", &limits)).await?;
    create(&stage, "goes", "goes", "1").await?;
    create(&stage, "stays", "stays", "1").await?;
    converged(&stage, &bases, "1").await?;
    for pod in ["goes", "stays"] {
        stage.pod_ready(pod).await?;
    }
    let (nodes, gaps) = (Nodes::watch(&stage, &bases), Gaps::watch(&bases, "biz1"));
    let pods = PodLog::start(&stage).await?;

    bases.iter().for_each(|b| b.delay_replies(Duration::from_millis(500)));
    stage.apply(&deployment(&stage, "biz1", 3, "2", &limits)).await?;
    eventually("the first command", SOON, async || bases.iter().any(|b| told(b, "biz1").len() > 1)).await?;
    stage.broker.stop().await?;
    bases.iter().for_each(|b| b.delay_replies(Duration::ZERO));
    delete(&stage, "goes").await?;
    create(&stage, "comes", "comes", "1").await?;
    tokio::time::sleep(WITHOUT_BROKER).await; // the fault itself
    stage.broker.start_again().await?;

    converged(&stage, &bases, "2").await?;
    stage.pod_gone("goes").await?;
    stage.pod_ready("comes").await?;
    // Their heartbeats have died with the outage; they are asked instead.
    let hearts = || bases.iter().map(|b| b.counters().heartbeats).sum::<usize>();
    let before = hearts();
    tokio::time::sleep(UNREACHABLE_AFTER + Duration::from_secs(2)).await; // a Node would be not Ready by now
    assert_eq!(hearts(), before, "the simulated bases have stopped beating, as real ones do");
    assert_eq!(nodes.not_ready(), [] as [String; 0]);
    assert_eq!(gaps.found(), [] as [String; 0]);
    assert_eq!(pods.lost_ready("2"), [] as [String; 0]);
    let all = |module: &str| bases.iter().flat_map(|b| told(b, module)).collect::<Vec<_>>();
    assert_eq!(all("stays"), ["install 1"]);
    assert_eq!(all("goes"), ["install 1", "uninstall 1"]);
    assert!(all("comes").len() <= 2, "{:?}", all("comes"));
    for base in bases.iter() {
        let told = told(base, "biz1");
        assert!(told.len() <= 5 && told[1..].iter().all(|t| t != "install 1"), "{told:?}");
    }
    stage.ends_quietly().await
}

/// A control plane of its own: others need the shared one.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_or_is_away_delays_and_loses_nothing() -> Result<()> {
    let cluster = ControlPlane::start_own(ControlPlaneOptions::default()).await?;
    let mut stage = Stage::set_on(cluster, "fault-api", |options| options.env("MODULET_LIST_EVERY", "2")).await?;
    let bases = bases(&stage, Activation::ActivateNew).await?;

    // It hangs between reply and status, and the controller is killed there.
    bases[0].delay_replies(Duration::from_secs(2));
    let mut pod = module_pod(&stage.name, "first", &[("first", "1")]);
    pod["spec"]["nodeName"] = json!(stage.node_name("base-1"));
    stage.create_pod(pod).await?;
    bases[0].wait_for_command("installBiz", SOON).await?;
    cluster.pause_api_server().await?;
    bases[0].wait_for_state("first", "1", Some(BizState::Activated), SOON).await?;
    let lists = bases[0].received("queryAllBiz");
    eventually("the list after the reply", SOON, async || bases[0].received("queryAllBiz") > lists).await?;
    stage.controller.kill9().await?;
    bases[0].delay_replies(Duration::ZERO);
    cluster.resume_api_server().await?;
    stage.controller.restart().await?;
    stage.pod_ready("first").await?;
    told_no_more_than(&bases[0], "first", &["install 1"], Duration::ZERO).await?;

    // It is away from the middle of an update on, and things happen meanwhile.
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 3, "1", &limits)).await?;
    converged(&stage, &bases, "1").await?;
    stage.apply(&deployment(&stage, "biz1", 3, "2", &limits)).await?;
    eventually("the first command", SOON, async || bases.iter().any(|b| told(b, "biz1").len() > 1)).await?;
    cluster.stop_api_server().await?;
    assert!(bases[0].remove_by_hand("first", "1"));
    bases[1].restart().await?;
    bases[0].wait_for_state("first", "1", Some(BizState::Activated), SOON).await?;
    eventually("the restarted base whole", SOON, async || {
        bases[1].modules().iter().any(|m| m.0 == "biz1" && m.2 == BizState::Activated)
    })
    .await?;
    tokio::time::sleep(WITHOUT_API).await; // the fault itself
    cluster.start_api_server().await?;
    cluster.restart_controllers().await?;
    converged(&stage, &bases, "2").await?;
    alone(&bases, "biz1", "2", CONVERGED).await?;
    stage.pod_ready("first").await?;
    assert_eq!(told(&bases[0], "first"), ["install 1", "install 1"], "removed by hand once");
    for base in bases.iter() {
        let told = told(base, "biz1");
        assert!(told.len() <= 6, "{}: {told:?}", base.identity());
    }
    stage.ends_quietly().await
}

/// Restarts a base while it starts the version, and waits for that version to serve.
async fn restarted_while_starting(stage: &Stage, base: &SimulatedBase, pod: &str, version: &str) -> Result<()> {
    let mut object = module_pod(&stage.name, pod, &[("biz1", version)]);
    let url = format!("https://modules.example.com/biz1-slow-1500-{version}-ark-biz.jar");
    object["spec"]["containers"][0]["image"] = json!(url);
    let before = told(base, "biz1").len();
    stage.create_pod(object).await?;
    eventually("the command", SOON, async || told(base, "biz1").len() > before).await?;
    base.restart().await?;
    eventually(&format!("{pod} Ready"), CONVERGED, async || {
        let pod = stage.pods().get(pod).await?;
        ensure!(is_ready(&pod), "{}", json!(pod.status));
        Ok(())
    })
    .await
}

async fn base_restarts(name: &str, activation: Activation, most: usize) -> Result<()> {
    let stage = stage(name).await?;
    let base = stage.base(options(&stage, "base-1", activation)).await?;
    restarted_while_starting(&stage, &base, "old", "1").await?;
    restarted_while_starting(&stage, &base, "new", "2").await?;
    superseded(&stage, "old").await?;
    delete(&stage, "old").await?;
    stage.pod_gone("old").await?;
    alone(std::slice::from_ref(&base), "biz1", "2", CONVERGED).await?;
    base.restart().await?;
    alone(std::slice::from_ref(&base), "biz1", "2", CONVERGED).await?;
    eventually("new Ready", CONVERGED, async || {
        ensure!(is_ready(&stage.pods().get("new").await?));
        Ok(())
    })
    .await?;
    let told = told(&base, "biz1");
    assert!(told.len() <= most, "{told:?}");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_restarts_at_any_moment_is_made_whole() -> Result<()> {
    base_restarts("fault-base", Activation::ActivateNew, 8).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_for_a_base_with_default_settings() -> Result<()> {
    base_restarts("fault-base-default", Activation::Default, 9).await
}

/// Install, update and uninstall, while something is the matter with every reply.
async fn cycle(stage: &Stage, base: &SimulatedBase, before_each: impl Fn()) -> Result<()> {
    for (pod, version) in [("old", "1"), ("new", "2")] {
        before_each();
        create(stage, pod, "biz1", version).await?;
        stage.pod_ready(pod).await?;
    }
    superseded(stage, "old").await?;
    for pod in ["old", "new"] {
        before_each();
        delete(stage, pod).await?;
        stage.pod_gone(pod).await?;
    }
    told_no_more_than(base, "biz1", &["install 1", "install 2", "uninstall 1", "uninstall 2"], QUIET).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_lost_are_made_up_for_by_the_list() -> Result<()> {
    let stage = Stage::set("fault-lost").await?;
    let base = stage.base(options(&stage, "base-1", Activation::ActivateNew)).await?;
    cycle(&stage, &base, || base.mute_next_reply(1)).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_come_twice_do_no_harm() -> Result<()> {
    let stage = stage("fault-doubled").await?;
    let base = stage.base(options(&stage, "base-1", Activation::ActivateNew)).await?;
    base.duplicate_replies(true);
    cycle(&stage, &base, || ()).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_come_late_are_waited_for() -> Result<()> {
    let stage = stage("fault-late").await?;
    let base = stage.base(options(&stage, "base-1", Activation::ActivateNew)).await?;
    stage.ends_quietly().await?;
    // Later than an answer is waited for before the question is put again.
    base.delay_replies(Duration::from_secs(4));
    cycle(&stage, &base, || ()).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_breaks_in_one_update_and_it_ends_well() -> Result<()> {
    let mut stage = stage("fault-all").await?;
    let bases = bases(&stage, Activation::Default).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 3, "1", &limits)).await?;
    converged(&stage, &bases, "1").await?;
    bases.iter().for_each(|b| b.delay_replies(Duration::from_millis(300)));
    stage.apply(&deployment(&stage, "biz1", 3, "2", &limits)).await?;
    let updating = async || bases.iter().filter(|b| told(b, "biz1").contains(&"install 2".to_owned())).count();
    eventually("the first base", SOON, async || updating().await > 0).await?;
    stage.controller.kill9().await?;
    bases[0].mute_next_reply(2);
    bases[1].restart().await?;
    stage.controller.restart().await?;
    eventually("the next base", SOON, async || updating().await > 1).await?;
    stage.broker.stop().await?;
    stage.controller.kill9().await?;
    stage.broker.start_again().await?;
    bases[2].restart().await?;
    stage.controller.restart().await?;
    converged(&stage, &bases, "2").await?;
    alone(&bases, "biz1", "2", CONVERGED).await?;
    for base in bases.iter() {
        let told = told(base, "biz1");
        let new = told.iter().position(|t| t == "switch 2").context("never switched").unwrap_or(told.len());
        assert!(told.len() <= 9 && !told[new..].contains(&"install 1".to_owned()), "{}: {told:?}", base.identity());
    }
    stage.ends_quietly().await
}
