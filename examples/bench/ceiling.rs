//! What the API server can do at best: the writes of modulet, by a client that does nothing else, while nothing
//! else happens.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use modulet::{
    domain::{BaseInfo, ContainerOutcome, Health, Phase, PodOutcome, Reachability},
    k8s::{NodeWriter, Ready, StatusWriter, names, status_patch},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    figures::Latency,
    objects::{self, NAMESPACE, in_parallel, request},
    progress::say,
    scrape::Series,
    stage::Stage,
};

/// No kind of write may take longer, for all objects together.
const LIMIT: Duration = Duration::from_mins(3);
/// Fewer would not tell a rate, and more would only take longer.
const OBJECTS: std::ops::RangeInclusive<usize> = 200..=1000;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Writes per second, by kind.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Ceiling(pub(crate) BTreeMap<&'static str, f64>);

/// What to do to one object.
struct Write {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

impl Write {
    fn new(method: Method, path: String, content_type: &'static str, body: Value) -> Self {
        Self { method, path, content_type, body }
    }
}

struct Meter {
    client: Client,
    writers: usize,
    count: usize,
    rates: BTreeMap<&'static str, f64>,
}

impl Ceiling {
    /// Measures it, with as many objects as there will be bases, and leaves nothing behind.
    pub(crate) async fn measure(stage: &Stage) -> Result<Self> {
        let count = stage.options.bases().clamp(*OBJECTS.start(), *OBJECTS.end());
        let writers = stage.options.writers();
        say(&format!("the API server's ceiling: {count} objects, {writers} writers"));
        let mut meter = Meter { client: stage.client.clone(), writers, count, rates: BTreeMap::new() };
        let get = |_| Write::new(Method::GET, "/version".to_owned(), "application/json", Value::Null);
        meter.run("connections", get).await?;
        meter.rates.clear();

        meter.nodes().await?;
        meter.leases().await?;
        meter.pods().await?;
        meter
            .run("event create", |n| {
                let events = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
                Write::new(Method::POST, events, "application/json", objects::event(n))
            })
            .await?;
        meter.clear().await?;
        Ok(Self(meter.rates))
    }

    /// As many Pods at once as in the burst, each with its status as soon as it is there: how long that status takes
    /// when nobody else is in the way.
    pub(crate) async fn burst(stage: &Stage) -> Result<Latency> {
        let count = stage.options.burst();
        let (client, pods) = (stage.client.clone(), objects::pods());
        let created = in_parallel(stage.options.writers(), count, move |n| {
            let (client, pods) = (client.clone(), pods.clone());
            async move {
                let pod = serde_json::from_str(&objects::create(&client, &pods, &objects::ceiling_pod(n)).await?)?;
                let start = Instant::now();
                let request = request(Method::PATCH, &format!("{pods}/ceiling-{n}/status"), STRATEGIC, &ready(&pod))?;
                Ok(tokio::spawn(async move { client.request_text(request).await.map(|_| start.elapsed()) }))
            }
        });
        let mut took = Vec::with_capacity(count);
        for status in created.await.context("measuring the ceiling of the burst")? {
            took.push(status.await??);
        }
        let client = stage.client.clone();
        let removal = in_parallel(stage.options.writers(), count, move |n| {
            let client = client.clone();
            async move { objects::delete(&client, &format!("{}/ceiling-{n}?gracePeriodSeconds=0", objects::pods())).await }
        });
        removal.await?;
        Ok(Latency::of("status of a new Pod", took))
    }

    /// Seconds that these writes would take at the ceiling. `created` of the Nodes and Leases are new ones.
    pub(crate) fn seconds(&self, writes: &Series, created: usize, own: &[(&str, usize)]) -> f64 {
        let count = |kind: &str| writes.get(kind).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts of objects")]
        let (created, own) = (created as f64, own.iter().map(|(kind, n)| (*kind, *n as f64)));
        let parts = [
            ("node create", created.min(count("node"))),
            ("node patch", (count("node") - created).max(0.0)),
            ("lease create", created.min(count("lease"))),
            ("lease patch", (count("lease") - created).max(0.0)),
            ("pod status", count("pod_status")),
            ("pod removal", count("pod_delete")),
            ("event create", count("event")),
        ];
        let parts = parts.into_iter().chain(own);
        parts.filter_map(|(kind, n)| Some(n / self.0.get(kind)?)).sum()
    }
}

impl Meter {
    /// One write for each object; returns the answers.
    async fn run(
        &mut self,
        kind: &'static str,
        write: impl Fn(usize) -> Write + Send + Sync + 'static,
    ) -> Result<Vec<String>> {
        let client = self.client.clone();
        let start = Instant::now();
        let all = in_parallel(self.writers, self.count, move |number| {
            let (client, write) = (client.clone(), write(number));
            async move {
                let request = request(write.method, &write.path, write.content_type, &write.body)?;
                Ok(client.request_text(request).await?)
            }
        });
        let all = tokio::time::timeout(LIMIT, all).await;
        let all = all.with_context(|| format!("{kind}, {} times: not within {LIMIT:?}", self.count))?;
        let all = all.with_context(|| format!("measuring the ceiling of {kind}"))?;
        #[expect(clippy::cast_precision_loss, reason = "a count of objects")]
        let rate = self.count as f64 / start.elapsed().as_secs_f64();
        self.rates.insert(kind, rate);
        Ok(all)
    }

    async fn nodes(&mut self) -> Result<()> {
        self.run("node create", |n| {
            let body = with_node(n, "1.0.0", |node| Ready::from(Reachability::Online).map(|ready| node.create(ready)));
            Write::new(Method::POST, "/api/v1/nodes".to_owned(), "application/json", body.unwrap_or_default())
        })
        .await?;
        self.run("node patch", |n| {
            let ledger = json!({ "metadata": { "annotations": { names::LEDGER: r#"{"i":{"biz":["1.0.0"]}}"# } } });
            Write::new(Method::PATCH, format!("/api/v1/nodes/ceiling-{n}"), STRATEGIC, ledger)
        })
        .await?;
        self.run("node status", |n| {
            let status =
                with_node(n, "1.0.1", |node| Ready::from(Reachability::Online).map(|ready| node.status(None, ready)));
            let path = format!("/api/v1/nodes/ceiling-{n}/status");
            Write::new(Method::PATCH, path, STRATEGIC, json!({ "status": status }))
        })
        .await?;
        Ok(())
    }

    async fn leases(&mut self) -> Result<()> {
        let spec =
            || json!({ "holderIdentity": "bench", "leaseDurationSeconds": 40, "renewTime": objects::micro_time() });
        self.run("lease create", move |n| {
            let name = json!({ "name": format!("ceiling-{n}") });
            let body = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": name, "spec": spec(),
            });
            Write::new(Method::POST, LEASES.to_owned(), "application/json", body)
        })
        .await?;
        self.run("lease patch", move |n| {
            Write::new(Method::PATCH, format!("{LEASES}/ceiling-{n}"), MERGE, json!({ "spec": spec() }))
        })
        .await?;
        Ok(())
    }

    async fn pods(&mut self) -> Result<()> {
        let pods = objects::pods();
        let collection = pods.clone();
        let created = self
            .run("pod create", move |n| {
                Write::new(Method::POST, collection.clone(), "application/json", objects::ceiling_pod(n))
            })
            .await?;
        let created: Vec<Pod> = created.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        let created = Arc::new(created);
        let path = pods.clone();
        self.run("pod status", move |n| {
            let body = created.get(n).map(ready).unwrap_or_default();
            Write::new(Method::PATCH, format!("{path}/ceiling-{n}/status"), STRATEGIC, body)
        })
        .await?;
        let path = pods.clone();
        self.run("pod delete", move |n| {
            Write::new(Method::DELETE, format!("{path}/ceiling-{n}"), "application/json", Value::Null)
        })
        .await?;
        self.run("pod removal", move |n| {
            let now = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 });
            Write::new(Method::DELETE, format!("{pods}/ceiling-{n}"), "application/json", now)
        })
        .await?;
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        let measured = self.rates.clone();
        for collection in ["/api/v1/nodes", LEASES] {
            self.run("clearing up", move |n| {
                Write::new(Method::DELETE, format!("{collection}/ceiling-{n}"), "application/json", Value::Null)
            })
            .await?;
        }
        self.rates = measured;
        Ok(())
    }
}

/// What modulet says of a Node.
pub(crate) fn with_node<T>(number: usize, version: &str, write: impl FnOnce(&NodeWriter<'_>) -> T) -> T {
    let name = format!("ceiling-{number}");
    let info = BaseInfo {
        name: "testbase".to_owned(),
        version: version.to_owned(),
        cluster: Some("default".to_owned()),
        ip: Some("10.0.0.1".to_owned()),
        host_name: Some(name.clone()),
        tunnel_port: None,
    };
    write(&NodeWriter {
        name: &name,
        env: "ceiling",
        info: &info,
        max_metaspace: None,
        pressure: None,
        java_version: Some("17.0.15"),
        max_pods: 1000,
        kubelet_version: "v1.36.1-modulet-v0.1.0",
        kubelet: None,
        zone_per_base: true,
        env_taint: false,
        now: jiff::Timestamp::now(),
    })
}

/// What modulet says of a Pod whose module is active.
fn ready(pod: &Pod) -> Value {
    active(pod, 0)
}

/// The same after so many restarts.
pub(crate) fn active(pod: &Pod, restarts: u32) -> Value {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let outcome = PodOutcome {
        uid: uid.as_str().into(),
        phase: Phase::Running,
        containers: vec![ContainerOutcome::Active { restarts, health: Health::Ready }],
        reachable: true,
        rejected: None,
        leaving: None,
    };
    let writer = StatusWriter { ip: Some("10.0.0.1"), now: jiff::Timestamp::now() };
    status_patch(&uid, &writer.status(pod, &outcome))
}
