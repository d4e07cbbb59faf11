//! Probes of module Pods, against a server that a test holds in its hands: what `kubectl` and a Service show, what the base is
//! told, and what a failing probe stops.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};
use modulet::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};
use modulet_testkit::{
    base::{Activation, BaseOptions, SimulatedBase},
    control_plane::ControlPlane,
    helm::chart,
    ports::own_address,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    stage::{SOON, Stage, container_reason, is_ready, module_pod},
    workloads::{deployment, rolled_out, told},
};

/// Something that is not to happen would happen within this time.
const QUIET: Duration = Duration::from_secs(3);

/// What it answers, by path, and how often it was asked.
#[derive(Default)]
struct Pages {
    status: BTreeMap<String, u16>,
    asked: BTreeMap<String, usize>,
}

/// A server at an address of this machine that is not the loopback one: that would not be believed of a base.
struct Server {
    address: IpAddr,
    port: u16,
    pages: Arc<Mutex<Pages>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Result<Self> {
        let address = own_address()?;
        let listener = TcpListener::bind((address, 0)).await?;
        let (port, pages) = (listener.local_addr()?.port(), Arc::<Mutex<Pages>>::default());
        let kept = Arc::clone(&pages);
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let pages = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut bytes = [0; 2048];
                    let count = socket.read(&mut bytes).await.unwrap_or(0);
                    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    let status = {
                        let mut pages = lock(&pages);
                        *pages.asked.entry(path.clone()).or_default() += 1;
                        pages.status.get(&path).copied().unwrap_or(503)
                    };
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        Ok(Self { address, port, pages, task })
    }

    fn answers(&self, path: &str, status: u16) {
        lock(&self.pages).status.insert(path.to_owned(), status);
    }

    fn asked(&self, path: &str) -> usize {
        lock(&self.pages).asked.get(path).copied().unwrap_or(0)
    }

    /// Waits until it was asked so many times more.
    async fn is_asked(&self, path: &str, more: usize) -> Result<()> {
        let before = self.asked(path);
        eventually(&format!("{path} asked for"), SOON, async || {
            ensure!(self.asked(path) >= before + more, "{} of {more}", self.asked(path) - before);
            Ok(())
        })
        .await
    }

    fn probe(path: &str) -> Value {
        json!({ "httpGet": { "path": path, "port": "web" }, "periodSeconds": 1, "failureThreshold": 2 })
    }

    fn port(&self) -> Value {
        json!([{ "name": "web", "containerPort": self.port }])
    }
}

fn lock(pages: &Mutex<Pages>) -> MutexGuard<'_, Pages> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn started(pod: &Pod) -> Option<bool> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.started
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|all| all.first()).map_or(0, |status| status.restart_count)
}

fn ready_condition(pod: &Pod) -> Value {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    json!(conditions.into_iter().find(|c| c.type_ == "Ready"))
}

/// Whether the Service has a ready endpoint.
async fn has_endpoint(stage: &Stage, service: &str) -> Result<bool> {
    let slices = Api::<EndpointSlice>::namespaced(stage.client.clone(), &stage.name);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let endpoints = slices.list(&of).await?.items.into_iter().flat_map(|slice| slice.endpoints.into_iter().flatten());
    Ok(endpoints.into_iter().any(|e| e.conditions.is_some_and(|c| c.ready == Some(true))))
}

async fn serves(stage: &Stage, is: bool) -> Result<()> {
    eventually(&format!("an endpoint: {is}"), SOON, async || {
        ensure!(has_endpoint(stage, "biz1").await? == is);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_starts_is_ready_and_is_restarted_as_its_probes_say() -> Result<()> {
    let server = Server::start().await?;
    let mut stage = Stage::set("probes").await?;
    let base = stage.base(BaseOptions { ip: server.address.to_string(), ..stage.base_options("base-1") }).await?;
    let mut service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "biz1" } });
    service["spec"] =
        json!({ "selector": { "module.koupleless.io/name": "biz1" }, "ports": [{ "port": 80, "targetPort": "web" }] });
    stage.apply(&service).await?;
    let mut pod = module_pod(&stage.name, "biz1", &[("biz1", "1")]);
    let container = &mut pod["spec"]["containers"][0];
    container["ports"] = server.port();
    for (field, path) in [("startupProbe", "/start"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")] {
        container[field] = Server::probe(path);
    }
    container["startupProbe"]["failureThreshold"] = json!(600);
    server.answers("/live", 200);
    stage.create_pod(pod).await?;

    // Startup holds both others.
    let holds = |pod: &Pod| started(pod) == Some(false) && !is_ready(pod);
    stage.pod_until("biz1", "active and not started", holds).await?;
    server.is_asked("/start", 2).await?;
    assert_eq!((server.asked("/ready"), server.asked("/live")), (0, 0));
    server.answers("/start", 200);
    let waits = |pod: &Pod| started(pod) == Some(true) && !is_ready(pod);
    stage.pod_until("biz1", "started and not ready", waits).await?;
    serves(&stage, false).await?;

    // Ready follows its probe, there and back.
    for ready in [true, false, true] {
        server.answers("/ready", if ready { 200 } else { 503 });
        stage.pod_until("biz1", &format!("Ready: {ready}"), |pod| is_ready(pod) == ready).await?;
        serves(&stage, ready).await?;
    }
    stage.event_with("biz1", &["Readiness probe failed: HTTP probe failed with statuscode: 503"]).await?;
    assert_eq!((base.received("installBiz"), base.received("uninstallBiz")), (1, 0));

    // Another process goes on where this one was.
    let before = ready_condition(&stage.pods().get("biz1").await?);
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    server.is_asked("/ready", 2).await?;
    assert_eq!(ready_condition(&stage.pods().get("biz1").await?), before, "not written, let alone changed");
    assert_eq!(base.received("installBiz"), 1);

    // What does not live is installed again.
    server.answers("/live", 500);
    eventually("uninstalled", SOON, async || {
        ensure!(base.received("uninstallBiz") == 1);
        Ok(())
    })
    .await?;
    server.answers("/live", 200);
    stage.pod_until("biz1", "restarted and Ready", |pod| restarts(pod) == 1 && is_ready(pod)).await?;
    assert_eq!((base.received("installBiz"), base.received("uninstallBiz")), (2, 1));
    stage.event_with("biz1", &["Killing"]).await?;

    // What a module cannot do is named, and keeps nothing from being Ready.
    let mut with_exec = module_pod(&stage.name, "biz2", &[("biz2", "1")]);
    with_exec["spec"]["containers"][0]["readinessProbe"] = json!({ "exec": { "command": ["true"] } });
    stage.create_pod(with_exec).await?;
    stage.pod_ready("biz2").await?;
    eventually("an Event about exec", SOON, async || {
        let told_of = stage.told_about("biz2").await?;
        ensure!(
            told_of.iter().any(|e| e.contains("readinessProbe of biz2 (exec: a module has no process")),
            "{told_of:?}"
        );
        Ok(())
    })
    .await?;
    // Probes go on, and nothing is written.
    stage.ends_quietly().await
}

/// The kind must be known before modulet starts: it looks for one that comes later every 30 s only.
async fn knows_module_rollouts() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let definition = chart().join("definitions/modulerollouts.yaml").display().to_string();
    let kubectl = Tool::ControlPlane.program("kubectl").await?;
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &definition];
    let output =
        tokio::process::Command::new(kubectl).env("KUBECONFIG", cluster.kubeconfig()).args(apply).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Two bases with a Deployment whose versions each have a readiness probe of their own.
struct Release {
    stage: Stage,
    server: Server,
    bases: Vec<SimulatedBase>,
}

impl Release {
    async fn set(name: &str) -> Result<Self> {
        let server = Server::start().await?;
        knows_module_rollouts().await?;
        let stage = Stage::set(name).await?;
        let mut bases = Vec::new();
        for id in ["base-0", "base-1"] {
            let ip = server.address.to_string();
            let options = BaseOptions { ip, activation: Activation::ActivateNew, ..stage.base_options(id) };
            bases.push(stage.base(options).await?);
        }
        Ok(Self { stage, server, bases })
    }

    async fn template(&self, version: &str, surge: &Value) -> Result<()> {
        let limits = json!({ "maxSurge": surge, "maxUnavailable": 0 });
        let mut deployment = deployment(&self.stage, "biz1", 2, version, &limits);
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["ports"] = self.server.port();
        container["readinessProbe"] = Server::probe(&format!("/{version}"));
        self.stage.apply(&deployment).await
    }

    /// Bases that were told to install that version, ever.
    fn touched(&self, version: &str) -> usize {
        let install = format!("install {version}");
        self.bases.iter().filter(|base| told(base, "biz1").contains(&install)).count()
    }

    /// One base was told, and the other is not.
    async fn stops_after_one(&self, version: &str) -> Result<()> {
        self.server.is_asked(&format!("/{version}"), 3).await?;
        tokio::time::sleep(QUIET).await; // what is looked for is that nothing happens
        assert_eq!(self.touched(version), 1);
        Ok(())
    }

    async fn until(&self, what: &str, is: impl Fn(&ModuleRolloutStatus) -> bool) -> Result<()> {
        let api = Api::<ModuleRollout>::namespaced(self.stage.client.clone(), &self.stage.name);
        eventually(what, SOON, async || {
            let status = api.get("biz1").await?.status.unwrap_or_default();
            ensure!(is(&status), "{}", json!(status));
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_probe_that_fails_stops_an_update_and_a_batch() -> Result<()> {
    let release = Release::set("probes-release").await?;
    release.server.answers("/1", 200);
    release.template("1", &json!(1)).await?;
    rolled_out(&release.stage, "deployment/biz1").await?;

    release.template("2", &json!(1)).await?;
    release.stops_after_one("2").await?;
    let pods = release.stage.pods().list(&ListParams::default()).await?.items;
    assert!(pods.iter().any(|pod| container_reason(pod) == Some("BizDeactivate")), "the base has the new version");
    assert_eq!(pods.iter().filter(|pod| is_ready(pod)).count(), 1, "the other one serves the old version");
    release.server.answers("/2", 200);
    rolled_out(&release.stage, "deployment/biz1").await?;

    let rollout = json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout", "metadata": { "name": "biz1" },
        "spec": {
            "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" },
            "progressDeadlineSeconds": 3, "steps": [{ "replicas": 1 }, { "replicas": "100%" }],
        },
    });
    release.stage.apply(&rollout).await?;
    release.until("looked at", |status| status.phase == Some(Phase::Idle)).await?;
    release.template("3", &json!("100%")).await?;
    release.until("paused", |status| status.phase == Some(Phase::Paused)).await?;
    release.stops_after_one("3").await?;
    release.server.answers("/3", 200);
    let revision = release.stage.kubectl(&["get", "mro/biz1", "-o", "jsonpath={.status.revision}"]).await?;
    let retry = format!("modulet.koupleless.io/retry={revision}");
    release.stage.kubectl(&["annotate", "--overwrite", "mro/biz1", &retry]).await?;
    release.until("completed", |status| status.phase == Some(Phase::Completed)).await?;
    rolled_out(&release.stage, "deployment/biz1").await?;
    release.stage.ends_quietly().await
}
