//! virtual-kubelet's own tests for its providers (`tests/kit/provider-suite`), with a base's Node. Its Pods are no modules: a
//! policy makes them ones, and nothing of the tests is changed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kube::api::PostParams;
use modulet_testkit::{
    base::UrlBehaviour,
    control_plane::{ControlPlane, ControlPlaneOptions, Kubelets},
    ports::free_port,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{certificate, tunnel::Tunnel};
use crate::stage::{SOON, Stage, module_pod};

const NAME: &str = "provider-suite";
/// Of no machine: the API server's proxies lead to no loopback address.
const ADDRESS: &str = "192.0.2.50";

/// Those that pass.
const PASS: [&str; 8] = [
    "TestCreatePodWithMandatoryInexistentConfigMap",
    "TestCreatePodWithMandatoryInexistentSecrets",
    "TestCreatePodWithOptionalInexistentConfigMap",
    "TestCreatePodWithOptionalInexistentSecrets",
    "TestGetPods",
    "TestGetStatsSummary",
    "TestPodLifecycleForceDelete",
    "TestPodLifecycleGracefulDelete",
];
/// It wants the CPU seconds of each container, and no JVM knows those of a module.
const CANNOT: &str = "TestGetMetricsResource";

/// Makes modules of all Pods that are bound to this Node when they are made.
fn policy(node: &str) -> [Value; 2] {
    let labels = r#"{"virtual-kubelet.koupleless.io/component": "module", "module.koupleless.io/version": "1.0.0"}"#;
    let toleration = r#"{"key": "schedule.koupleless.io/virtual-node", "operator": "Exists"}"#;
    let image = r#""https://modules.example.com/" + object.spec.containers[i].name + "-1.0.0-ark-biz.jar""#;
    let expression = format!(
        r#"[JSONPatch{{op: "add", path: "/metadata/labels", value: {labels}}},
            JSONPatch{{op: "add", path: "/spec/tolerations", value: [{toleration}]}}]
           + [0, 1, 2].filter(i, i < size(object.spec.containers)).map(i,
               JSONPatch{{op: "replace", path: "/spec/containers/" + string(i) + "/image", value: {image}}})"#
    );
    let (api, bound) = ("admissionregistration.k8s.io/v1", format!("object.spec.?nodeName.orValue('') == '{node}'"));
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] });
    [
        json!({
            "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": { "name": NAME },
            "spec": {
                "matchConstraints": { "resourceRules": [rule] },
                "matchConditions": [{ "name": "bound", "expression": bound }],
                "reinvocationPolicy": "Never",
                "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } }],
            },
        }),
        json!({
            "apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": NAME },
            "spec": { "policyName": NAME },
        }),
    ]
}

/// Pods that are made from now on are modules.
async fn pods_become_modules(stage: &Stage, node: &str) -> Result<()> {
    for object in policy(node) {
        stage.apply(&object).await?;
    }
    let container = json!({ "name": "probe", "image": "x" });
    let pod = json!({ "metadata": { "name": "probe" }, "spec": { "nodeName": node, "containers": [container] } });
    let (pod, dry) = (serde_json::from_value(pod)?, PostParams { dry_run: true, ..PostParams::default() });
    eventually("the policy in force", SOON, async || {
        let made = json!(stage.pods().create(&dry, &pod).await?);
        let image = &made["spec"]["containers"][0]["image"];
        ensure!(*image == json!("https://modules.example.com/probe-1.0.0-ark-biz.jar"), "{made}");
        Ok(())
    })
    .await
}

/// How each of the suite's tests ended.
async fn run(stage: &Stage, node: &str) -> Result<(BTreeMap<String, String>, String)> {
    let output = Command::new(Tool::ProviderSuite.program("provider-suite").await?)
        .arg(format!("--kubeconfig={}", stage.cluster.kubeconfig().display()))
        .args([format!("--namespace={NAME}"), format!("--node={node}"), "--test.v".to_owned()])
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    let ends = text.lines().filter_map(|line| {
        let (end, rest) = line.trim().strip_prefix("--- ")?.split_once(": Provider/")?;
        Some((rest.split(' ').next()?.to_owned(), end.to_owned()))
    });
    Ok((ends.collect(), text))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_that_was_asked_for_virtual_kubelets_own_tests_for_providers_pass_but_one() -> Result<()> {
    let (directory, port) = (tempfile::tempdir()?, free_port()?);
    let (_tunnel, egress) = Tunnel::start(directory.path(), port)?;
    let cluster = ControlPlane::start_own(ControlPlaneOptions {
        kubelets: Kubelets::Signed,
        api_server_args: vec![format!("--egress-selector-config-file={egress}")],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let account = certificate::chart(cluster, NAME, ADDRESS, port).await?;
    let mut stage = Stage::set_on(cluster, NAME, |options| {
        options
            .env("KUBECONFIG", account.display().to_string())
            .env("NAMESPACE", certificate::NAMESPACE)
            .env("MODULET_KUBELET_API_CSR_SECRET", certificate::SECRET)
            .env("MODULET_KUBELET_API_ADDRESS", ADDRESS)
            .env("MODULET_KUBELET_API_LISTEN", format!("127.0.0.1:{port}"))
    })
    .await?;
    let (base, _other) =
        tokio::try_join!(stage.base(stage.base_options("base-1")), stage.base(stage.base_options("base-2")))?;
    // Names that end with a number are not told from versions in the names of files.
    base.set_url_behaviour("modules.example.com", UrlBehaviour::Ok);
    // Of another Node, which the suite must not see.
    let mut elsewhere = module_pod(NAME, "elsewhere", &[("elsewhere", "1")]);
    elsewhere["spec"]["nodeName"] = json!(stage.node_name("base-2"));
    stage.create_pod(elsewhere).await?;
    stage.pod_ready("elsewhere").await?;
    let node = stage.node_name("base-1");
    certificate::is_signed_once_it_is_approved(&mut stage, &node).await?;
    pods_become_modules(&stage, &node).await?;

    let (ends, text) = run(&stage, &node).await?;
    let expected = PASS.map(|name| (name.to_owned(), "PASS".to_owned())).into_iter();
    let expected: BTreeMap<_, _> = expected.chain([(CANNOT.to_owned(), "FAIL".to_owned())]).collect();
    ensure!(ends == expected, "{ends:?}\n{text}");
    let log = stage.controller.log_text();
    ensure!(!log.contains("forbidden"), "the chart's rights: {log}");
    stage.ends_quietly().await
}
