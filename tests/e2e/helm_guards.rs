//! What the chart can put around modulet, on a real API server: what its `ServiceAccount` may not touch, whatever its roles
//! say, and which of its requests have a place of their own.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy,
    core::v1::{Node, Pod},
    flowcontrol::v1::FlowSchema,
    networking::v1::NetworkPolicy,
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use modulet_testkit::{
    control_plane::{ControlPlane, client_with},
    helm::helm_install,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::SOON;

/// Namespace and environment.
const NAME: &str = "guarded";
const MACHINE: &str = "machine-guarded";
const OWN: &str = "vnode.base-1.guarded";
/// Both of the policy and of the flow schema.
const OBJECT: &str = "guarded.modulet";
/// What a base's own Pod is told.
const MODULES_READY: &str = "modulet.koupleless.io/modules-ready";
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces";

/// Sends a request; the body decides how: none deletes, one with a name makes, another one patches.
async fn send(client: &Client, path: &str, body: Option<&Value>) -> Result<(), String> {
    let request = match body {
        None => http::Request::delete(path).body(Vec::new()),
        Some(body) if body["metadata"]["name"].is_string() => {
            http::Request::post(path).header("content-type", "application/json").body(body.to_string().into_bytes())
        }
        Some(body) => http::Request::patch(path)
            .header("content-type", "application/strategic-merge-patch+json")
            .body(body.to_string().into_bytes()),
    };
    let request = request.map_err(|error| error.to_string())?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(format!("{} {}", status.code, status.message)),
        Err(error) => Err(error.to_string()),
    }
}

fn node(name: &str, is_tainted: bool) -> Value {
    let taint = json!([{ "key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute" }]);
    let taints = if is_tainted { taint } else { json!([]) };
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "spec": { "taints": taints } })
}

fn lease(name: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name } })
}

fn config(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": labels } })
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "nodeName": node, "containers": [{ "name": "one", "image": "registry.example.com/one:1" }],
            "tolerations": [{ "operator": "Exists" }] },
    })
}

fn labelled() -> Value {
    json!({ "metadata": { "labels": { "modulet.koupleless.io/leader": "true" } } })
}

/// That condition of a Pod's status.
fn condition(kind: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": kind, "status": "True", "reason": "Test" }] } })
}

fn phase() -> Value {
    json!({ "status": { "phase": "Failed", "reason": "Test" } })
}

/// What others have.
async fn surroundings(client: &Client) -> Result<()> {
    let made = PostParams::default();
    let machine = json!({ "metadata": { "name": MACHINE }, "spec": { "unschedulable": true } });
    Api::<Node>::all(client.clone()).create(&made, &serde_json::from_value(machine)?).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAME);
    for (name, node) in [("others", MACHINE), ("ours", OWN)] {
        pods.create(&made, &serde_json::from_value(pod(name, node))?).await?;
    }
    let mut base = pod("a-base", MACHINE);
    base["spec"]["readinessGates"] = json!([{ "conditionType": MODULES_READY }]);
    pods.create(&made, &serde_json::from_value(base)?).await?;
    let kubelets = json!({ "status": { "phase": "Running", "podIP": "192.0.2.7", "conditions": [
        { "type": "PodScheduled", "status": "True" }, { "type": "ContainersReady", "status": "False" },
    ] } });
    pods.patch_status("a-base", &PatchParams::default(), &Patch::Strategic(kubelets)).await?;
    Ok(())
}

/// The chart's own Pod.
async fn own_pod(client: &Client) -> Result<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAME);
    let ours = ListParams::default().labels("app.kubernetes.io/name=modulet");
    let pod =
        eventually("the chart's Pod", SOON, async || pods.list(&ours).await?.items.pop().context("there is none"))
            .await?;
    assert_eq!(pod.spec.and_then(|spec| spec.priority), Some(1_000_000), "that of the chart's PriorityClass");
    pod.metadata.name.context("no name")
}

/// Requests that its roles allow, and that are not its to make.
fn not_its_own(own_pod: &str) -> Vec<(String, Option<Value>)> {
    let pods = format!("/api/v1/namespaces/{NAME}/pods");
    let configs = format!("/api/v1/namespaces/{NAME}/configmaps");
    let (node_leases, own_leases) = (format!("{LEASES}/kube-node-lease/leases"), format!("{LEASES}/{NAME}/leases"));
    let image = json!({ "spec": { "containers": [{ "name": "modulet", "image": "evil:1" }] } });
    vec![
        (format!("{NODES}/{MACHINE}"), None),
        (format!("{NODES}/{MACHINE}"), Some(labelled())),
        (format!("{NODES}/{MACHINE}/status"), Some(json!({ "status": { "phase": "Running" } }))),
        // It cannot make it its own.
        (format!("{NODES}/{MACHINE}"), Some(json!({ "spec": node("", true)["spec"] }))),
        (NODES.to_owned(), Some(node("machine-2", true))),
        (NODES.to_owned(), Some(node("vnode.base-2.guarded", false))),
        (NODES.to_owned(), Some(node("vnode.base-1.other", true))),
        (NODES.to_owned(), Some(node("vnode.base-1.guarded.other", true))),
        (format!("{NODES}/{OWN}"), Some(json!({ "spec": { "taints": null } }))),
        (format!("{pods}/others"), None),
        (format!("{pods}/others/status"), Some(phase())),
        (format!("{pods}/others/status"), Some(condition(MODULES_READY))),
        // Of a base's own Pod all but one condition is the kubelet's.
        (format!("{pods}/a-base"), None),
        (format!("{pods}/a-base/status"), Some(phase())),
        (format!("{pods}/a-base/status"), Some(condition("ContainersReady"))),
        (format!("{pods}/a-base/status"), Some(json!({ "status": { "podIP": "192.0.2.9" } }))),
        (format!("{pods}/others"), Some(labelled())),
        (format!("{pods}/{own_pod}"), None),
        (format!("{pods}/{own_pod}"), Some(image)),
        (node_leases.clone(), Some(lease(MACHINE))),
        (node_leases, Some(lease("vnode.base-1.other"))),
        (own_leases, Some(lease("somebody-elses"))),
        (configs.clone(), Some(config("mine", &json!({})))),
        (format!("{configs}/kube-root-ca.crt"), Some(json!({ "data": { "ca.crt": "evil" } }))),
        (
            format!("{configs}/kube-root-ca.crt"),
            Some(json!({ "metadata": { "labels": { "modulet.koupleless.io/record": "x" } } })),
        ),
    ]
}

/// Requests that are.
fn its_own(own_pod: &str) -> Vec<(String, Option<Value>)> {
    let pods = format!("/api/v1/namespaces/{NAME}/pods");
    let record = config("modulet-ordered.guarded", &json!({ "modulet.koupleless.io/record": NAME }));
    vec![
        (format!("{NODES}/{OWN}"), Some(labelled())),
        (format!("{NODES}/{OWN}/status"), Some(json!({ "status": { "addresses": [] } }))),
        (format!("{pods}/ours/status"), Some(phase())),
        (format!("{pods}/ours?gracePeriodSeconds=0"), None),
        (format!("{pods}/a-base/status"), Some(condition(MODULES_READY))),
        (format!("{pods}/a-base/status"), Some(condition(MODULES_READY))),
        (format!("{pods}/{own_pod}"), Some(labelled())),
        (format!("/api/v1/namespaces/{NAME}/configmaps"), Some(record)),
        (format!("{NODES}/{OWN}"), None),
    ]
}

/// Which flow schema took a request.
async fn flow(client: &Client, path: &str) -> Result<String> {
    let body = json!({ "metadata": { "annotations": { "flow": "asked" } } }).to_string();
    let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
    let answer = client.send(request.body(body.into_bytes().into())?).await?;
    let header = answer.headers().get("x-kubernetes-pf-flowschema-uid").context("no such header")?;
    Ok(header.to_str()?.to_owned())
}

async fn its_requests_have_a_place_of_their_own(admin: &Client, modulet: &Client) -> Result<()> {
    let schema = Api::<FlowSchema>::all(admin.clone()).get(OBJECT).await?;
    let uid = schema.metadata.uid.context("no uid")?;
    let heartbeat = format!("{LEASES}/kube-node-lease/leases/{OWN}");
    eventually("heartbeats taken by the chart's flow schema", SOON, async || {
        let by = flow(modulet, &heartbeat).await?;
        ensure!(by == uid, "{by} took it, not {uid}");
        Ok(())
    })
    .await?;
    for path in [format!("{LEASES}/{NAME}/leases/modulet-guarded"), format!("{NODES}/{OWN}/status")] {
        assert_eq!(flow(modulet, &path).await?, uid, "{path}");
    }
    let other = format!("/api/v1/namespaces/{NAME}/pods/ours/status");
    assert_ne!(flow(modulet, &other).await?, uid, "statuses of Pods wait with those of others");
    assert_ne!(flow(admin, &heartbeat).await?, uid, "others' requests");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_account_is_kept_to_its_own_nodes_pods_and_leases_whatever_its_roles_allow() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let admin = cluster.client().await?;
    let values = json!({
        "environment": NAME, "mqtt": { "host": "broker" }, "http": { "enabled": true },
        "admissionPolicy": { "enabled": true }, "basePods": { "namespaces": [NAME] }, "flowSchema": { "enabled": true },
        "priorityClass": { "create": true },
        // Other tests of this control plane make it at the same time.
        "moduleRollouts": { "definition": false },
        "networkPolicy": { "enabled": true, "metricsFrom": [{ "podSelector": {} }] },
        "metrics": { "service": { "enabled": true }, "dashboard": { "enabled": true } },
    });
    helm_install(cluster.kubeconfig(), NAME, &values).await?;
    surroundings(&admin).await?;
    Api::<NetworkPolicy>::namespaced(admin.clone(), NAME).get("modulet").await?;
    Api::<PriorityClass>::all(admin.clone()).get(OBJECT).await?;
    let own_pod = own_pod(&admin).await?;
    let kubeconfig = cluster.kubeconfig_for_service_account(NAME, "modulet").await?;
    let modulet = client_with(&kubeconfig).await?;
    // `kubectl describe` shows these to whoever wonders whether the policy is right.
    let policies = Api::<ValidatingAdmissionPolicy>::all(admin.clone());
    eventually("the policy's types to be checked", SOON, async || {
        let status = policies.get(OBJECT).await?.status.context("not looked at")?;
        let checked = status.type_checking.context("not checked")?;
        assert_eq!(checked.expression_warnings.unwrap_or_default(), [], "types of the policy");
        Ok(())
    })
    .await?;
    // A policy holds some moments after it was made; what it does not let in is not made by this.
    eventually("the policy to hold", Duration::from_secs(30), async || {
        match send(&modulet, &format!("{NODES}/{MACHINE}"), Some(&labelled())).await {
            Err(why) if why.contains("denied request") => Ok(()),
            other => bail!("{other:?}"),
        }
    })
    .await?;
    send(&modulet, NODES, Some(&node(OWN, true))).await.map_err(anyhow::Error::msg)?;
    for (path, body) in not_its_own(&own_pod) {
        let why = send(&modulet, &path, body.as_ref()).await.err().unwrap_or_default();
        assert!(why.starts_with("403") && why.contains("denied request"), "{path} {body:?}: {why}");
    }
    for (namespace, name) in [("kube-node-lease", OWN), (NAME, "modulet-guarded")] {
        let end = send(&modulet, &format!("{LEASES}/{namespace}/leases"), Some(&lease(name))).await;
        assert_eq!(end, Ok(()), "the Lease {name}");
    }
    its_requests_have_a_place_of_their_own(&admin, &modulet).await?;
    for (path, body) in its_own(&own_pod) {
        let end = send(&modulet, &path, body.as_ref()).await;
        assert_eq!(end, Ok(()), "{path} {body:?}");
    }
    // Others are none of its business.
    send(&admin, &format!("{NODES}/{MACHINE}"), Some(&labelled())).await.map_err(anyhow::Error::msg)?;
    Api::<Node>::all(admin).delete(MACHINE, &DeleteParams::default()).await?;
    Ok(())
}
