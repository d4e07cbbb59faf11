//! `modulet check`: what it says of a real cluster and a real broker, and that it changes nothing there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{LimitRange, Node, Pod},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use modulet_testkit::{
    base::SimulatedBase,
    broker::{BrokerAddress, Clients, Mosquitto, Spy},
    control_plane::{ControlPlane, ControlPlaneOptions},
    helm::helm_install,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

const BINARY: &str = env!("CARGO_BIN_EXE_modulet");

/// What a check said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    text: String,
}

impl Said {
    /// There is a line with all these words in it.
    #[track_caller]
    fn has(&self, words: &[&str]) -> &Self {
        let found = self.text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} is in no line of:\n{}", self.text);
        self
    }

    /// No line has this in it.
    #[track_caller]
    fn has_not(&self, word: &str) -> &Self {
        assert!(!self.text.contains(word), "{word} is in:\n{}", self.text);
        self
    }

    #[track_caller]
    fn ends_with(&self, code: i32) {
        assert_eq!(self.code, code, "{}", self.text);
    }
}

/// Runs a check in the environment `env`, with further arguments and variables.
async fn check(
    kubeconfig: &Path,
    broker: &BrokerAddress,
    env: &str,
    args: &[&str],
    more: &[(&str, &str)],
) -> Result<Said> {
    let port = broker.port.to_string();
    let mut command = tokio::process::Command::new(BINARY);
    command
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .envs([("ENV", env), ("CLIENT_ID", "modulet-under-test"), ("MQTT_BROKER", &broker.host), ("MQTT_PORT", &port)])
        .envs([("MQTT_USERNAME", broker.username.as_str()), ("MQTT_PASSWORD", &broker.password)])
        .envs(more.iter().copied())
        .arg("check")
        .args(args)
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("the check runs")??;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(error.is_empty(), "it also says {error}");
    Ok(Said { code: output.status.code().context("killed")?, text })
}

/// A cluster of the test's own, for what is the whole cluster's.
async fn own_cluster(api_server_args: Vec<String>) -> Result<&'static ControlPlane> {
    let options = ControlPlaneOptions { accept_existing: false, api_server_args, ..ControlPlaneOptions::default() };
    // A stage keeps it for as long as the process.
    Ok(Box::leak(Box::new(ControlPlane::start(options).await?)))
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// All that the chart's account asked the API server for.
fn asked(audit: &Path) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for line in fs::read_to_string(audit)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.insert(format!("{} {}", text(&entry["verb"]), text(&entry["objectRef"]["resource"])));
    }
    Ok(all)
}

/// Records what the chart's service account asks for.
const AUDIT: &str = r#"{
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{ "level": "Metadata", "users": ["system:serviceaccount:modulet-system:modulet"] }, { "level": "None" }]
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_well_is_called_well_with_the_charts_rights_and_nothing_is_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let policy = directory.path().join("policy.json");
    fs::write(&policy, AUDIT)?;
    let audit = directory.path().join("audit.log");
    let cluster = own_cluster(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", audit.display()),
    ])
    .await?;
    let stage = Stage::set_on(cluster, "checked", |options| options).await?;
    let address = stage.broker.address().clone();
    let values = json!({ "environment": "checked", "mqtt": { "host": address.host, "port": address.port } });
    helm_install(cluster.kubeconfig(), "modulet-system", &values).await?;
    let account = cluster.kubeconfig_for_service_account("modulet-system", "modulet").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    stage.ends_quietly().await?;
    let spy = Spy::start(&address, "#").await?;
    let before = writes(&stage).await?;

    let own_namespace = [("NAMESPACE", "modulet-system")];
    let said = check(&account, &address, "checked", &["--strict"], &own_namespace).await?;
    said.has(&["[ok]", "v1."])
        .has(&["[ok] system:serviceaccount:modulet-system:modulet has all"])
        .has(&["[ok] none of 0 puts Pods on bases"])
        .has(&["[cannot look] needs the right to list leases.coordination.k8s.io in kube-node-lease"])
        .has(&["[cannot look] needs the right to list limitranges"])
        .has(&["[ok]", "logged in"])
        .has(&["[ok] grants the subscriptions"])
        .has(&["[ok] lets commands be published"])
        .has(&["[ok] base base-1 of environment checked was heard"])
        .has(&["All well"])
        .ends_with(0);
    // One who sees all sees who holds the bases, and can ask for the account.
    let whole = ["--service-account", "modulet-system/modulet", "--output", "json"];
    let said = check(cluster.kubeconfig(), &address, "checked", &whole, &own_namespace).await?;
    let report: Value = serde_json::from_str(&said.text)?;
    assert_eq!((said.code, &report["exitCode"]), (0, &json!(0)), "{report}");
    let findings = report["findings"].to_string();
    assert!(!findings.contains("cannotLook") && findings.contains("modulet-under-test holds"), "{findings}");
    assert!(findings.contains("system:serviceaccount:modulet-system:modulet has all"), "{findings}");

    // It asked, and wrote nothing: reviews are not stored.
    let asked = asked(&audit)?;
    let written: Vec<_> = asked.iter().filter(|what| !what.starts_with("get ") && !what.starts_with("list ")).collect();
    assert_eq!(written, ["create selfsubjectaccessreviews", "create selfsubjectreviews"], "{asked:?}");
    assert_eq!(writes(&stage).await?, before);
    let strangers = |m: &modulet_testkit::broker::Message| m.topic.contains("modulet-check-");
    assert_eq!(spy.count(strangers), 10, "five commands to nobody, twice");
    assert_eq!(spy.count(|m| strangers(m) && m.payload != "{}"), 0);
    let kept = Spy::start(&address, "#").await?;
    assert_eq!(kept.count(|m| m.retained), 0);
    // The running controller kept its session.
    assert!(stage.controller.metric("modulet_broker_errors_total", &[]).await?.abs() < f64::EPSILON);
    stage.ends_quietly().await
}

/// How often the controller wrote, Leases aside.
async fn writes(stage: &Stage) -> Result<Vec<String>> {
    let metrics = stage.controller.metrics().await?;
    let ours = metrics.lines().filter(|l| l.starts_with("modulet_api_writes_total") && !l.contains("kind=\"lease\""));
    Ok(ours.map(str::to_owned).collect())
}

/// As kube-proxy and many agents have it.
fn agent() -> Value {
    json!({
        "metadata": { "name": "agent", "labels": { "app": "agent" } },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": {
                    "tolerations": [{ "operator": "Exists" }],
                    "containers": [{ "name": "agent", "image": "agent:1" }],
                },
            },
        },
    })
}

async fn machine(nodes: &Api<Node>, name: &str, zone: &str) -> Result<()> {
    let condition = json!({ "type": "Ready", "status": "True" });
    let labels = json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone });
    let capacity = json!({ "cpu": "4", "memory": "8Gi", "pods": "110" });
    let status = json!({ "capacity": capacity, "allocatable": capacity, "conditions": [condition] });
    create(nodes, json!({ "metadata": { "name": name, "labels": labels }, "status": status })).await?;
    Ok(())
}

/// Plays the kubelets of ordinary Nodes: what is bound there runs, and what is deleted there goes.
async fn kubelets(client: &Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), "kube-system");
    for pod in pods.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        if !node.starts_with("machine-") {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &kube::api::DeleteParams::default().grace_period(0)).await;
        } else if pod.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Running")) {
            let ready = json!({ "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
            let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_work_is_named_and_the_patch_that_is_offered_mends_it() -> Result<()> {
    let cluster = own_cluster(Vec::new()).await?;
    let mut stage = Stage::set_on(cluster, "unwell", |options| options.env("MODULET_ZONE_PER_BASE", "false")).await?;
    let (client, address) = (stage.client.clone(), stage.broker.address().clone());
    let base = stage.base(stage.base_options("base-1")).await?;
    let base_node = stage.node_name("base-1");
    for (name, zone) in [("machine-1", "east"), ("machine-2", "west")] {
        machine(&stage.nodes(), name, zone).await?;
    }
    let sets = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
    create(&sets, agent()).await?;
    let limits = json!({ "metadata": { "name": "limits" }, "spec": { "limits": [
        { "type": "Container", "default": { "example.com/gpu": "1" } }] } });
    create(&Api::<LimitRange>::namespaced(client.clone(), "unwell"), limits).await?;
    stage.create_pod(crate::stage::module_pod("unwell", "module", &[("biz1", "1")])).await?;

    let zones = [("MODULET_ZONE_PER_BASE", "true")];
    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &zones).await?;
    said.has(&["[PROBLEM] kube-system/agent puts Pods on bases"])
        .has(&["kubectl patch daemonset agent --namespace kube-system"])
        .has(&["[PROBLEM]", "zones (east, west)"])
        .has(&["[PROBLEM] unwell/limits makes module Pods ask for example.com/gpu"])
        .has(&["[ok] modulet-under-test holds the bases of environment unwell"])
        .ends_with(1);
    let other_name = [("CLIENT_ID", "another")];
    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &other_name).await?;
    said.has(&["[warning] modulet-under-test (1 Nodes) holds the bases of environment unwell"]);

    // Its Pods come to the base too, and the update of all waits for that one.
    let on_base = ListParams::default().fields(&format!("spec.nodeName={base_node}"));
    let pods = Api::<Pod>::namespaced(client.clone(), "kube-system");
    eventually("a Pod of the DaemonSet on the base", SOON, async || {
        Ok::<_, anyhow::Error>(ensure!(!pods.list(&on_base).await?.items.is_empty(), "there is none"))
    })
    .await?;
    // The controller says so when it starts.
    stage.controller.restart().await?;
    stage.log_line(&["WARN", "kube-system/agent", "kubectl patch daemonset agent"]).await?;

    // What it offers is run as it is.
    let command =
        said.text.lines().find(|line| line.contains("kubectl patch")).context("no command")?.trim().to_owned();
    let kubectl = Tool::ControlPlane.program("kubectl").await?;
    let path = kubectl.parent().context("no directory")?.display().to_string();
    let shell = tokio::process::Command::new("/bin/sh")
        .env("PATH", path)
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["-c", &command])
        .output()
        .await?;
    ensure!(shell.status.success(), "{command}: {}", String::from_utf8_lossy(&shell.stderr));
    let newer =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "agent", "image": "agent:2" }] } } } });
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(newer)).await?;
    eventually("the update on both machines, and nothing on the base", SOON * 2, async || {
        kubelets(&client).await?;
        let set = sets.get("agent").await?;
        let status = set.status.context("no status")?;
        let seen = status.observed_generation == set.metadata.generation;
        let numbers = (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
        ensure!(seen && numbers == (2, Some(2), Some(2)), "{}", json!(status));
        ensure!(pods.list(&on_base).await?.items.is_empty(), "there is one on the base");
        Ok(())
    })
    .await?;

    let said = check(cluster.kubeconfig(), &address, "unwell", &[], &[("MODULET_ZONE_PER_BASE", "false")]).await?;
    said.has(&["[ok] none of 1 puts Pods on bases"]).has(&["[ok] ordinary Nodes have zones (east, west)"]);
    assert!(base.connected());
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_and_a_cluster_that_is_away_is_not_called_unwell() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let client = cluster.client().await?;
    let broker = Mosquitto::start().await?;
    cluster.create_namespace("check-rights").await?;
    let account = cluster.kubeconfig_for_service_account("check-rights", "half").await?;
    let rules = json!([
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch", "patch", "delete"] },
        { "apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"] },
        { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"] },
        { "apiGroups": ["apps"], "resources": ["replicasets", "controllerrevisions"], "verbs": ["list", "watch"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "patch"] },
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch", "create", "patch"] },
    ]);
    create(&Api::<ClusterRole>::all(client.clone()), json!({ "metadata": { "name": "check-rights" }, "rules": rules }))
        .await?;
    let binding = json!({
        "metadata": { "name": "check-rights" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "check-rights" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "check-rights", "name": "half" }],
    });
    create(&Api::<ClusterRoleBinding>::all(client), binding).await?;
    let said = eventually("the rights", SOON, async || {
        let said = check(&account, broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
        ensure!(!said.text.contains("may not list nodes"), "{}", said.text);
        Ok(said)
    })
    .await?;
    said.has(&["[PROBLEM] system:serviceaccount:check-rights:half may not create nodes: "])
        .has(&["[warning]", "may not list daemonsets.apps, watch daemonsets.apps: "])
        .has(&["[warning]", "list deployments.apps", "patch deployments.apps/scale", "peer Deployments"])
        .has(&["[cannot look] needs the right to list daemonsets.apps"])
        .ends_with(1);

    let away = tempfile::NamedTempFile::new()?;
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        "users": [{ "name": "c", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
    });
    fs::write(away.path(), nowhere.to_string())?;
    let said = check(away.path(), broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
    said.has(&["[CANNOT LOOK]", "127.0.0.1:1", "onnection refused"]).has(&["[ok]", "logged in"]).ends_with(2);
    let said = check(&PathBuf::from("/nowhere"), broker.address(), "check-rights", &["--listen", "0"], &[]).await?;
    said.has(&["[CANNOT LOOK]", "/nowhere"]).ends_with(2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_the_broker_refuses_is_named() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let kubeconfig = cluster.kubeconfig();
    let ask = async |broker: &BrokerAddress, more: &[(&str, &str)]| {
        check(kubeconfig, broker, "check-broker", &["--listen", "0"], more).await
    };
    let broker = Mosquitto::start().await?;
    let said = ask(broker.address(), &[("MQTT_PASSWORD", "hunter-7")]).await?;
    said.has(&["[PROBLEM]", "refuses the login", "user name or password is wrong"])
        .has(&["MQTT_PASSWORD"])
        .ends_with(1);
    said.has_not("hunter-7");
    broker.stop().await?;
    let said = ask(broker.address(), &[]).await?;
    said.has(&["[PROBLEM]", "cannot be reached", "onnection refused"]).ends_with(1);
    let said = ask(broker.address(), &[("MQTT_BROKER", "no-such-host.invalid")]).await?;
    said.has(&["[PROBLEM] no-such-host.invalid", "cannot be reached"]).ends_with(1);

    let directory = tempfile::tempdir()?;
    let rules = directory.path().join("acl");
    let user = &broker.address().username;
    fs::write(&rules, format!("user {user}\ntopic read #\ntopic write koupleless_check-broker/+/health\n"))?;
    let strict = Mosquitto::start_configured(&format!("acl_file {}", rules.display())).await?;
    let said = ask(strict.address(), &[]).await?;
    said.has(&["[PROBLEM] refuses to publish to", "koupleless_check-broker/{base}/installBiz"])
        .has_not("{base}/health")
        .has(&["[ok] grants the subscriptions"])
        .ends_with(1);

    let tls = Mosquitto::start_tls(Clients::Certificates).await?;
    let files = tls.tls().context("no TLS")?;
    let port = files.port.to_string();
    let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key].map(|path| path.display().to_string());
    let mine = [("MQTT_PORT", port.as_str()), ("MQTT_CA_PATH", &ca)];
    let all = [mine[0], mine[1], ("MQTT_CLIENT_CRT_PATH", &certificate), ("MQTT_CLIENT_KEY_PATH", &key)];
    ask(tls.address(), &all).await?.has(&["[ok]", "logged in over TLS"]).has(&["[ok] lets commands be published"]);
    ask(tls.address(), &mine).await?.has(&["[PROBLEM]", "no TLS handshake"]).ends_with(1);
    let other = Mosquitto::start_tls(Clients::Passwords).await?;
    let other = other.tls().context("no TLS")?.ca.display().to_string();
    let foreign = [all[0], ("MQTT_CA_PATH", other.as_str()), all[2], all[3]];
    ask(tls.address(), &foreign).await?.has(&["[PROBLEM]", "no TLS handshake"]).ends_with(1);
    let said = ask(tls.address(), &[("MQTT_PORT", &port)]).await?;
    said.has(&["[PROBLEM]", "does not answer as an MQTT broker"]).has(&["MQTT_CA_PATH"]).ends_with(1);
    let said = ask(tls.address(), &[("MQTT_CA_PATH", "/nowhere")]).await?;
    said.has(&["[PROBLEM]", "cannot read /nowhere"]).ends_with(1);
    ask(tls.address(), &[("ENABLE_MQTT_TUNNEL", "false")]).await?.has(&["[PROBLEM] no tunnel"]).ends_with(1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bases_of_another_environment_are_named_where_ours_is_silent() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let address = broker.address();
    let options = modulet_testkit::base::BaseOptions {
        env: "check-other".into(),
        username: address.username.clone(),
        password: address.password.clone(),
        host: address.host.clone(),
        heartbeat: Duration::from_millis(200),
        ..modulet_testkit::base::BaseOptions::new("base-1", address.port)
    };
    let _base = SimulatedBase::start(options).await?;
    let said = check(cluster.kubeconfig(), address, "check-silent", &["--listen", "2"], &[]).await?;
    said.has(&["[warning] no base of environment check-silent was heard, but bases of check-other"]);
    Ok(())
}
