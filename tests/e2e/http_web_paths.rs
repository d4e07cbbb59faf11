//! Web modules with one context path: what one base has shown of them is known on the others before an update. And the
//! port of commands, on the Nodes of bases over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use modulet_testkit::{
    base::{Activation, BaseOptions, HttpBase, HttpOptions, SimulatedBase},
    ports::free_port,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    stage::{SOON, Stage, container_message, container_reason, module_pod},
    workloads::{deployment, rolled_out, told},
};

/// A command that is not to come would come within this.
const QUIET: Duration = Duration::from_secs(3);

/// A stage with both tunnels, and the port that bases over HTTP beat at.
async fn set(name: &str) -> Result<(Stage, u16)> {
    let port = free_port()?;
    let options = |options: modulet_testkit::controller::ControllerOptions| {
        options.env("ENABLE_HTTP_TUNNEL", "true").env("HTTP_TUNNEL_LISTEN_PORT", port.to_string())
    };
    Ok((Stage::set_with(name, options).await?, port))
}

/// A base of either tunnel.
enum Base {
    Mqtt(SimulatedBase),
    Http(HttpBase),
}

impl Base {
    /// A base with a web server, in which only `plain` has no context.
    async fn start(stage: &Stage, id: &str, http: Option<u16>) -> Result<Self> {
        let web = BaseOptions {
            web: true,
            plain: vec!["plain".to_owned()],
            activation: Activation::ActivateNew,
            ..stage.base_options(id)
        };
        let Some(port) = http else { return Ok(Self::Mqtt(stage.base(web).await?)) };
        let base = HttpBase::start(web, HttpOptions::new(port)).await?;
        stage.node_ready(&stage.node_name(id), "True").await?;
        Ok(Self::Http(base))
    }

    /// Installs and uninstalls of a module, in order.
    fn told(&self, module: &str) -> Vec<String> {
        let base = match self {
            Self::Mqtt(base) => return told(base, module),
            Self::Http(base) => base,
        };
        let of = |(_, body): &(String, Value)| body["bizName"] == module;
        let word = |(command, body): (String, Value)| {
            format!("{} {}", command.trim_end_matches("Biz"), body["bizVersion"].as_str().unwrap_or_default())
        };
        base.commands().into_iter().filter(of).map(word).collect()
    }
}

/// A Pod with one module, on that base.
async fn pod(stage: &Stage, id: &str, name: &str, module: (&str, &str), change: impl Fn(&mut Value)) -> Result<()> {
    let mut pod = module_pod(&stage.name, name, &[module]);
    pod["spec"]["nodeName"] = json!(stage.node_name(id));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    change(&mut pod);
    stage.create_pod(pod).await.map(drop)
}

async fn kept_out(stage: &Stage, name: &str) -> Result<String> {
    let in_use = |pod: &Pod| container_reason(pod) == Some("WebContextInUse");
    let pod = stage.pod_until(name, "WebContextInUse", in_use).await?;
    Ok(container_message(&pod).context("no message")?.to_owned())
}

async fn one_try_is_enough_for_the_fleet(name: &str, http: bool) -> Result<()> {
    let (mut stage, port) = set(name).await?;
    let mut bases = Vec::new();
    for id in ["base-1", "base-2", "base-3"] {
        bases.push(Base::start(&stage, id, http.then_some(port)).await?);
        pod(&stage, id, &format!("{id}-old"), ("webbiz", "1"), |_| {}).await?;
        pod(&stage, id, &format!("{id}-plain"), ("plain", "1"), |_| {}).await?;
    }
    for id in ["base-1", "base-2", "base-3"] {
        stage.pod_ready(&format!("{id}-old")).await?;
        stage.pod_ready(&format!("{id}-plain")).await?;
    }

    // The first base tries it. It is the only one.
    pod(&stage, "base-1", "tried", ("webbiz", "2"), |_| {}).await?;
    let tried = kept_out(&stage, "tried").await?;
    assert_eq!(bases[0].told("webbiz"), ["install 1", "install 2"]);
    pod(&stage, "base-2", "known", ("webbiz", "2"), |_| {}).await?;
    assert_eq!(kept_out(&stage, "known").await?, tried);
    let ways = ["WebContextInUse", "webbiz:2 cannot be loaded beside webbiz:1", "maxSurge 0", "update: replace"];
    stage.event_with("known", &ways).await?;
    assert!(tried.contains("the context path webbiz"), "{tried}");

    // Another process of ours learns it from what the Pods show.
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    pod(&stage, "base-1", "base-1-heard", ("other", "1"), |_| {}).await?;
    stage.pod_ready("base-1-heard").await?;
    pod(&stage, "base-3", "known-later", ("webbiz", "2"), |_| {}).await?;
    kept_out(&stage, "known-later").await?;

    // What has no context is updated beside them as ever, and so is what has another one.
    pod(&stage, "base-2", "plain-new", ("plain", "2"), |_| {}).await?;
    stage.pod_ready("plain-new").await?;
    assert_eq!(bases[1].told("plain")[..2], ["install 1", "install 2"]);
    tokio::time::sleep(QUIET).await;
    for base in &bases[1..] {
        assert_eq!(base.told("webbiz"), ["install 1"]);
    }
    stage.delete_pod("known-later").await?;
    let by_args = |pod: &mut Value| {
        pod["spec"]["containers"][0]["args"] = json!(["--server.servlet.context-path=/webbiz-v3"]);
    };
    pod(&stage, "base-3", "other-path", ("webbiz", "3"), by_args).await?;
    stage.pod_ready("other-path").await?;
    assert_eq!(bases[2].told("webbiz")[..2], ["install 1", "install 3"]);

    // A Pod that asks for room. Its jar was not fetched since this process runs, so it is tried first; on the next base
    // it is not.
    let replaces = |pod: &mut Value| {
        pod["metadata"]["annotations"] = json!({ "modulet.koupleless.io/update": "replace" });
    };
    for (id, index, tries) in [("base-1", 0, 2), ("base-2", 1, 0)] {
        let kept = if id == "base-1" { "tried" } else { "known" };
        stage.delete_pod(kept).await?;
        pod(&stage, id, &format!("{id}-room"), ("webbiz", "2"), replaces).await?;
        stage.pod_ready(&format!("{id}-room")).await?;
        let mut expected = vec!["install 1"];
        expected.extend(std::iter::repeat_n("install 2", tries));
        expected.extend(["uninstall 1", "install 2"]);
        assert_eq!(bases[index].told("webbiz"), expected, "{id}");
    }
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_base_over_http_refused_no_other_is_told_to_install() -> Result<()> {
    one_try_is_enough_for_the_fleet("web-known-http", true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_base_over_mqtt_refused_no_other_is_told_to_install() -> Result<()> {
    one_try_is_enough_for_the_fleet("web-known-mqtt", false).await
}

/// Of the first version that comes after one that is known nobody knows anything, and all Pods come at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_to_all_bases_is_tried_on_one() -> Result<()> {
    let (stage, port) = set("web-release").await?;
    let mut bases = Vec::new();
    for id in ["base-1", "base-2", "base-3", "base-4"] {
        bases.push(Base::start(&stage, id, Some(port)).await?);
    }
    let limits = json!({ "maxSurge": "100%", "maxUnavailable": 0 });
    let release = async |version: &str| stage.apply(&deployment(&stage, "webbiz", bases.len(), version, &limits)).await;
    release("1").await?;
    rolled_out(&stage, "deployment/webbiz").await?;
    for version in ["2", "3"] {
        release(version).await?;
        eventually(&format!("{version} kept out of all bases"), SOON, async || {
            let pods = stage.pods_with(&format!("module.koupleless.io/version={version}")).await?;
            let kept_out = pods.iter().filter(|pod| container_reason(pod) == Some("WebContextInUse")).count();
            ensure!(kept_out == bases.len(), "{kept_out} of {}", pods.len());
            Ok(())
        })
        .await?;
    }
    let told: Vec<_> = bases.iter().flat_map(|base| base.told("webbiz")).collect();
    let installs = |version: &str| told.iter().filter(|told| **told == format!("install {version}")).count();
    assert_eq!((installs("1"), installs("3")), (bases.len(), 1), "{told:?}");
    stage.kubectl(&["rollout", "undo", "deployment/webbiz", "--to-revision=1"]).await?;
    rolled_out(&stage, "deployment/webbiz").await?;
    stage.ends_quietly().await
}

/// Waits until the Node's labels say this port and this tunnel.
async fn says(stage: &Stage, id: &str, port: Option<u16>, tunnel: &str) -> Result<()> {
    let name = stage.node_name(id);
    eventually(&format!("port {port:?} and {tunnel} on {name}"), Duration::from_secs(60), async || {
        let labels = stage.nodes().get(&name).await?.metadata.labels.unwrap_or_default();
        let said = labels.get("base.koupleless.io/tunnel-port").cloned();
        ensure!(said == port.map(|port| port.to_string()), "{said:?}");
        for key in ["base.koupleless.io/tunnel", "vnode.koupleless.io/tunnel"] {
            ensure!(labels.get(key).is_some_and(|value| value == tunnel), "{labels:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_label_of_the_port_follows_a_base_that_moves() -> Result<()> {
    let (mut stage, port) = set("http-port").await?;
    let start = |id: &str| HttpBase::start(stage.base_options(id), HttpOptions::new(port));
    let first = start("base-1").await?;
    let mqtt = stage.base(stage.base_options("base-2")).await?;
    says(&stage, "base-1", Some(first.port()), "http_tunnel_provider").await?;
    says(&stage, "base-2", None, "mqtt_tunnel_provider").await?;

    first.kill();
    let second = start("base-1").await?;
    assert_ne!(first.port(), second.port());
    says(&stage, "base-1", Some(second.port()), "http_tunnel_provider").await?;

    // It is no other after a restart of ours.
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    says(&stage, "base-1", Some(second.port()), "http_tunnel_provider").await?;

    second.kill();
    let moved = Instant::now();
    let options = BaseOptions { heartbeat: Duration::from_secs(2), ..stage.base_options("base-1") };
    let third = SimulatedBase::start(options).await?;
    says(&stage, "base-1", None, "mqtt_tunnel_provider").await?;
    eprintln!("the label went {:.1?} after the last beat over HTTP", moved.elapsed());
    stage.ends_quietly().await?;
    drop((mqtt, third));
    Ok(())
}
