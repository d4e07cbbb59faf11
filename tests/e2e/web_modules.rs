//! Web modules: real ones, each a context of its base's Tomcat, called through a Service all the time.
//!
//! With `examples/strategies/web-module.yaml` as it stands, but for the names of bases, their number, and where
//! jars are.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    http,
    java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url},
    wait::eventually,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::SemaphorePermit,
};

use crate::{
    endpoints::{Call, Client, Endpoints},
    real_base::{JVMS, http_stage, java_base_options, java_base_options_http},
    stage::{SOON, Stage, container_reason},
};

const FILE: &str = "strategies/web-module.yaml";
/// Clients that call at the same time.
const CLIENTS: usize = 2;
/// Calls that each client makes at least between two steps.
const CALLS: usize = 200;

/// The new Pod comes beside the old one.
const SURGE: [(&str, &str); 3] = [
    ("maxSurge: 0", "maxSurge: 1"),
    ("maxUnavailable: 1", "maxUnavailable: 0"),
    ("topologyKey: kubernetes", "matchLabelKeys: [pod-template-hash]\n              topologyKey: kubernetes"),
];

/// The same, and the old Pod makes room.
const REPLACE: [(&str, &str); 4] = [
    SURGE[0],
    SURGE[1],
    SURGE[2],
    (
        "    metadata:\n      labels:",
        "    metadata:\n      annotations:\n        modulet.koupleless.io/update: replace\n      labels:",
    ),
];

/// A stage with JVMs whose modules are web applications, called base-1, base-2 ..., with version 0.0.1 on all.
struct Scene {
    stage: Stage,
    bases: Vec<JavaBase>,
    endpoints: Arc<Endpoints>,
    /// Where the endpoints really are.
    routes: BTreeMap<String, String>,
    /// What else is changed in the file.
    changes: &'static [(&'static str, &'static str)],
    _permits: SemaphorePermit<'static>,
}

impl Scene {
    /// With bases where the newest version serves.
    async fn set(name: &str, count: u32, changes: &'static [(&'static str, &'static str)]) -> Result<Self> {
        let permits = JVMS.acquire_many(count).await?;
        let stage = Stage::set(name).await?;
        let options = JavaBaseOptions { activate_new_module: true, ..java_base_options(&stage, "base") };
        Self::on(stage, permits, options, changes).await
    }

    /// With bases that speak HTTP, and have all else as it is by default.
    async fn over_http(name: &str, count: u32, changes: &'static [(&'static str, &'static str)]) -> Result<Self> {
        let permits = JVMS.acquire_many(count).await?;
        let (stage, endpoint) = http_stage(name).await?;
        let options = java_base_options_http(&stage, &endpoint, "base");
        Self::on(stage, permits, options, changes).await
    }

    async fn on(
        stage: Stage,
        permits: SemaphorePermit<'static>,
        options: JavaBaseOptions,
        changes: &'static [(&'static str, &'static str)],
    ) -> Result<Self> {
        ensure_built(|line| eprintln!("{line}")).await?;
        let (mut bases, mut routes) = (Vec::new(), BTreeMap::new());
        for number in 1..=permits.num_permits() {
            let id = format!("base-{number}");
            // An endpoint may not be an address of loopback, nor may two be the same.
            let ip = format!("10.20.0.{number}");
            let options = JavaBaseOptions { id: id.clone(), ip: ip.clone(), web: true, ..options.clone() };
            let base = JavaBase::start(options).await?;
            stage.node_ready(&stage.node_name(&id), "True").await?;
            routes.insert(format!("{ip}:8080"), format!("127.0.0.1:{}", base.http_port()));
            bases.push(base);
        }
        let endpoints = Endpoints::watch(&stage, "webbiz").await?;
        let scene = Self { stage, bases, endpoints, routes, changes, _permits: permits };
        scene.release("0.0.1").await?;
        scene.updated_to("0.0.1").await?;
        Ok(scene)
    }

    async fn release(&self, version: &str) -> Result<()> {
        let here = format!("base.koupleless.io/name: {}", self.stage.name);
        let replicas = format!("replicas: {}", self.bases.len());
        let jar = module_url("webbiz", version);
        let mut changes = vec![
            ("base.koupleless.io/name: base", here.as_str()),
            ("replicas: 3", &replicas),
            ("https://modules.example.com/webbiz-0.0.1-ark-biz.jar", &jar),
        ];
        // The URL has the version in it already.
        if version != "0.0.1" {
            changes.push(("0.0.1", version));
        }
        changes.extend(self.changes);
        self.stage.apply_example(FILE, &changes).await
    }

    /// Waits until the rollout is done, and all bases have that version alone and are in the Service.
    async fn updated_to(&self, version: &str) -> Result<()> {
        self.stage.kubectl(&["rollout", "status", "deployment/webbiz", "--timeout=90s"]).await?;
        eventually(&format!("{version} on all bases"), SOON, async || {
            for base in &self.bases {
                let modules = base.ask("").await?.unwrap_or_default();
                ensure!(modules == format!("webbiz:{version} activated"), "{}: {modules}", base.id());
                let answer = base.ask("webbiz/version").await?;
                ensure!(answer == Some(format!("webbiz {version} on {}", base.id())), "{answer:?}");
            }
            Ok(())
        })
        .await?;
        self.endpoints.are(self.bases.len()).await.map(drop)
    }

    fn clients(&self) -> Vec<Client> {
        (0..CLIENTS).map(|_| Client::start_via(&self.endpoints, "/webbiz/version", self.routes.clone())).collect()
    }
}

/// Lets each client make some more calls.
async fn more_calls(clients: &[Client]) -> Result<()> {
    for client in clients {
        client.makes(CALLS).await?;
    }
    Ok(())
}

fn failed(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.answer.is_err()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_while_a_web_module_is_updated_or_a_broken_version_is_released() -> Result<()> {
    let scene = Scene::set("web-update", 2, &[]).await?;
    let clients = scene.clients();
    more_calls(&clients).await?;

    for version in ["0.0.2", "0.0.3"] {
        let (start, mark) = (Instant::now(), scene.endpoints.mark());
        scene.release(version).await?;
        scene.updated_to(version).await?;
        assert_eq!(scene.endpoints.fewest(mark), 1, "one base at a time leaves the Service");
        eprintln!(
            "update to {version}: {:.1?}; one of two bases was out of the Service for {:.1?} at the longest",
            start.elapsed(),
            scene.endpoints.longest_with_less_than(2, mark)
        );
        more_calls(&clients).await?;
    }

    // A version that cannot start: the update stops at the first base, and the others serve on.
    let mark = scene.endpoints.mark();
    scene.release("0.0.4").await?;
    eventually("InstallFailed", SOON, async || {
        let pods = scene.stage.pods_with("module.koupleless.io/version=0.0.4").await?;
        ensure!(pods.len() == 1, "{} Pods", pods.len());
        ensure!(container_reason(&pods[0]) == Some("InstallFailed"), "{:?}", container_reason(&pods[0]));
        Ok(())
    })
    .await?;
    more_calls(&clients).await?;
    scene.stage.kubectl(&["rollout", "undo", "deployment/webbiz"]).await?;
    scene.updated_to("0.0.3").await?;
    assert_eq!(scene.endpoints.fewest(mark), 1, "the other base is in the Service all the time");
    more_calls(&clients).await?;

    let calls: Vec<Vec<Call>> = clients.iter().map(Client::calls).collect();
    drop(clients);
    let made: usize = calls.iter().map(Vec::len).sum();
    let lost: Vec<_> = calls.iter().flat_map(|calls| failed(calls)).collect();
    eprintln!("two updates, a broken one and its undoing: {made} calls, {} lost", lost.len());
    assert!(lost.is_empty(), "{} of {made}: {:?}", lost.len(), lost.first());
    for version in ["0.0.1", "0.0.2", "0.0.3"] {
        for base in ["base-1", "base-2"] {
            let answer = format!("webbiz {version} on {base}");
            let seen = calls.iter().flatten().any(|call| call.answer.as_ref() == Ok(&answer));
            assert!(seen, "nobody got {answer:?}");
        }
    }
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_real_web_module_with_surge_says_the_ways_out_and_the_old_version_serves_on() -> Result<()> {
    let scene = Scene::set("web-surge", 1, &SURGE).await?;
    let clients = scene.clients();
    scene.release("0.0.2").await?;
    let pod = eventually("the new Pod", SOON, async || {
        let pods = scene.stage.pods_with("module.koupleless.io/version=0.0.2").await?;
        pods.first().and_then(|pod| pod.metadata.name.clone()).context("none")
    })
    .await?;
    let words = ["Warning", "WebContextInUse", "Child name [webbiz] is not unique", "maxSurge 0", "preStop.sleep"];
    eprintln!("{}", scene.stage.event_with(&pod, &words).await?);
    let kept_out = |pod: &_| container_reason(pod) == Some("WebContextInUse");
    scene.stage.pod_until(&pod, "kept out", kept_out).await?;
    more_calls(&clients).await?;
    scene.stage.kubectl(&["rollout", "undo", "deployment/webbiz"]).await?;
    scene.stage.pod_gone(&pod).await?;
    scene.updated_to("0.0.1").await?;
    more_calls(&clients).await?;
    for client in clients {
        let calls = client.calls();
        assert!(failed(&calls).is_empty(), "{:?}", failed(&calls).first());
        assert!(calls.iter().all(|call| call.answer.as_deref() == Ok("webbiz 0.0.1 on base-1")));
    }
    scene.stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_module_that_asks_for_room_is_updated_over_http_and_put_back_and_no_call_is_lost() -> Result<()> {
    let scene = Scene::over_http("web-http", 2, &REPLACE).await?;
    let clients = scene.clients();
    more_calls(&clients).await?;
    let mark = scene.endpoints.mark();
    scene.release("0.0.2").await?;
    scene.updated_to("0.0.2").await?;
    assert_eq!(scene.endpoints.fewest(mark), 1, "one base at a time leaves the Service");
    more_calls(&clients).await?;

    // What does not start is tried once, and the old version is put back.
    scene.release("0.0.4").await?;
    let broken = eventually("the Pod that cannot start", SOON, async || {
        let pods = scene.stage.pods_with("module.koupleless.io/version=0.0.4").await?;
        let failed = pods.iter().find(|pod| container_reason(pod) == Some("InstallFailed")).context("none")?;
        failed.metadata.name.clone().context("no name")
    })
    .await?;
    scene.stage.event_with(&broken, &["Warning", "broken on purpose"]).await?;
    scene.endpoints.are(2).await?;
    scene.stage.kubectl(&["rollout", "undo", "deployment/webbiz"]).await?;
    scene.updated_to("0.0.2").await?;
    more_calls(&clients).await?;
    for client in clients {
        let calls = client.calls();
        assert!(failed(&calls).is_empty(), "{} of {}: {:?}", failed(&calls).len(), calls.len(), failed(&calls).first());
    }
    let switched = scene.stage.controller.metric("modulet_commands_total", &[("name", "switchBiz")]).await?;
    assert!(switched < 0.5, "there is nothing to switch to");
    scene.stage.ends_quietly().await
}

/// Asks over a connection that stays open, without wanting a body: the status.
async fn ask_again(connection: &mut BufReader<TcpStream>) -> Result<u16> {
    connection.write_all(b"HEAD /webbiz/version HTTP/1.1\r\nHost: webbiz\r\n\r\n").await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(connection.read_line(&mut head).await? > 0, "closed after {head:?}");
    }
    ensure!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok(status.parse()?)
}

/// With other Pods it ends with the process; a base goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stays_open_stays_with_its_base() -> Result<()> {
    let scene = Scene::set("web-open", 1, &[]).await?;
    let address = format!("127.0.0.1:{}", scene.bases[0].http_port());
    let mut connection = BufReader::new(TcpStream::connect(&address).await?);
    assert_eq!(ask_again(&mut connection).await?, 200);
    let slow = tokio::spawn(async move { http::get(&address, "/webbiz/version?wait=4000").await });
    scene.stage.kubectl(&["scale", "deployment/webbiz", "--replicas=0"]).await?;
    scene.endpoints.are(0).await?;
    assert_eq!(ask_again(&mut connection).await?, 200, "during preStop.sleep");
    eventually("the uninstall", SOON, async || {
        let modules = scene.bases[0].ask("").await?.unwrap_or_default();
        ensure!(modules.is_empty(), "{modules}");
        Ok(())
    })
    .await?;
    assert_eq!(ask_again(&mut connection).await?, 404);
    assert_eq!(slow.await??.0, 200, "a request that is shorter than the sleep");
    scene.stage.ends_quietly().await
}
