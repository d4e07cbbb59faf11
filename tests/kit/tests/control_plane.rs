//! The control plane is a real one: controllers make Pods, the scheduler binds them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use modulet_testkit::control_plane::{ControlPlane, ControlPlaneOptions, client_with};
use modulet_testkit::wait::eventually;
use serde_json::{Value, json};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pause_deployment(replicas: u32) -> Deployment {
    object(json!({
        "metadata": { "name": "pause" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "pause" } },
            "template": {
                "metadata": { "labels": { "app": "pause" } },
                "spec": { "containers": [{ "name": "pause", "image": "pause" }] },
            },
        },
    }))
}

#[tokio::test]
async fn pods_of_a_deployment_are_made_and_bound_to_a_node() {
    let cluster = ControlPlane::shared().await.unwrap();
    cluster.create_namespace("deployment").await.unwrap();
    let client = cluster.client().await.unwrap();
    let nodes = Api::<Node>::all(client.clone());
    let node: Node = object(json!({ "metadata": { "name": "by-hand" } }));
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let status = json!({ "status": {
        "allocatable": { "pods": "10", "cpu": "1", "memory": "1Gi" },
        "capacity": { "pods": "10", "cpu": "1", "memory": "1Gi" },
        "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": null }],
    } });
    nodes.patch_status("by-hand", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();

    let deployments = Api::<Deployment>::namespaced(client.clone(), "deployment");
    deployments.create(&PostParams::default(), &pause_deployment(3)).await.unwrap();

    let pods = Api::<Pod>::namespaced(client, "deployment");
    eventually("3 Pods bound", Duration::from_secs(20), async || {
        let pods = pods.list(&ListParams::default()).await?.items;
        let bound = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("by-hand");
        let bound = pods.iter().filter(bound).count();
        anyhow::ensure!(bound == 3, "{bound} of {} are bound", pods.len());
        Ok(())
    })
    .await
    .unwrap();
    nodes.delete("by-hand", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_service_account_has_no_rights_it_was_not_given() {
    let cluster = ControlPlane::shared().await.unwrap();
    cluster.create_namespace("accounts").await.unwrap();
    let path = cluster.kubeconfig_for_service_account("accounts", "nobody").await.unwrap();
    let client = client_with(&path).await.unwrap();

    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let review = object(json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "nodes" } } }));
    let review = reviews.create(&PostParams::default(), &review).await.unwrap();
    assert!(!review.status.unwrap().allowed);

    let denied = Api::<Node>::all(client).list(&ListParams::default()).await.unwrap_err();
    assert!(denied.to_string().contains("system:serviceaccount:accounts:nobody"), "{denied}");
}

#[tokio::test]
async fn the_api_server_can_go_away_and_come_back_with_its_data() {
    let start = Instant::now();
    let options = ControlPlaneOptions { accept_existing: false, ..ControlPlaneOptions::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    println!("ready after {:?}", start.elapsed());
    let maps = Api::<ConfigMap>::namespaced(cluster.client().await.unwrap(), "default");
    let map: ConfigMap = object(json!({ "metadata": { "name": "kept" } }));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let other: ConfigMap = object(json!({ "metadata": { "name": "other" } }));
    let pid = cluster.api_server_pid().await.unwrap();

    cluster.pause_api_server().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(300), maps.get("kept")).await;
    assert!(answer.is_err(), "a paused API server answered: {answer:?}");
    cluster.resume_api_server().await.unwrap();
    maps.get("kept").await.unwrap();

    let start = Instant::now();
    cluster.stop_api_server().await.unwrap();
    println!("API server stopped in {:?}", start.elapsed());
    maps.get("kept").await.unwrap_err();
    cluster.start_api_server().await.unwrap();
    assert_ne!(cluster.api_server_pid().await.unwrap(), pid);
    maps.get("kept").await.unwrap();

    cluster.pause_etcd().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(300), maps.create(&PostParams::default(), &other)).await;
    assert!(answer.is_err(), "without etcd nothing is written: {answer:?}");
    cluster.resume_etcd().await.unwrap();
    cluster.kill_etcd().await.unwrap();
    cluster.kill_api_server().await.unwrap();
    cluster.start_etcd().await.unwrap();
    cluster.start_api_server().await.unwrap();
    maps.get("kept").await.unwrap();
    cluster.restart_controllers().await.unwrap();
    // The controller manager has found it again, too: it makes the account this waits for.
    cluster.create_namespace("afterwards").await.unwrap();

    let start = Instant::now();
    let directory = cluster.directory().to_owned();
    cluster.stop().await.unwrap();
    println!("stopped in {:?}", start.elapsed());
    assert!(!directory.exists());
}
