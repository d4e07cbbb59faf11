//! The chart on a real API server: modulet does its job with the variables and the rights that the chart gives it.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Event, Node, Pod, Secret, Service},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use modulet::k8s::rollout::{ModuleRollout, Phase};
use modulet_testkit::{
    audit::AuditLog,
    base::{Activation, BaseOptions, HttpBase, HttpOptions, SimulatedBase},
    broker::Mosquitto,
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    helm::{helm_install, helm_template},
    ports::free_port,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, is_ready, module_pod, module_template};

const NAMESPACE: &str = "modulet-system";
/// The name that a kubelet would know.
const POD: &str = "modulet-7d9c-x2x4k";
const NODE: &str = "vnode.base-1.charted";
const BASES_SECRET: &str = "what-bases-over-http-carry";

/// The Secrets that the chart's Pod has as files, in a directory that stands for its root.
async fn mount(client: &Client, pod: &Value, root: &Path) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let no_mounts = Vec::new();
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap_or(&no_mounts) {
        let mut volumes = pod["volumes"].as_array().context("no volumes")?.iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]).context("no such volume")?;
        let secret = secrets.get(volume["secret"]["secretName"].as_str().context("no Secret")?).await?;
        let directory = root.join(mount["mountPath"].as_str().context("no path")?.trim_start_matches('/'));
        fs::create_dir_all(&directory)?;
        for (name, bytes) in secret.data.unwrap_or_default() {
            fs::write(directory.join(name), bytes.0)?;
        }
    }
    Ok(())
}

/// The variables of the chart's Deployment, as a kubelet would set them, with files below `root`.
async fn variables(client: &Client, root: &Path) -> Result<Vec<(String, String)>> {
    let deployment = Api::<Deployment>::namespaced(client.clone(), NAMESPACE).get("modulet").await?;
    let deployment = json!(deployment);
    let pod = &deployment["spec"]["template"]["spec"];
    mount(client, pod, root).await?;
    let env = &pod["containers"][0]["env"];
    // The kit's own way to log in.
    let mut variables = ["MQTT_USERNAME", "MQTT_PASSWORD"].map(|name| (name.to_owned(), String::new())).to_vec();
    for variable in env.as_array().context("no variables")? {
        let from = &variable["valueFrom"];
        let value = if let Some(value) = variable["value"].as_str() {
            match value.strip_prefix('/') {
                Some(file) => root.join(file).display().to_string(),
                None => value.replace("$(POD_NAME)", POD),
            }
        } else if from["fieldRef"]["fieldPath"] == "metadata.namespace" {
            NAMESPACE.to_owned()
        } else if from["fieldRef"]["fieldPath"] == "metadata.name" {
            POD.to_owned()
        } else {
            bail!("no value: {variable}");
        };
        variables.push((variable["name"].as_str().unwrap_or_default().to_owned(), value));
    }
    Ok(variables)
}

/// `verb group/resource` for all that the rules allow.
fn granted(rules: &[PolicyRule]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                all.extend(rule.verbs.iter().map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    all
}

/// The same for all that was asked; an error if any of it was forbidden.
fn used(audit: &AuditLog) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for line in audit.lines()? {
        if line.uri == "/version" {
            continue; // Kubernetes lets everybody read it (system:public-info-viewer)
        }
        let object = line.object();
        let resource = match object.subresource.as_str() {
            "" => object.resource.clone(),
            part => format!("{}/{part}", object.resource),
        };
        let what = format!("{} {}/{resource}", line.verb, object.api_group);
        ensure!(line.code() != 403, "forbidden: {what} in {line:?}");
        all.insert(what);
    }
    Ok(all)
}

fn workload(version: &str) -> Value {
    let mut template = module_template("charted", &[("biz1", version)]);
    template["spec"]["containers"][0]["envFrom"] =
        json!([{ "configMapRef": { "name": "config" } }, { "secretRef": { "name": "secret" } }]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "biz1" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "module.koupleless.io/name": "biz1" } },
            "strategy": { "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } },
            "template": template,
        },
    })
}

/// A Deployment that follows the number of bases, and that no base is for.
fn peers() -> Value {
    let mut template = module_template("nobody", &[("biz2", "0.0.1")]);
    template["metadata"]["labels"]["app"] = json!("peers");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "peers", "labels": {
            "virtual-kubelet.koupleless.io/strategy": "peer",
            "virtual-kubelet.koupleless.io/env": "charted",
        } },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "peers" } }, "template": template },
    })
}

async fn node_ready(nodes: &Api<Node>, status: &str) -> Result<()> {
    eventually(&format!("Node Ready={status}"), SOON, async || {
        let node = nodes.get(NODE).await?;
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status);
        ensure!(ready.as_deref() == Some(status), "it is {ready:?}");
        Ok(())
    })
    .await
}

async fn pod_ready(pods: &Api<Pod>, version: &str) -> Result<()> {
    eventually(&format!("a Ready Pod of {version}"), SOON, async || {
        let label = format!("module.koupleless.io/version={version}");
        let pods = pods.list(&ListParams::default().labels(&label)).await?.items;
        ensure!(pods.iter().any(is_ready), "{} Pods", pods.len());
        Ok(())
    })
    .await
}

fn bound(name: &str) -> Result<Pod> {
    let mut pod = module_pod("charted", name, &[(name, "0.0.1")]);
    pod["spec"]["nodeName"] = json!(NODE);
    Ok(serde_json::from_value(pod)?)
}

/// So many installs as come at once.
async fn at_once(pods: &Api<Pod>) -> Result<()> {
    let names: Vec<_> = (0..10).map(|n| format!("more{n}")).collect();
    let (once, all) = (PostParams::default(), names.iter().map(|name| bound(name)).collect::<Result<Vec<_>>>()?);
    try_join_all(all.iter().map(|pod| pods.create(&once, pod))).await?;
    for name in &names {
        eventually(&format!("Pod {name} Ready"), SOON, async || {
            ensure!(is_ready(&pods.get(name).await?), "it is not");
            Ok(())
        })
        .await?;
        pods.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// A release in batches that is given up after the first one.
async fn given_up(client: &Client, pods: &Api<Pod>) -> Result<()> {
    let rollouts = Api::<ModuleRollout>::namespaced(client.clone(), "default");
    let rollout = json!({
        "metadata": { "name": "biz1" },
        "spec": {
            "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" },
            "steps": [{ "replicas": 1, "pause": {} }, { "replicas": "100%" }],
        },
    });
    rollouts.create(&PostParams::default(), &serde_json::from_value(rollout)?).await?;
    let in_phase = async |phase: Phase| {
        eventually(&format!("{phase:?}"), SOON, async || {
            let status = rollouts.get("biz1").await?.status.unwrap_or_default();
            ensure!(status.phase == Some(phase), "{status:?}");
            Ok(status)
        })
        .await
    };
    in_phase(Phase::Idle).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments.patch("biz1", &PatchParams::default(), &Patch::Merge(workload("0.0.2"))).await?;
    pod_ready(pods, "0.0.2").await?;
    let revision = in_phase(Phase::Waiting).await?.revision.context("no revision")?;
    let abort = json!({ "metadata": { "annotations": { "modulet.koupleless.io/abort": revision } } });
    rollouts.patch("biz1", &PatchParams::default(), &Patch::Merge(abort)).await?;
    in_phase(Phase::Idle).await?;
    pod_ready(pods, "0.0.1").await?;
    rollouts.delete("biz1", &DeleteParams::default()).await?;
    eventually("no ModuleRollout", SOON, async || {
        ensure!(rollouts.get_opt("biz1").await?.is_none(), "it is there");
        Ok(())
    })
    .await
}

/// All that needs a right: register, install, update, uninstall, fall silent twice, die.
async fn main_job(client: &Client, base: &SimulatedBase) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    node_ready(&nodes, "True").await?;
    let config = json!({ "metadata": { "name": "config" }, "data": { "GREETING": "hello" } });
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    configs.create(&PostParams::default(), &serde_json::from_value(config)?).await?;
    let secret = json!({ "metadata": { "name": "secret" }, "stringData": { "PASSWORD": "s3cret" } });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    deployments.create(&PostParams::default(), &serde_json::from_value(peers())?).await?;
    eventually("no replicas where there are no bases", SOON, async || {
        let replicas = deployments.get("peers").await?.spec.and_then(|s| s.replicas);
        ensure!(replicas == Some(0), "{replicas:?}");
        Ok(())
    })
    .await?;
    deployments.create(&PostParams::default(), &serde_json::from_value(workload("0.0.1"))?).await?;
    pod_ready(&pods, "0.0.1").await?;
    at_once(&pods).await?;
    given_up(client, &pods).await?;
    deployments.patch("biz1", &PatchParams::default(), &Patch::Merge(workload("0.0.2"))).await?;
    pod_ready(&pods, "0.0.2").await?;
    for _ in 0..2 {
        base.hang();
        node_ready(&nodes, "Unknown").await?;
        base.resume();
        node_ready(&nodes, "True").await?;
    }
    deployments.delete("biz1", &DeleteParams::background()).await?;
    let modules = ListParams::default().labels("module.koupleless.io/name=biz1");
    eventually("no Pods", SOON, async || {
        let left = pods.list(&modules).await?.items.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await?;
    assert_eq!(base.modules(), []);
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let reasons: BTreeSet<_> =
        events.list(&ListParams::default()).await?.items.into_iter().filter_map(|e| e.reason).collect();
    for reason in ["Installing", "Installed", "BizDeactivate", "Uninstalling", "BaseReady", "BaseUnreachable"] {
        assert!(reasons.contains(reason), "no {reason} in {reasons:?}");
    }
    base.kill();
    eventually("the Node deleted", SOON, async || {
        ensure!(nodes.get_opt(NODE).await?.is_none(), "it is there");
        Ok(())
    })
    .await
}

/// A base over HTTP with the secret of the chart's Secret.
async fn over_http(client: &Client, port: u16) -> Result<()> {
    let options = BaseOptions { name: "over-http".into(), ..BaseOptions::new("http-1", 0) };
    let http = HttpOptions { authorization: Some(format!("Bearer {BASES_SECRET}")), ..HttpOptions::new(port) };
    let _base = HttpBase::start(options, http).await?;
    let nodes = Api::<Node>::all(client.clone());
    eventually("a Node of a base over HTTP", SOON, async || Ok(nodes.get("vnode.http-1.charted").await?))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_gives_exactly_the_variables_and_rights_that_the_job_needs() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let audit = AuditLog::of(directory.path(), &["modulet-system:modulet"])?;
    let cluster = ControlPlane::start(audit.control_plane()).await?;
    let client = cluster.client().await?;
    let broker = Mosquitto::start().await?;
    let (address, http_port) = (broker.address(), free_port()?);
    let values = json!({
        "environment": "charted",
        "mqtt": {
            "host": address.host, "port": address.port, "username": address.username, "password": address.password,
        },
        "log": { "level": "info,modulet=debug" },
        "rbac": { "environmentFrom": ["default"] },
        "admissionPolicy": { "enabled": true },
        "flowSchema": { "enabled": true },
        "moduleRollouts": { "rollback": true },
        "http": {
            "enabled": true, "port": http_port, "secret": { "existingSecret": "bases" },
            "networkPolicy": { "enabled": true, "from": [{ "podSelector": {} }] },
        },
        "extraEnv": [
            { "name": "MODULET_UNREACHABLE_AFTER", "value": "5" },
            { "name": "MODULET_DEAD_AFTER", "value": "4" },
        ],
    });
    let notes = helm_install(cluster.kubeconfig(), NAMESPACE, &values).await?;
    let endpoint = format!("http://modulet.{NAMESPACE}:{http_port}");
    assert!(notes.contains(&endpoint) && !notes.contains("Whoever reaches"), "{notes}");
    let service = Api::<Service>::namespaced(client.clone(), NAMESPACE).get("modulet").await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    assert_eq!(ports.first().map(|port| port.port), Some(i32::from(http_port)));
    Api::<NetworkPolicy>::namespaced(client.clone(), NAMESPACE).get("modulet").await?;
    let secret = json!({ "metadata": { "name": "bases" }, "stringData": { "secret": BASES_SECRET } });
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let made: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("its Pod accepted", SOON, async || made.list(&ListParams::default()).await.ok()?.items.pop()).await?;

    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "modulet").await?;
    let mut options = ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), &kubeconfig, address);
    let root = tempfile::tempdir()?;
    let root_variables = variables(&client, root.path()).await?;
    for (name, value) in &root_variables {
        // Other programs of this machine listen there.
        if name != "MODULET_HTTP_ADDRESS" {
            options = options.env(name, value.clone());
        }
    }
    let controller = Controller::start(options).await?;
    over_http(&client, http_port).await?;
    let base = SimulatedBase::start(BaseOptions {
        username: address.username.clone(),
        password: address.password.clone(),
        env: "charted".into(),
        name: "charted".into(),
        activation: Activation::ActivateNew,
        ..BaseOptions::new("base-1", address.port)
    })
    .await?;
    // Somebody changes one of our labels, and it is put right.
    let nodes = Api::<Node>::all(client.clone());
    let wrong = json!({ "metadata": { "labels": { "base.koupleless.io/name": "wrong" } } });
    eventually("the Node", SOON, async || Ok(nodes.get("vnode.base-1.charted").await?)).await?;
    nodes.patch("vnode.base-1.charted", &PatchParams::default(), &Patch::Merge(wrong)).await?;
    eventually("our label", SOON, async || {
        let labels = nodes.get("vnode.base-1.charted").await?.metadata.labels.unwrap_or_default();
        ensure!(labels.get("base.koupleless.io/name").is_some_and(|name| name == "charted"), "{labels:?}");
        Ok(())
    })
    .await?;

    main_job(&client, &base).await.with_context(|| controller.process().map(|p| p.log_tail(40)).unwrap_or_default())?;

    let log = controller.log_text().to_lowercase();
    assert!(!log.contains("forbidden"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "the chart's default is JSON");
    let cluster_role = Api::<ClusterRole>::all(client.clone()).get("modulet-system:modulet").await?;
    let role = Api::<Role>::namespaced(client.clone(), "kube-node-lease").get("modulet-system:modulet").await?;
    let environment =
        Api::<Role>::namespaced(client.clone(), "default").get("modulet-system:modulet-environment").await?;
    let mut granted_rights = granted(&cluster_role.rules.unwrap_or_default());
    granted_rights.extend(granted(&environment.rules.unwrap_or_default()));
    let record = Api::<Role>::namespaced(client.clone(), NAMESPACE).get("modulet-system:modulet-record").await?;
    granted_rights.extend(granted(&record.rules.unwrap_or_default()));
    granted_rights.extend(granted(&role.rules.unwrap_or_default()));
    let rollback = Api::<ClusterRole>::all(client.clone()).get("modulet-system:modulet-rollback").await?;
    granted_rights.extend(granted(&rollback.rules.unwrap_or_default()));
    let used_rights = used(&audit)?;
    let of = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(of(&granted_rights, &used_rights), [""; 0], "granted and not needed");
    assert_eq!(of(&used_rights, &granted_rights), [""; 0], "used and not granted");
    drop(controller);
    helm_test(&values, &kubeconfig, &root_variables).await
}

/// What `helm test` runs, in the controller's own surroundings.
async fn helm_test(values: &Value, kubeconfig: &Path, variables: &[(String, String)]) -> Result<()> {
    let documents = helm_template(NAMESPACE, values).await?;
    let is = |document: &&Value, kind: &str| document["kind"] == kind;
    let deployment = documents.iter().find(|d| is(d, "Deployment")).context("no Deployment")?;
    let hook = documents.iter().find(|d| is(d, "Pod")).context("no Pod")?;
    assert_eq!(hook["metadata"]["annotations"]["helm.sh/hook"], "test");
    assert_eq!(hook["spec"]["containers"][0]["args"], json!(["check"]));
    let spec = &deployment["spec"]["template"]["spec"];
    for field in ["env", "volumeMounts", "image", "securityContext"] {
        assert_eq!(hook["spec"]["containers"][0][field], spec["containers"][0][field], "{field}");
    }
    for field in ["serviceAccountName", "volumes", "securityContext"] {
        assert_eq!(hook["spec"][field], spec[field], "{field}");
    }
    let variables = variables.iter().filter(|(name, _)| !name.is_empty());
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_modulet"))
        .args(["check", "--listen", "1"])
        .envs(variables.map(|(name, value)| (name, value)))
        .env("KUBECONFIG", kubeconfig)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("problems 0"), "{text}");
    Ok(())
}
