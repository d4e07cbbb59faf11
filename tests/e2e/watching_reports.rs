//! Failures that are reported to hooks, and the trace by which people find what belongs together.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use modulet_testkit::{ports::free_port, wait::eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use crate::stage::{SOON, Stage, is_ready, module_pod};

const TRACE: &str = "release-42.a_b";
const TOKEN: &str = "t0psecret";

type Told = Arc<Mutex<Vec<(String, Value)>>>;

/// Takes one request, tells where it went and what it said.
async fn take(stream: TcpStream, told: Told) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = first.split(' ').nth(1).context("no path")?.to_owned();
    told.lock().await.push((path, serde_json::from_slice(&body)?));
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 13\r\n\r\n{\"errcode\":0}").await?;
    Ok(())
}

async fn hooks(port: u16) -> Result<Told> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let told = Told::default();
    let to = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, Arc::clone(&to)));
        }
    });
    Ok(told)
}

fn traced(stage: &Stage, name: &str, image: Option<&str>) -> Value {
    let mut pod = module_pod(&stage.name, name, &[(name, "1")]);
    pod["metadata"]["labels"]["trace.koupleless.io/id"] = json!(TRACE);
    if let Some(image) = image {
        pod["spec"]["containers"][0]["image"] = json!(image);
    }
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_reported_once_and_bears_its_trace_everywhere() -> Result<()> {
    let port = free_port()?;
    let told = hooks(port).await?;
    let hook = format!("http://127.0.0.1:{port}");
    let list = format!("{hook}/alerts;{hook}/robot/send?access_token={TOKEN}");
    let mut stage =
        Stage::set_with("reports", |options| options.env("REPORT_HOOKS", list).env("MODULET_LIST_EVERY", "1")).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let image = "https://me:s3cret@modules.example.com/biz1-broken-1-ark-biz.jar";
    stage.create_pod(traced(&stage, "biz1", Some(image))).await?;
    stage.create_pod(traced(&stage, "biz2", None)).await?;
    stage.pod_until("biz2", "Ready", is_ready).await?;
    // One for each Pod, and one that is tried again.
    base.wait_for_commands("installBiz", 3, SOON).await?;
    eventually("a second failure", SOON, async || {
        let pod = stage.pods().get("biz1").await?;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        ensure!(statuses.iter().any(|status| status.restart_count > 0), "it was tried once");
        Ok(())
    })
    .await?;
    eventually("both hooks told", SOON, async || {
        let count = told.lock().await.len();
        ensure!(count == 2, "{count} reports");
        Ok(())
    })
    .await?;
    // The next leader, or process, tells nobody again.
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    base.wait_for_commands("installBiz", 4, SOON).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = told.lock().await.clone();
    assert_eq!(all.len(), 2, "one for each hook, not for each try: {all:?}");
    let of = |path: &str| all.iter().find(|(at, _)| at.starts_with(path)).map(|(_, body)| body.clone());
    let (json, robot) = (of("/alerts").context("JSON")?, of("/robot/send?access_token=").context("DingTalk")?);
    assert_eq!((&json["traceID"], &json["result"], &json["code"]), (&json!(TRACE), &json!("fail"), &json!("01002")));
    assert_eq!((&json["labels"]["pod"], &json["labels"]["module"]), (&json!("biz1"), &json!("biz1:1")));
    assert!(
        json["message"].as_str().is_some_and(|m| m.starts_with("InstallFailed: ") && m.contains("broken")),
        "{json}"
    );
    assert_eq!(robot["msgtype"], "markdown");
    assert!(!format!("{all:?}").contains("s3cret"), "{all:?}");
    let log = stage.controller.log_text();
    assert!(!log.contains(TOKEN) && !log.contains("s3cret"), "a secret is in the log");
    for words in ["installing", "the base refused a command"] {
        let line = log.lines().find(|line| line.contains(words)).context(words)?;
        assert!(line.contains(&format!("trace=\"{TRACE}\"")), "{line}");
    }
    let events = Api::<Event>::namespaced(stage.client.clone(), &stage.name);
    let events = events.list(&ListParams::default().fields("involvedObject.kind=Pod")).await?.items;
    let ours: Vec<_> = events.iter().filter(|e| e.reporting_component.as_deref() == Some("modulet")).collect();
    assert!(ours.len() >= 4, "{} Events", ours.len());
    for event in ours {
        let annotation = event.metadata.annotations.as_ref().and_then(|all| all.get("trace.koupleless.io/id"));
        let note = event.message.clone().unwrap_or_default();
        assert_eq!(annotation.map(String::as_str), Some(TRACE), "{note}");
        assert!(note.ends_with(&format!("(trace {TRACE})")), "{note}");
    }
    stage.ends_quietly().await
}
