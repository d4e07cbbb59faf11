//! A good neighbour: other people's Pods go on as they did before there were bases in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use modulet_testkit::{
    base::{Activation, BaseOptions},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    endpoints::Endpoints,
    ordinary::{OrdinaryNodes, own_cluster},
    stage::{SOON, Stage, container_reason, is_ready, module_pod},
    workloads::{PodLog, bases, deployment, named, ready_pods, rolled_out, told},
};

const ZONE: &str = "topology.kubernetes.io/zone";

/// A workload that knows nothing of bases.
fn ordinary(kind: &str, name: &str, version: &str, pod_spec: Value) -> Value {
    let labels = json!({ "app": name, "version": version });
    let mut spec = pod_spec;
    spec["containers"] = json!([{ "name": "agent", "image": "registry.example.com/agent:1" }]);
    spec["terminationGracePeriodSeconds"] = json!(1);
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    })
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Waits until so many Pods with this label are bound, and returns how many there are on each Node.
async fn placed(stage: &Stage, label: &str, count: usize) -> Result<BTreeMap<String, usize>> {
    eventually(&format!("{count} Pods with {label} placed"), SOON, async || {
        let mut nodes = BTreeMap::new();
        for pod in stage.pods_with(label).await? {
            if let Some(node) = node_of(&pod) {
                *nodes.entry(node.to_owned()).or_default() += 1;
            }
        }
        ensure!(nodes.values().sum::<usize>() == count, "{nodes:?}");
        Ok(nodes)
    })
    .await
}

async fn zones(stage: &Stage) -> Result<BTreeSet<Option<String>>> {
    let ours = ListParams::default().labels(&format!("virtual-kubelet.koupleless.io/env={}", stage.name));
    let nodes = stage.nodes().list(&ours).await?.items;
    Ok(nodes.into_iter().map(|node| node.metadata.labels.and_then(|mut labels| labels.remove(ZONE))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_of_bases_stop_nobodys_spread() -> Result<()> {
    let cluster = own_cluster(&[]).await?;
    let mut stage = Stage::set_on(cluster, "neighbour-zones", |options| options).await?;
    let bases = bases(&stage, 3, Activation::ActivateNew).await?;

    // Without ordinary zones each base is one, and the documented manifests put one copy on each.
    assert_eq!(zones(&stage).await?.len(), 3);
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    stage.apply(&deployment(&stage, "biz1", 3, "1", &limits)).await?;
    ready_pods(&stage, "1", 3).await?;
    assert_eq!(placed(&stage, "app=biz1", 3).await?.len(), 3);
    assert!(!stage.kubectl(&["get", "events"]).await?.contains("ZonesNotUsed"));

    let nodes = [("ordinary-a", Some("zone-a")), ("ordinary-b", Some("zone-b"))];
    let _ordinary = OrdinaryNodes::with(&stage.client, &nodes).await?;
    eventually("bases without zones", SOON, async || {
        let zones = zones(&stage).await?;
        ensure!(zones == BTreeSet::from([None]), "{zones:?}");
        Ok(())
    })
    .await?;
    let mut web = ordinary(
        "Deployment",
        "web",
        "1",
        json!({ "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } },
        }] }),
    );
    web["spec"]["replicas"] = json!(4);
    stage.apply(&web).await?;
    let expected = BTreeMap::from(nodes.map(|(node, _)| (node.to_owned(), 2)));
    assert_eq!(placed(&stage, "app=web", 4).await?, expected);

    // Module Pods that ask for zones are told what to ask for, once each; with it they are spread.
    stage.apply(&named(deployment(&stage, "biz2", 2, "1", &limits), "by-zone")).await?;
    let by_zone = || stage.pods_with("app=by-zone");
    for pod in by_zone().await? {
        let name = pod.metadata.name.context("no name")?;
        stage.event_with(&name, &["Warning ZonesNotUsed", "kubernetes.io/hostname"]).await?;
        let told = stage.told_about(&name).await?;
        assert_eq!(told.iter().filter(|text| text.contains("ZonesNotUsed")).count(), 1, "{told:?}");
    }
    let mut by_host = named(deployment(&stage, "biz3", 3, "1", &limits), "by-host");
    let term = &mut by_host["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    term["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"] = json!("kubernetes.io/hostname");
    stage.apply(&by_host).await?;
    assert_eq!(placed(&stage, "app=by-host", 3).await?.len(), 3);

    // What ran goes on, and the next process sees it as this one does: also when the ordinary Nodes go.
    stage.controller.restart().await?;
    rolled_out(&stage, "deployment/by-host").await?;
    stage.kubectl(&["delete", "node", "ordinary-a", "ordinary-b"]).await?;
    stage.ends_quietly().await?;
    assert_eq!(zones(&stage).await?, BTreeSet::from([None]));
    for base in bases.iter() {
        assert_eq!(told(base, "biz1"), ["install 1"], "{}", base.identity());
    }
    Ok(())
}

/// Rolls a `DaemonSet` out, and the next version over it.
async fn rolled(stage: &Stage, name: &str, spec: &Value, versions: &[&str]) -> Result<()> {
    for version in versions {
        stage.apply(&ordinary("DaemonSet", name, version, spec.clone())).await?;
        rolled_out(stage, &format!("daemonset/{name}")).await?;
        let ordinary = eventually(&format!("{name} {version} on both"), SOON, async || {
            let pods = stage.pods_with(&format!("app={name},version={version}")).await?;
            let ordinary = pods.iter().filter(|pod| node_of(pod).is_some_and(|node| node.starts_with("ordinary")));
            Ok(ordinary.filter(|pod| is_ready(pod)).count())
        })
        .await?;
        assert_eq!(ordinary, 2, "{name} {version}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_sets_that_tolerate_everything_are_rolled_out_on_ordinary_nodes() -> Result<()> {
    let cluster = own_cluster(&[]).await?;
    let stage =
        Stage::set_on(cluster, "neighbour-daemons", |options| options.env("MODULET_UNREACHABLE_AFTER", "5")).await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    let _ordinary = OrdinaryNodes::with(&stage.client, &[("ordinary-a", None), ("ordinary-b", None)]).await?;
    let log = PodLog::start(&stage).await?;
    let everything = json!({ "tolerations": [{ "operator": "Exists" }], "hostNetwork": true });

    // As kube-proxy does it: such Pods never come to a base.
    let mut like_kube_proxy = everything.clone();
    like_kube_proxy["nodeSelector"] = json!({ "kubernetes.io/os": "linux" });
    rolled(&stage, "proxy", &like_kube_proxy, &["1", "2", "3"]).await?;
    for base in 0..3 {
        assert_eq!(log.on(&stage.node_name(&format!("base-{base}"))), 0);
    }

    // What selects nothing comes, never runs, says so, and is in nobody's way.
    stage
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "agent" },
            "spec": { "selector": { "app": "agent" }, "ports": [{ "port": 80 }] },
        }))
        .await?;
    let endpoints = Endpoints::watch(&stage, "agent").await?;
    let made = log.created();
    rolled(&stage, "agent", &everything, &["1", "2", "3"]).await?;
    let ready = endpoints.are(2).await?;
    assert!(ready.iter().all(|endpoint| endpoint.starts_with("203.0.113.")), "{ready:?}");
    for pod in stage.pods_with("app=agent").await? {
        if node_of(&pod).is_some_and(|node| node.starts_with("ordinary")) {
            continue;
        }
        let status = json!(pod.status);
        assert_eq!((container_reason(&pod), status["phase"].as_str()), (Some("NotAModule"), Some("Pending")));
        assert!(status["podIP"].is_null() && status["podIPs"].is_null(), "{status}");
        let conditions = status["conditions"].as_array().context("no conditions")?;
        let ready = conditions.iter().find(|c| c["type"] == "Ready").context("no Ready")?;
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("NotAModule")));
        assert!(ready["message"].as_str().is_some_and(|text| text.contains("never runs")), "{ready}");
    }
    // A Deployment's Pod is not counted as what it never is.
    let mut lost = ordinary("Deployment", "lost", "1", everything.clone());
    lost["spec"]["template"]["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": stage.node_name("base-0") });
    stage.apply(&lost).await?;
    placed(&stage, "app=lost", 1).await?;
    eventually("its Pod not Ready", SOON, async || {
        let pods = stage.pods_with("app=lost").await?;
        ensure!(pods.iter().any(|pod| container_reason(pod) == Some("NotAModule") && !is_ready(pod)), "{pods:?}");
        Ok(())
    })
    .await?;
    // A base that is away changes nothing of it: Kubernetes marks its Pods not Ready once, and nobody fights over that.
    bases[2].hang();
    stage.node_ready(&stage.node_name("base-2"), "Unknown").await?;
    stage.ends_quietly().await?;
    rolled(&stage, "agent", &everything, &["4"]).await?;
    bases[2].resume();
    stage.node_ready(&stage.node_name("base-2"), "True").await?;
    stage.ends_quietly().await?;
    // No loop: one Pod for each Node and version, and the one of the Deployment.
    assert_eq!(log.created() - made, 5 * 4 + 1);
    for base in bases.iter() {
        assert_eq!(base.received("installBiz"), 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_what_a_base_does_not_meter_stand_in_nobodys_way() -> Result<()> {
    let stage = Stage::set("neighbour-requests").await?;
    let requests = json!({ "cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi" });
    stage
        .apply(&json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "defaults" },
            "spec": { "limits": [{ "type": "Container", "default": requests, "defaultRequest": requests }] },
        }))
        .await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    for number in 0..20 {
        let name = format!("biz{number}");
        stage.create_pod(module_pod(&stage.name, &name, &[(&name, "1")])).await?;
    }
    for number in 0..20 {
        let pod = stage.pod_ready(&format!("biz{number}")).await?;
        assert_eq!(json!(pod.spec)["containers"][0]["resources"]["requests"]["cpu"], "2");
    }
    assert_eq!(base.modules().len(), 20);

    // A limit that is real still refuses.
    let limited = BaseOptions { name: "limited".into(), metaspace: 256 << 20, ..stage.base_options("base-2") };
    let _limited = stage.base(limited).await?;
    stage.create_pod(module_pod("limited", "large", &[("large", "1")])).await?;
    stage
        .pod_until("large", "refused by the scheduler", |pod| {
            json!(pod.status).to_string().contains("Insufficient memory")
        })
        .await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_cidr_for_a_base_is_told_and_conditions_of_others_are_left_to_them() -> Result<()> {
    let cluster = own_cluster(&[
        "--controllers=node-ipam-controller,*,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller",
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
    ])
    .await?;
    let stage = Stage::set_on(cluster, "neighbour-cidr", |options| options).await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    let node = stage.node_name("base-1");
    let events = ["-n", "default", "get", "events", "--field-selector", &format!("involvedObject.name={node}")];
    eventually("it told", SOON, async || {
        let events = stage.kubectl(&events).await?;
        ensure!(events.contains("PodCIDRAssigned") && events.contains("10.244."), "{events}");
        Ok(())
    })
    .await?;
    stage.log_line(&["WARN", "Pod CIDR"]).await?;
    eventually("the metric", SOON, async || {
        let nodes = stage.controller.metric("modulet_nodes_with_pod_cidr", &[]).await?;
        ensure!((nodes - 1.0).abs() < f64::EPSILON, "{nodes}");
        Ok(())
    })
    .await?;

    // As a controller of routes does it. Kubernetes makes a taint of it, which is its own.
    let condition = json!({ "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated" });
    let patch = json!({ "status": { "conditions": [condition] } }).to_string();
    stage.kubectl(&["patch", "node", &node, "--subresource=status", "-p", &patch]).await?;
    stage.kubectl(&["label", "node", &node, "--overwrite", &format!("{ZONE}=of-the-cloud")]).await?;
    stage.ends_quietly().await?;
    let shown = stage.nodes().get(&node).await?;
    let conditions = json!(shown.status)["conditions"].to_string();
    assert!(conditions.contains("NoRouteCreated") && !conditions.contains("BaseNetwork"), "{conditions}");
    assert_eq!(json!(shown.metadata.labels)[ZONE], "of-the-cloud");
    Ok(())
}
