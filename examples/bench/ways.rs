//! Two ways to write the same statuses, in turn: today's patches, and server-side apply.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use modulet::{domain::Reachability, k8s::Ready};
use serde_json::{Value, json};

use crate::{
    Options, ceiling,
    figures::Latency,
    objects::{self, in_parallel, request},
    progress::say,
    stage::Stage,
    table,
    usage::{Usage, child},
};

/// Objects of each kind.
const OBJECTS: usize = 1000;
/// Each way is taken that often, in turn.
const ROUNDS: usize = 4;
/// All writes bear this name, as those of modulet do.
const MANAGER: &str = "modulet";

/// A way to write, and what it took.
#[derive(Default)]
struct Way {
    took: Vec<Duration>,
    server: f64,
    own: f64,
}

/// Measures both and prints a table.
pub(crate) async fn compare(options: &Options) -> Result<()> {
    let stage = Stage::start(options.clone()).await?;
    let measured = rounds(&stage).await;
    stage.stop().await?;
    let ways = measured?;
    let head =
        ["status of", "way", "p50 ms", "p99 ms", "API server, ms of CPU per write", "writer, ms of CPU per write"];
    let rows = ways.into_iter().map(|((kind, way), Way { took, server, own })| {
        let writes = u32::try_from(took.len()).map_or(1.0, f64::from);
        let latency = Latency::of(way, took);
        let figures = [latency.p50_ms, latency.p99_ms, server * 1000.0 / writes, own * 1000.0 / writes];
        [kind.to_owned(), way.to_owned()].into_iter().chain(figures.map(|f| format!("{f:.2}"))).collect()
    });
    let mut text = format!("{OBJECTS} objects of each kind, {ROUNDS} rounds, {} writers\n\n", options.writers());
    table::table(&mut text, &head, rows);
    println!("{text}");
    Ok(())
}

async fn rounds(stage: &Stage) -> Result<BTreeMap<(&'static str, &'static str), Way>> {
    let (client, writers) = (&stage.client, stage.options.writers());
    let (all_nodes, all_pods) = ("/api/v1/nodes".to_owned(), objects::pods());
    let (nodes, pods_at) = (client.clone(), client.clone());
    let (to_nodes, to_pods) = (all_nodes.clone(), all_pods.clone());
    in_parallel(writers, OBJECTS, move |n| {
        let (client, nodes) = (nodes.clone(), to_nodes.clone());
        let body = ceiling::with_node(n, "1.0.0", |node| Ready::from(Reachability::Online).map(|r| node.create(r)));
        async move { objects::create(&client, &nodes, &body.context("a Node of a base that is online")?).await }
    })
    .await?;
    let pods = in_parallel(writers, OBJECTS, move |n| {
        let (client, pods) = (pods_at.clone(), to_pods.clone());
        async move { Ok(serde_json::from_str(&objects::create(&client, &pods, &objects::ceiling_pod(n)).await?)?) }
    });
    let pods: Arc<Vec<Pod>> = Arc::new(pods.await?);
    let mut ways = BTreeMap::<_, Way>::new();
    for round in 0..ROUNDS {
        // Each write changes something, as modulet's do.
        for (way, step) in [("patch", 0), ("apply", 1)] {
            say(&format!("{way}, round {}", round + 1));
            let turn = round * 2 + step;
            let node_status = move |n: usize| {
                let version = format!("1.0.{}", turn + 1);
                let status = ceiling::with_node(n, &version, |node| {
                    Ready::from(Reachability::Online).map(|ready| node.status(None, ready))
                });
                json!({ "apiVersion": "v1", "kind": "Node", "status": status })
            };
            let node = ways.entry(("Node", way)).or_default();
            run(stage, way, all_nodes.clone(), node_status, node).await?;
            let pods = Arc::clone(&pods);
            let pod_status = move |n: usize| {
                let restarts = u32::try_from(turn).unwrap_or_default();
                let mut patch = pods.get(n).map(|pod| ceiling::active(pod, restarts)).unwrap_or_default();
                (patch["apiVersion"], patch["kind"]) = (json!("v1"), json!("Pod"));
                patch
            };
            let pod = ways.entry(("Pod", way)).or_default();
            run(stage, way, all_pods.clone(), pod_status, pod).await?;
        }
    }
    Ok(ways)
}

/// Writes the status of each object once.
async fn run(
    stage: &Stage,
    way: &'static str,
    collection: String,
    body: impl Fn(usize) -> Value + Send + Sync + 'static,
    so_far: &mut Way,
) -> Result<()> {
    let server = child("kube-apiserver")?;
    let (client, own) = (stage.client.clone(), std::process::id());
    // Made before the clock runs: both ways have the same to say.
    let bodies: Arc<Vec<Value>> = Arc::new((0..OBJECTS).map(body).collect());
    let before = (Usage::of(server)?, Usage::of(own)?);
    let took = in_parallel(stage.options.writers(), OBJECTS, move |n| {
        let (client, collection, bodies) = (client.clone(), collection.clone(), Arc::clone(&bodies));
        async move {
            let name = format!("ceiling-{n}");
            let mut body = bodies.get(n).cloned().unwrap_or_default();
            body["metadata"]["name"] = json!(name);
            let mut path = format!("{collection}/{name}/status?fieldManager={MANAGER}");
            let content_type = if way == "apply" {
                path.push_str("&force=true");
                without_directives(&mut body);
                "application/apply-patch+yaml"
            } else {
                "application/strategic-merge-patch+json"
            };
            let start = Instant::now();
            client.request_text(request(Method::PATCH, &path, content_type, &body)?).await?;
            Ok(start.elapsed())
        }
    });
    so_far.took.extend(took.await.with_context(|| format!("writing statuses by {way}"))?);
    so_far.server += Usage::of(server)?.cpu - before.0.cpu;
    so_far.own += Usage::of(own)?.cpu - before.1.cpu;
    Ok(())
}

/// What is applied says all that is ours, so it needs neither nulls nor directives.
fn without_directives(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_directives);
        }
        Value::Array(list) => {
            list.retain(|v| v.get("$patch").is_none());
            list.iter_mut().for_each(without_directives);
        }
        _ => {}
    }
}
