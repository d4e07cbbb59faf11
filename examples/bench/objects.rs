//! Pods as users make them, the objects for measuring the ceiling, and the requests that write them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use http::{Method, Request, header::CONTENT_TYPE};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Where all Pods are.
pub(crate) const NAMESPACE: &str = "bench";
/// The environment of the bases.
pub(crate) const ENV: &str = "bench";

/// Name of a base's Node.
pub(crate) fn node_name(base: usize) -> String {
    format!("vnode.base-{base}.{ENV}")
}

/// The number of the base that has this Node.
pub(crate) fn base_number(node: &str) -> Option<usize> {
    node.strip_prefix("vnode.base-")?.strip_suffix(ENV)?.strip_suffix('.')?.parse().ok()
}

/// One version of one module on one base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) base: usize,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// Its Pod's readiness probe.
    pub(crate) probe: Option<Probe>,
}

/// A readiness probe over HTTP, at a path of the base's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    /// Seconds from one to the next.
    pub(crate) period: u32,
}

impl Module {
    pub(crate) fn new(base: usize, name: &'static str, version: impl Into<String>) -> Self {
        Self { base, name, version: version.into(), probe: None }
    }

    /// Name of its Pod.
    pub(crate) fn pod_name(&self) -> String {
        format!("{}-{}-{}", self.name, self.base, self.version.replace('.', "-"))
    }

    /// Its Pod, bound already.
    pub(crate) fn pod(&self) -> Value {
        let Self { base, name, version, probe } = self;
        let mut pod = bound_pod(&self.pod_name(), &node_name(*base), name, version);
        if let Some(Probe { host, port, period }) = probe {
            let get = json!({ "host": host, "port": port, "path": format!("/{base}") });
            pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": get, "periodSeconds": period });
        }
        pod
    }
}

fn bound_pod(pod: &str, node: &str, module: &str, version: &str) -> Value {
    let mut object = template(module, version);
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Pod");
    object["metadata"]["name"] = json!(pod);
    object["spec"]["nodeName"] = json!(node);
    object
}

fn template(module: &str, version: &str) -> Value {
    json!({
        "metadata": { "labels": labels(module, version) },
        "spec": {
            "containers": [{
                "name": module,
                "image": format!("https://modules.example.com/{module}-{version}-ark-biz.jar"),
                "env": [{ "name": "BIZ_VERSION", "value": version }],
            }],
            "tolerations": [{ "operator": "Exists" }],
        },
    })
}

fn labels(module: &str, version: &str) -> Value {
    json!({
        "virtual-kubelet.koupleless.io/component": "module",
        "module.koupleless.io/name": module,
        "module.koupleless.io/version": version,
    })
}

/// The collection of all our Deployments.
pub(crate) fn deployments() -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments")
}

/// A Deployment called like its module, with at most one Pod on each base.
pub(crate) fn deployment(module: &str, version: &str, replicas: usize) -> Value {
    let selector = json!({ "matchLabels": labels(module, version) });
    let mut template = template(module, version);
    template["spec"]["affinity"] = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": selector, "topologyKey": "topology.kubernetes.io/zone",
    }] } });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": module },
        "spec": { "replicas": replicas, "selector": selector, "template": template },
    })
}

/// The collection of all our Pods.
pub(crate) fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// The Pod with which the ceiling is measured.
pub(crate) fn ceiling_pod(number: usize) -> Value {
    bound_pod(&format!("ceiling-{number}"), &format!("ceiling-{number}"), "biz", "1.0.0")
}

/// An Event about a Pod, as modulet writes them.
pub(crate) fn event(number: usize) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": format!("ceiling-{number}") },
        "eventTime": micro_time(),
        "type": "Normal",
        "reason": "Installed",
        "action": "Installed",
        "note": "biz:1.0.0 is active on the base",
        "reportingController": "bench",
        "reportingInstance": "bench",
        "regarding": {
            "apiVersion": "v1", "kind": "Pod", "namespace": NAMESPACE, "name": format!("ceiling-{number}"),
            "uid": "00000000-0000-0000-0000-000000000000",
        },
    })
}

/// The time as Leases and Events have it.
pub(crate) fn micro_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A request with a body, or with none where that is null.
pub(crate) fn request(method: Method, path: &str, content_type: &str, body: &Value) -> Result<Request<Vec<u8>>> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Ok(Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type).body(body)?)
}

/// Creates one object.
pub(crate) async fn create(client: &Client, collection: &str, object: &Value) -> Result<String> {
    let request = request(Method::POST, collection, "application/json", object)?;
    client.request_text(request).await.with_context(|| format!("creating an object in {collection}"))
}

/// Asks for the deletion of one object; that it is gone already is fine.
pub(crate) async fn delete(client: &Client, path: &str) -> Result<()> {
    let request = request(Method::DELETE, path, "application/json", &Value::Null)?;
    match client.request_text(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).with_context(|| format!("deleting {path}")),
    }
}

/// Does something `count` times, by that many tasks at a time; returns what they returned, by number.
pub(crate) async fn in_parallel<T, F>(
    writers: usize,
    count: usize,
    one: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let one = Arc::new(one);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..writers.min(count) {
        let (one, next) = (Arc::clone(&one), Arc::clone(&next));
        tasks.spawn(async move {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(done);
                }
                done.push((number, one(number).await?));
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        all.extend(ended??);
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, value)| value).collect())
}
