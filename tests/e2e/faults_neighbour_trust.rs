//! What is believed of bases and of Pods, and who is told of it; and manifests that were written for another controller.

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    base::{BaseOptions, UrlBehaviour},
    broker::Spy,
    java_base::module_url,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{
    faults_help::{bound, installed, waits},
    stage::{SOON, Stage, container_reason, is_ready, log_line, module_pod, module_template},
};

/// A Pod template as the samples of the Go controller have it: with the keys of the first documents.
fn old_template(stage: &Stage) -> Value {
    let mut template = module_template(&stage.name, &[("biz1", "1")]);
    let expression = |key: &str, value: &str| json!({ "key": key, "operator": "In", "values": [value] });
    template["spec"].as_object_mut().map(|spec| spec.remove("nodeSelector"));
    template["spec"]["affinity"] = json!({
        "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
            "matchExpressions": [
                expression("base.koupleless.io/stack", "java"),
                expression("vnode.koupleless.io/version", "1.0.0"),
                expression("vnode.koupleless.io/name", &stage.name),
                expression("vnode.koupleless.io/tunnel", "mqtt_tunnel_provider"),
                expression("base.koupleless.io/tunnel", "mqtt_tunnel_provider"),
                expression("module-controller.koupleless.io/env", &stage.name),
                expression("module-controller.koupleless.io/component", "vnode"),
            ],
        }] } },
        "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
            "topologyKey": "kubernetes.io/hostname",
        }] },
    });
    template["spec"]["tolerations"] = json!([
        { "key": "schedule.koupleless.io/virtual-node", "operator": "Equal", "value": "True", "effect": "NoExecute" },
        { "key": "schedule.koupleless.io/node-env", "operator": "Equal", "value": stage.name, "effect": "NoExecute" },
    ]);
    template
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_with_the_keys_of_the_first_documents_are_read() -> Result<()> {
    let stage = Stage::set_with("neighbour-manifests", |options| options.env("MODULET_ENV_TAINT", "true")).await?;
    let _one = stage.base(stage.base_options("base-1")).await?;
    let _other = stage.base(BaseOptions { version: "2.0.0".into(), ..stage.base_options("base-2") }).await?;
    stage
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "biz1", "labels": {
                "virtual-kubelet.koupleless.io/component": "module-deployment",
                "module-controller.koupleless.io/env": stage.name,
                "module-controller.koupleless.io/strategy": "peer",
            } },
            "spec": {
                "replicas": 3,
                "selector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
                "template": old_template(&stage),
            },
        }))
        .await?;
    let ready = async |count: usize| {
        eventually(&format!("{count} Pods, all Ready"), SOON, async || {
            let pods = stage.pods_with("module.koupleless.io/name=biz1").await?;
            ensure!(pods.len() == count && pods.iter().all(is_ready), "{}", json!(pods));
            Ok(())
        })
        .await
    };
    ready(1).await?;
    let _third = stage.base(stage.base_options("base-3")).await?;
    ready(2).await?;
    // The opt-out under its older name.
    stage.kubectl(&["label", "deployment/biz1", "module-controller.koupleless.io/replicas-control=true"]).await?;
    stage.log_line(&["scaling to the number of bases", "to=2"]).await?;
    stage.kubectl(&["scale", "deployment/biz1", "--replicas=1"]).await?;
    ready(1).await?;
    stage.ends_quietly().await?;
    ready(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_the_ranges_of_bases_is_not_believed() -> Result<()> {
    let ranges = "192.0.2.0/25,2001:db8::/32";
    let stage = Stage::set_with("neighbour-ranges", |options| options.env("MODULET_BASE_ADDRESSES", ranges)).await?;
    let _honest = stage.base(stage.base_options("base-1")).await?;
    let liar = BaseOptions { ip: "192.0.2.200".into(), ..stage.base_options("base-2") };
    let _liar = stage.base(liar).await?;
    for (id, has) in [("base-1", true), ("base-2", false)] {
        let node = stage.nodes().get(&stage.node_name(id)).await?;
        assert_eq!(json!(node.status)["addresses"].to_string().contains("InternalIP"), has, "{id}");
    }
    let node = stage.node_name("base-2");
    eventually("it told", SOON, async || {
        let of = format!("involvedObject.name={node}");
        let events = stage.kubectl(&["-n", "default", "get", "events", "--field-selector", &of]).await?;
        ensure!(events.contains("AddressRefused") && events.contains("MODULET_BASE_ADDRESSES"), "{events}");
        Ok(())
    })
    .await?;
    let pod = installed(&stage, "base-2", "biz1", "1").await?;
    assert!(json!(pod.status)["podIP"].is_null(), "it is no endpoint");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_names_an_application_gets_none_of_its_modules_and_secrets() -> Result<()> {
    let stage = Stage::set("neighbour-baseline").await?;
    let honest = stage.base(stage.base_options("base-1")).await?;
    stage.kubectl(&["create", "secret", "generic", "database", "--from-literal=password=s3cret"]).await?;
    let mut template = module_template(&stage.name, &[("biz1", "1")]);
    template["metadata"]["labels"]["app"] = json!("daemons");
    let source = json!({ "secretKeyRef": { "name": "database", "key": "password" } });
    let env = template["spec"]["containers"][0]["env"].as_array_mut().context("no env")?;
    env.push(json!({ "name": "PASSWORD", "valueFrom": source }));
    stage
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "daemons" },
            "spec": { "selector": { "matchLabels": { "app": "daemons" } }, "template": template },
        }))
        .await?;
    let installs = honest.wait_for_command("installBiz", SOON).await?;
    assert!(json!(installs.payload).to_string().contains("s3cret"), "the honest base gets it");

    let root = format!("koupleless_{}", stage.name);
    let spy = Spy::start(stage.broker.address(), &format!("{root}/+/base/baseline")).await?;
    let ask = |id: &str| {
        let data = json!({ "identity": id, "name": stage.name, "version": "1.0.0" });
        (format!("{root}/{id}/base/queryBaseline"), json!({ "publishTimestamp": 1, "data": data }).to_string())
    };
    for _ in 0..3 {
        let (topic, text) = ask("stranger");
        spy.publish(&topic, text).await?;
    }
    stage.log_line(&["the base asks for its baseline", "stranger"]).await?;
    // One that is known is answered after it, so the stranger would have been.
    honest.restart().await?;
    spy.wait_for("the answer to the honest one", SOON, |all| {
        all.iter().find(|message| message.topic.contains("base-1") && message.text().contains("s3cret")).cloned()
    })
    .await?;
    let to_stranger = |message: &modulet_testkit::broker::Message| message.topic.contains("/stranger/");
    assert_eq!(spy.count(to_stranger), 0, "{:?}", spy.messages());
    // A new base that says who it is has a Node first, and then all at once.
    let new = stage.base(stage.base_options("base-2")).await?;
    let answer = new.wait_for_command("baseline", SOON).await?;
    assert!(json!(answer.payload).to_string().contains("s3cret"), "{:?}", answer.payload);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_come_from_where_they_may_come_from() -> Result<()> {
    let mut stage = Stage::set_with("neighbour-urls", |options| options.env("MODULET_MODULE_URLS", "")).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let some = bound(&stage, "base-1", "some", "1");
    let with_url = |name: &str, url: &str| {
        let mut pod = some.clone();
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["containers"][0]["name"] = json!(name);
        pod["spec"]["containers"][0]["image"] = json!(url);
        pod
    };
    for (name, url) in [
        ("file", module_url("file", "1").as_str()),
        ("metadata", "http://user:hidden@2852039166/latest"),
        ("jar", "jar:https://modules.example.com/jar.jar!/"),
    ] {
        stage.create_pod(with_url(name, url)).await?;
        waits(&stage, name, "InvalidModule", &["MODULET_MODULE_URLS"]).await?;
    }
    stage.create_pod(with_url("fine", "http://modules.example.com/fine-1-ark-biz.jar")).await?;
    stage.pod_ready("fine").await?;
    assert_eq!(base.received("installBiz"), 1);

    stage.controller.set_env("MODULET_MODULE_URLS", "https://repo.example.com/,file:///");
    stage.controller.restart().await?;
    stage.pod_ready("file").await?;
    stage.create_pod(with_url("elsewhere", "http://modules.example.com/elsewhere-1-ark-biz.jar")).await?;
    waits(&stage, "elsewhere", "InvalidModule", &["other places"]).await?;
    assert_eq!(base.received("installBiz"), 2);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_of_a_url_are_shown_nowhere() -> Result<()> {
    let stage = Stage::set_with("neighbour-password", |options| options.env("MODULET_LOG", "debug")).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    let at = |name: &str| format!("https://robot:s3cret@modules.example.com/{name}-1-ark-biz.jar");
    let message = format!("java.io.IOException: Server returned HTTP response code: 401 for URL: {}", at("locked"));
    base.set_url_behaviour("locked", UrlBehaviour::NotFetchable { message });
    base.set_url_behaviour("wrong", UrlBehaviour::IsReally { name: "other".into(), version: "1".into() });
    for name in ["fine", "locked", "wrong"] {
        let mut pod = bound(&stage, "base-1", name, "1");
        pod["spec"]["containers"][0]["image"] = json!(at(name));
        stage.create_pod(pod).await?;
    }
    let fine = stage.pod_ready("fine").await?;
    let shown = json!("https://modules.example.com/fine-1-ark-biz.jar");
    let container = &json!(fine.status)["containerStatuses"][0];
    assert_eq!((&container["image"], &container["imageID"]), (&shown, &shown));
    waits(&stage, "locked", "InstallFailed", &["401 for URL: https://modules.example.com/"]).await?;
    waits(&stage, "wrong", "ModuleMismatch", &["https://modules.example.com/"]).await?;
    let sent = base.commands().into_iter().filter(|c| c.command == "installBiz").map(|c| json!(c.payload).to_string());
    assert!(sent.filter(|text| text.contains("robot:s3cret@")).count() >= 3, "the base needs it");
    stage.ends_without_quiet("what cannot be fetched is tried again");
    let picture = stage.controller.get("/debug/bases").await?;
    let statuses = stage.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status}"]).await?;
    let events = stage.kubectl(&["get", "events", "-o", "json"]).await?;
    let record = format!("{:?}", stage.record().await?);
    let log = stage.controller.log_text();
    for (what, text) in
        [("picture", picture), ("statuses", statuses), ("Events", events), ("record", record), ("log", log)]
    {
        let line = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(line, None, "in the {what}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_name_of_two_namespaces_is_told_to_both_and_refused_where_that_is_wished() -> Result<()> {
    let mut stage = Stage::set("neighbour-names").await?;
    let other = format!("{}-b", stage.name);
    stage.cluster.create_namespace(&other).await?;
    let base = stage.base(stage.base_options("base-1")).await?;
    installed(&stage, "base-1", "biz1", "1").await?;
    let apply_other = async |name: &str, module: &str| {
        let mut pod = module_pod(&stage.name, name, &[(module, "2")]);
        pod["spec"]["nodeName"] = json!(stage.node_name("base-1"));
        pod["metadata"]["namespace"] = json!(other);
        stage.kubectl_at(&other, &pod).await
    };
    let told = async |namespace: &str, pod: &str, other: &str| {
        eventually(&format!("{namespace}/{pod} told"), SOON, async || {
            let of = format!("involvedObject.name={pod}");
            let events = stage.kubectl(&["-n", namespace, "get", "events", "--field-selector", &of]).await?;
            ensure!(events.contains("ModuleNameShared") && events.contains(other), "{events}");
            Ok(())
        })
        .await
    };
    apply_other("theirs", "biz1").await?;
    told(&stage.name, "biz1", &format!("{other}/theirs")).await?;
    told(&other, "theirs", &format!("{}/biz1", stage.name)).await?;
    // Another name, or the same in one namespace, is nobody's matter.
    apply_other("alone", "biz2").await?;
    stage.kubectl(&["-n", &other, "delete", "pod", "theirs", "alone"]).await?;
    stage.ends_quietly().await?;

    stage.controller.set_env("MODULET_SHARED_MODULE_NAMES", "refuse");
    stage.controller.restart().await?;
    installed(&stage, "base-1", "biz3", "1").await?;
    let sent = base.received("installBiz");
    let mut pod = module_pod(&stage.name, "later", &[("biz3", "2")]);
    pod["spec"]["nodeName"] = json!(stage.node_name("base-1"));
    stage.kubectl_at(&other, &pod).await?;
    let later = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(stage.client.clone(), &other);
    eventually("it is held", SOON, async || {
        let pod = later.get("later").await?;
        let status = json!(pod.status).to_string();
        ensure!(container_reason(&pod) == Some("Held") && status.contains("MODULET_SHARED_MODULE_NAMES"), "{status}");
        Ok(())
    })
    .await?;
    stage.ends_quietly().await?;
    assert_eq!(base.received("installBiz"), sent);
    assert_eq!(log_line(&stage.controller, &["installing", "biz3:2"]), None);
    // Its turn comes when the name is free.
    stage.delete_pod("biz3").await?;
    eventually("it is Ready", SOON, async || {
        let pod = later.get("later").await?;
        ensure!(is_ready(&pod), "{}", json!(pod.status));
        Ok(())
    })
    .await?;
    stage.ends_quietly().await
}
