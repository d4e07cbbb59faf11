//! Traffic where modules have a readiness probe: what those see who call through a Service while a module is updated.
//!
//! Real bases at the machine's own address, so that probes reach them; each has a port of its own, and so a Deployment of
//! its own behind the one Service.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use modulet_testkit::{
    java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url},
    wait::eventually,
};

use crate::{
    endpoints::{Call, Client, Endpoints},
    real_base::{JVMS, java_base_options},
    stage::{SOON, Stage},
};

/// Clients that call at the same time.
const CLIENTS: usize = 2;
/// Calls that each client makes at least before and after an update.
const CALLS: usize = 200;
/// Asked each second, and for the first time a second after the module is active.
const PROBE: &str = "          readinessProbe:
            httpGet: { path: PATH, port: http }
            initialDelaySeconds: 1
            periodSeconds: 1
          ports:";

async fn start(stage: &Stage, number: u32, adapt: impl FnOnce(&mut JavaBaseOptions)) -> Result<JavaBase> {
    let id = format!("base-{number}");
    let name = format!("{}-{number}", stage.name);
    // Its own idea of its address: one of loopback is not believed.
    let mut options = JavaBaseOptions { ip: String::new(), name, ..java_base_options(stage, &id) };
    adapt(&mut options);
    let base = JavaBase::start(options).await?;
    stage.node_ready(&stage.node_name(&id), "True").await?;
    Ok(base)
}

/// The example's Deployment for one base alone.
async fn release(stage: &Stage, file: &str, module: &str, number: u32, base: &JavaBase, version: &str) -> Result<()> {
    let deployment = format!("{module}-{number}");
    let kind = format!("kind: Deployment\nmetadata:\n  name: {module}");
    let label = format!("    matchLabels:\n      module.koupleless.io/name: {module}");
    let renamed = format!("kind: Deployment\nmetadata:\n  name: {deployment}");
    let selected = format!("    matchLabels:\n      app: {deployment}");
    let labels = "      labels:\n        module-controller";
    let labelled = format!("      labels:\n        app: {deployment}\n        module-controller");
    let port = format!("containerPort: {}", base.http_port());
    let path = if module == "webbiz" { "/webbiz/version" } else { "/biz1" };
    let probe = PROBE.replace("PATH", path);
    let (image, jar) = (format!("https://modules.example.com/{module}-0.0.1-ark-biz.jar"), module_url(module, version));
    let name = format!("{}-{number}", stage.name);
    let (selector, here) = match module {
        "webbiz" => ("base.koupleless.io/name: base", format!("base.koupleless.io/name: {name}")),
        _ => ("values: [base]", format!("values: [{name}]")),
    };
    let mut changes = vec![
        (kind.as_str(), renamed.as_str()),
        (&label, &selected),
        (labels, &labelled),
        ("replicas: 3", "replicas: 1"),
        ("containerPort: 8080", &port),
        ("          ports:", &probe),
        (&image, &jar),
        (selector, &here),
    ];
    // The URL has the version in it already.
    if version != "0.0.1" {
        changes.push(("0.0.1", version));
    }
    stage.apply_example(file, &changes).await?;
    stage.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=80s"]).await?;
    eventually(&format!("{version} alone on {}", base.id()), SOON, async || {
        let modules = base.ask("").await?.unwrap_or_default();
        ensure!(modules == format!("{module}:{version} activated"), "{modules}");
        Ok(())
    })
    .await
}

/// What all clients got, of which each called some times more.
async fn calls(clients: Vec<Client>) -> Result<Vec<Call>> {
    more_calls(&clients).await?;
    Ok(clients.iter().flat_map(Client::calls).collect())
}

async fn more_calls(clients: &[Client]) -> Result<()> {
    for client in clients {
        client.makes(CALLS).await?;
    }
    Ok(())
}

fn clients(endpoints: &Arc<Endpoints>, path: &str) -> Vec<Client> {
    (0..CLIENTS).map(|_| Client::start(endpoints, path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_while_a_web_module_with_a_readiness_probe_is_updated() -> Result<()> {
    let file = "strategies/web-module.yaml";
    let _permits = JVMS.acquire_many(2).await?;
    ensure_built(|line| eprintln!("{line}")).await?;
    let stage = Stage::set("probed-web").await?;
    let mut bases = Vec::new();
    for number in 1..=2 {
        let base = start(&stage, number, |options| options.web = true).await?;
        release(&stage, file, "webbiz", number, &base, "0.0.1").await?;
        bases.push((number, base));
    }
    let endpoints = Endpoints::watch(&stage, "webbiz").await?;
    endpoints.are(2).await?;
    let clients = clients(&endpoints, "/webbiz/version");
    more_calls(&clients).await?;

    let (began, mark) = (Instant::now(), endpoints.mark());
    for (number, base) in &bases {
        release(&stage, file, "webbiz", *number, base, "0.0.2").await?;
        endpoints.are(2).await?;
    }
    assert_eq!(endpoints.fewest(mark), 1, "one base at a time leaves the Service");
    let (took, away) = (began.elapsed(), endpoints.longest_with_less_than(2, mark));
    let calls = calls(clients).await?;
    let lost: Vec<_> = calls.iter().filter(|call| call.answer.is_err()).collect();
    eprintln!(
        "with a probe: {took:.1?} for both bases, one was out of the Service for {away:.1?} at the longest; {} calls, {} lost",
        calls.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), calls.len(), lost.first());
    for (number, base) in &bases {
        for version in ["0.0.1", "0.0.2"] {
            let answer = format!("webbiz {version} on {}", base.id());
            assert!(
                calls.iter().any(|call| call.answer.as_ref() == Ok(&answer)),
                "nobody got {answer:?} of base {number}"
            );
        }
    }
    stage.ends_quietly().await
}

/// With nobody else to call there is a time without an endpoint: the old version has gone when the new one is probed.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_base_is_out_of_its_service_until_the_new_version_has_been_probed() -> Result<()> {
    let _permit = JVMS.acquire().await?;
    ensure_built(|line| eprintln!("{line}")).await?;
    let stage = Stage::set("probed-one").await?;
    let base = start(&stage, 1, |options| options.activate_new_module = true).await?;
    release(&stage, "service.yaml", "biz1", 1, &base, "0.0.1").await?;
    let endpoints = Endpoints::watch(&stage, "biz1").await?;
    endpoints.are(1).await?;
    let clients = clients(&endpoints, "/biz1");
    more_calls(&clients).await?;

    let mark = endpoints.mark();
    release(&stage, "service.yaml", "biz1", 1, &base, "0.0.2").await?;
    endpoints.are(1).await?;
    let away = endpoints.longest_with_less_than(1, mark);
    let calls = calls(clients).await?;
    let lost: Vec<_> = calls.iter().filter_map(|call| call.answer.as_ref().err()).collect();
    eprintln!("one base with a probe: no endpoint for {away:.1?}; {} calls, {} found none", calls.len(), lost.len());
    // The module itself is not away for a moment: whoever finds an endpoint is answered.
    assert!(lost.iter().all(|why| *why == "no endpoint is ready"), "{:?}", lost.first());
    assert!(!away.is_zero() && away < SOON, "{away:?}");
    stage.ends_quietly().await
}
