//! The chart renders, is accepted by a real API server, and gives the rights it says and no more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use modulet_testkit::control_plane::{ControlPlane, client_with};
use modulet_testkit::helm::{helm_install, helm_lint, helm_release, helm_template};
use modulet_testkit::wait::eventually;
use serde_json::{Value, json};

fn env<'a>(deployment: &'a Value, name: &str) -> Option<&'a Value> {
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    env.as_array()?.iter().find(|variable| variable["name"] == name)
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Option<&'a Value> {
    documents.iter().find(|document| document["kind"] == kind)
}

#[tokio::test]
async fn a_broker_is_all_the_chart_needs() {
    let values = json!({ "mqtt": { "host": "broker" } });
    helm_lint(&values).await.unwrap();
    let documents = helm_template("somewhere", &values).await.unwrap();
    assert!(of_kind(&documents, "Secret").is_none());
    let deployment = of_kind(&documents, "Deployment").unwrap();
    assert_eq!(env(deployment, "MQTT_BROKER").unwrap()["value"], "broker");
    assert_eq!(env(deployment, "MQTT_PORT").unwrap()["value"], "1883");
    assert!(env(deployment, "MQTT_USERNAME_FILE").is_none());
    assert!(env(deployment, "MQTT_CA_PATH").is_none());

    let error = helm_template("somewhere", &json!({})).await.unwrap_err().to_string();
    assert!(error.contains("mqtt.host is required"), "{error}");
    let error = helm_template("somewhere", &json!({ "mqtt": { "hots": "broker" } })).await;
    assert!(error.unwrap_err().to_string().contains("'hots' not allowed"));
}

#[tokio::test]
async fn a_secret_of_ones_own_and_tls() {
    let values = json!({ "mqtt": {
        "host": "broker", "existingSecret": "mine", "passwordKey": "pass",
        "tls": { "secretName": "certificates", "clientCertificate": true },
    } });
    let documents = helm_template("somewhere", &values).await.unwrap();
    assert!(of_kind(&documents, "Secret").is_none());
    let deployment = of_kind(&documents, "Deployment").unwrap();
    let path = |name| env(deployment, name).unwrap()["value"].clone();
    assert_eq!(path("MQTT_USERNAME_FILE"), "/etc/modulet/login/username");
    assert_eq!(path("MQTT_PASSWORD_FILE"), "/etc/modulet/login/pass");
    assert_eq!(path("MQTT_CA_PATH"), "/etc/modulet/tls/ca.crt");
    assert_eq!(path("MQTT_CLIENT_CRT_PATH"), "/etc/modulet/tls/tls.crt");
    assert_eq!(path("MQTT_CLIENT_KEY_PATH"), "/etc/modulet/tls/tls.key");
    let pod = &deployment["spec"]["template"]["spec"];
    let secrets = [0, 1].map(|n| pod["volumes"][n]["secret"]["secretName"].clone());
    assert_eq!(secrets, ["mine", "certificates"]);
    let mounts = [0, 1].map(|n| pod["containers"][0]["volumeMounts"][n]["mountPath"].clone());
    assert_eq!(mounts, ["/etc/modulet/login", "/etc/modulet/tls"]);
}

#[tokio::test]
async fn tls_to_a_broker_with_a_public_authority() {
    let values = json!({ "mqtt": { "host": "broker", "tls": { "enabled": true } } });
    let documents = helm_template("somewhere", &values).await.unwrap();
    let deployment = of_kind(&documents, "Deployment").unwrap();
    assert_eq!(env(deployment, "MODULET_MQTT_TLS").unwrap()["value"], "true");
    assert!(env(deployment, "MQTT_CA_PATH").is_none());
    assert!(deployment["spec"]["template"]["spec"]["volumes"].is_null());
}

#[tokio::test]
async fn the_kubelet_api_has_a_service_whose_address_the_pod_is_told() {
    let values = json!({ "mqtt": { "host": "broker" }, "kubelet": { "enabled": true } });
    helm_lint(&values).await.unwrap();
    let documents = helm_template("somewhere", &values).await.unwrap();
    let service = of_kind(&documents, "Service").unwrap();
    assert_eq!(service["metadata"]["name"], "modulet-kubelet");
    assert_eq!(service["spec"]["ports"], json!([{ "name": "kubelet", "port": 10250, "targetPort": "kubelet" }]));
    let deployment = of_kind(&documents, "Deployment").unwrap();
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"], "all replicas");
    let value = |name| env(deployment, name).map(|variable| variable["value"].clone());
    // The variable that Kubernetes sets for a Service of that name.
    assert_eq!(value("MODULET_KUBELET_API_ADDRESS"), Some(json!("$(MODULET_KUBELET_SERVICE_HOST)")));
    assert_eq!(value("MODULET_KUBELET_API_LISTEN"), Some(json!("0.0.0.0:10250")));
    assert_eq!(value("MODULET_KUBELET_API_CRT_PATH"), None);
    let granted = |documents: &[Value], role: &str| -> Vec<Value> {
        let bindings = documents.iter().filter(|d| d["roleRef"]["name"] == format!("somewhere:modulet-{role}"));
        bindings.map(|binding| binding["metadata"]["namespace"].clone()).collect()
    };
    let logs = |documents: &[Value]| granted(documents, "logs");
    let ports = |documents: &[Value]| granted(documents, "port-forward");
    assert_eq!((logs(&documents), ports(&documents)), (vec![], vec![]), "what is not named is not read");
    for (namespaces, expected) in
        [(json!(["*"]), [Value::Null]), (json!(["*", "shop"]), [Value::Null]), (json!(["shop"]), [json!("shop")])]
    {
        let kubelet = json!({ "enabled": true, "namespaces": namespaces });
        let values = json!({ "mqtt": { "host": "broker" }, "kubelet": kubelet });
        assert_eq!(logs(&helm_template("somewhere", &values).await.unwrap()), expected, "{namespaces}");
    }
    for odd in ["**", "shop*", "Shop", ""] {
        let kubelet = json!({ "enabled": true, "namespaces": [odd] });
        let values = json!({ "mqtt": { "host": "broker" }, "kubelet": kubelet });
        assert!(helm_template("somewhere", &values).await.is_err(), "{odd:?}");
    }

    let mut values = json!({ "mqtt": { "host": "broker" }, "basePods": { "namespaces": ["bases", "shop"] }, "kubelet": {
        "enabled": true, "port": 10350, "address": "192.0.2.10", "tls": { "secretName": "certificate" },
        "namespaces": ["shop", "bases"], "baseNamespaces": ["bases", "more"],
    } });
    values["probes"] = json!({ "enabled": false, "hosts": ["a", "b"] });
    values["metaspace"] = json!({ "low": 90, "wait": false });
    values["metrics"] = json!({ "perBase": true });
    let documents = helm_template("somewhere", &values).await.unwrap();
    let deployment = of_kind(&documents, "Deployment").unwrap();
    let value = |name| env(deployment, name).map(|variable| variable["value"].clone());
    assert_eq!(value("MODULET_KUBELET_API_ADDRESS"), Some(json!("192.0.2.10")));
    assert_eq!(value("MODULET_KUBELET_API_LISTEN"), Some(json!("0.0.0.0:10350")));
    assert_eq!(value("MODULET_KUBELET_API_KEY_PATH"), Some(json!("/etc/modulet/kubelet-tls/tls.key")));
    assert_eq!(value("MODULET_KUBELET_API_BASE_NAMESPACES"), Some(json!("bases,more")));
    assert_eq!(value("MODULET_BASE_POD_NAMESPACES"), Some(json!("bases,shop")));
    assert_eq!((value("MODULET_PROBES"), value("MODULET_PROBE_HOSTS")), (Some(json!("false")), Some(json!("a,b"))));
    assert_eq!(
        (value("MODULET_METASPACE_LOW"), value("MODULET_METASPACE_WAIT")),
        (Some(json!("90")), Some(json!("false")))
    );
    assert_eq!(value("MODULET_METRICS_PER_BASE"), Some(json!("true")));
    let volume = &deployment["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["secret"]["secretName"], "certificate");
    assert_eq!(logs(&documents), ["shop", "bases", "more"]);
    assert_eq!(ports(&documents), ["shop", "bases"], "a log is read, and no port is forwarded");

    let mut values =
        json!({ "mqtt": { "host": "broker" }, "kubelet": { "enabled": true, "tls": { "request": true } } });
    let documents = helm_template("somewhere", &values).await.unwrap();
    let deployment = of_kind(&documents, "Deployment").unwrap();
    assert_eq!(env(deployment, "MODULET_KUBELET_API_CSR_SECRET").unwrap()["value"], "modulet-kubelet");
    let secret = of_kind(&documents, "Secret").unwrap();
    assert_eq!((&secret["metadata"]["name"], &secret["data"]), (&json!("modulet-kubelet"), &Value::Null));
    let text = json!(documents).to_string();
    assert!(!text.contains("signers") && !text.contains("certificatesigningrequests/"), "no right to approve");
    values["kubelet"]["tls"]["secretName"] = json!("certificate");
    assert!(helm_template("somewhere", &values).await.is_err(), "two certificates");

    let without = helm_template("somewhere", &json!({ "mqtt": { "host": "broker" } })).await.unwrap();
    assert!(
        of_kind(&without, "Service").is_none()
            && of_kind(&without, "Secret").is_none()
            && !json!(without).to_string().contains("tokenreviews")
    );
}

#[tokio::test]
async fn bases_over_http_need_no_broker_and_find_a_service() {
    let values = json!({ "mqtt": { "enabled": false, "username": "me" }, "http": { "enabled": true } });
    helm_lint(&values).await.unwrap();
    let documents = helm_template("somewhere", &values).await.unwrap();
    for kind in ["Secret", "NetworkPolicy"] {
        assert!(of_kind(&documents, kind).is_none(), "{kind}");
    }
    let deployment = of_kind(&documents, "Deployment").unwrap();
    let value = |name| env(deployment, name).map(|variable| variable["value"].clone());
    assert_eq!(value("ENABLE_MQTT_TUNNEL"), Some(json!("false")));
    assert_eq!(value("ENABLE_HTTP_TUNNEL"), Some(json!("true")));
    assert_eq!(value("HTTP_TUNNEL_LISTEN_PORT"), Some(json!("7777")));
    for name in ["MQTT_BROKER", "MQTT_USERNAME_FILE", "HTTP_TUNNEL_SECRET_FILE", "HTTP_TUNNEL_CRT_PATH"] {
        assert_eq!(value(name), None, "{name}");
    }
    let pod = &deployment["spec"]["template"]["spec"];
    assert!(pod["volumes"].is_null());
    let port = json!({ "name": "heartbeats", "containerPort": 7777 });
    assert!(pod["containers"][0]["ports"].as_array().unwrap().contains(&port));
    // http://{release}.{namespace}:7777, as docs/http.md has it.
    let service = of_kind(&documents, "Service").unwrap();
    assert_eq!(
        (&service["metadata"]["name"], &service["metadata"]["namespace"]),
        (&json!("modulet"), &json!("somewhere"))
    );
    assert_eq!(service["spec"]["ports"], json!([{ "name": "heartbeats", "port": 7777, "targetPort": "heartbeats" }]));
    let mut leader = deployment["spec"]["selector"]["matchLabels"].clone();
    leader["modulet.koupleless.io/leader"] = json!("true");
    assert_eq!(service["spec"]["selector"], leader, "a base posts to one replica: the one that leads");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true, "a broker that is away keeps no beat away");

    let with_broker = helm_template("somewhere", &json!({ "mqtt": { "host": "broker" } })).await.unwrap();
    assert!(of_kind(&with_broker, "Service").is_none());
    assert!(env(of_kind(&with_broker, "Deployment").unwrap(), "ENABLE_HTTP_TUNNEL").is_none());
}

#[tokio::test]
async fn who_may_beat_over_http_is_the_charts_to_say() {
    let values = json!({
        "mqtt": { "host": "broker", "existingSecret": "login", "tls": { "secretName": "broker" } },
        "http": {
            "enabled": true, "port": 8777, "service": { "name": "module-controller" },
            "secret": { "existingSecret": "bases", "key": "token" },
            "tls": { "secretName": "certificates", "clientCertificates": true },
            "networkPolicy": { "enabled": true, "from": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] },
        },
    });
    helm_lint(&values).await.unwrap();
    let documents = helm_template("somewhere", &values).await.unwrap();
    let deployment = of_kind(&documents, "Deployment").unwrap();
    let value = |name| env(deployment, name).unwrap()["value"].clone();
    assert_eq!(value("HTTP_TUNNEL_LISTEN_PORT"), "8777");
    assert_eq!(value("HTTP_TUNNEL_SECRET_FILE"), "/etc/modulet/http-secret/token");
    assert_eq!(value("HTTP_TUNNEL_CRT_PATH"), "/etc/modulet/http-tls/tls.crt");
    assert_eq!(value("HTTP_TUNNEL_KEY_PATH"), "/etc/modulet/http-tls/tls.key");
    assert_eq!(value("HTTP_TUNNEL_CLIENT_CA_PATH"), "/etc/modulet/http-tls/ca.crt");
    let pod = &deployment["spec"]["template"]["spec"];
    let all = |list: &Value, field: &dyn Fn(&Value) -> Value| {
        list.as_array().unwrap().iter().map(|one| (one["name"].clone(), field(one))).collect::<Vec<_>>()
    };
    let secrets = all(&pod["volumes"], &|volume| volume["secret"]["secretName"].clone());
    let names = ["login", "tls", "http-secret", "http-tls"];
    let expected: Vec<_> =
        names.iter().zip(["login", "broker", "bases", "certificates"]).map(|(n, s)| (json!(n), json!(s))).collect();
    assert_eq!(secrets, expected);
    let mounts = all(&pod["containers"][0]["volumeMounts"], &|mount| mount["mountPath"].clone());
    assert_eq!(mounts, names.map(|name| (json!(name), json!(format!("/etc/modulet/{name}")))));
    assert_eq!(of_kind(&documents, "Service").unwrap()["metadata"]["name"], "module-controller");
    let policy = &of_kind(&documents, "NetworkPolicy").unwrap()["spec"];
    assert_eq!(policy["podSelector"]["matchLabels"], deployment["spec"]["selector"]["matchLabels"]);
    assert_eq!(policy["ingress"][0]["from"], json!([{ "ipBlock": { "cidr": "10.0.0.0/8" } }]));
    assert_eq!(policy["ingress"][0]["ports"], json!([{ "port": "heartbeats" }]));
    assert_eq!(policy["ingress"][1], json!({ "ports": [{ "port": "http" }] }), "probes and metrics");

    for (http, word) in [
        (json!({ "enabled": true, "tls": { "clientCertificates": true } }), "http.tls.secretName"),
        (json!({ "enabled": true, "networkPolicy": { "enabled": true } }), "would let everybody in"),
        (json!({ "enabled": true, "port": 80 }), "minimum"),
        (json!({ "enabled": true, "secrets": {} }), "'secrets' not allowed"),
    ] {
        let error = helm_template("somewhere", &json!({ "mqtt": { "host": "broker" }, "http": http })).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let neither = helm_template("somewhere", &json!({ "mqtt": { "enabled": false } })).await.unwrap_err().to_string();
    assert!(neither.contains("no base can be reached"), "{neither}");
}

#[tokio::test]
async fn what_is_optional_is_not_there_unless_it_is_asked_for() {
    let documents = helm_template("somewhere", &json!({ "mqtt": { "host": "broker" } })).await.unwrap();
    let mut kinds: Vec<_> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let always = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Deployment", "Pod"];
    assert_eq!(kinds, [&always[..], &["PodDisruptionBudget", "Role", "RoleBinding", "ServiceAccount"]].concat());
}

#[tokio::test]
async fn rights_for_releases_in_batches_are_the_charts_to_say() {
    let of = async |values: Value| {
        let values =
            json!({ "mqtt": { "host": "broker" }, "moduleRollouts": values, "rbac": { "peerDeployments": false } });
        helm_template("somewhere", &values).await.unwrap()
    };
    let role = |documents: &[Value], name: &str| {
        let name = format!("somewhere:modulet{name}");
        let mut roles = documents.iter().filter(|d| d["kind"] == "ClusterRole");
        roles.find(|role| role["metadata"]["name"] == name.as_str()).cloned()
    };
    let about = |documents: &[Value], word: &str| documents.iter().filter(|d| d.to_string().contains(word)).count();

    let without = of(json!({ "enabled": false, "definition": false })).await;
    assert_eq!((about(&without, "modulerollouts"), about(&without, "\"deployments\"")), (0, 0));

    let documents = of(json!({})).await;
    assert!(role(&documents, "-rollback").is_none(), "no workload is written unless that is wanted");
    assert!(role(&documents, "").unwrap()["rules"].to_string().contains("\"deployments\""), "it reads Deployments");
    let definition = of_kind(&documents, "CustomResourceDefinition").unwrap();
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let file = std::fs::read_to_string(modulet_testkit::helm::chart().join("definitions/modulerollouts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!((&definition["metadata"]["name"], &definition["spec"]), (&file["metadata"]["name"], &file["spec"]));
    let aggregated = |name: &str, to: &str| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
        role(&documents, name).unwrap()["metadata"]["labels"][label.as_str()] == "true"
    };
    for (name, view, edit) in
        [("-rollouts-view", true, false), ("-rollouts-operate", false, true), ("-rollouts-confirm", false, false)]
    {
        assert_eq!((aggregated(name, "view"), aggregated(name, "edit")), (view, edit), "{name}");
    }
    assert_eq!(role(&documents, "-rollouts-confirm").unwrap()["rules"][0]["verbs"], json!(["patch"]));

    let documents = of(json!({ "rollback": true, "definition": false })).await;
    let workloads = json!([
        { "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"] },
        { "apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get"] },
    ]);
    assert_eq!(role(&documents, "-rollback").unwrap()["rules"], workloads);
    assert!(of_kind(&documents, "CustomResourceDefinition").is_none());
}

#[tokio::test]
async fn one_release_of_several_keeps_the_definition_up_to_date_and_none_takes_it_away() {
    let cluster = ControlPlane::shared().await.unwrap();
    let kubeconfig = cluster.kubeconfig();
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client().await.unwrap());
    let seen = async || {
        let definition = definitions.get("modulerollouts.modulet.koupleless.io").await.unwrap();
        let owner = definition.metadata.annotations.unwrap_or_default();
        let (release, place) = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace");
        let names = definition.spec.names.short_names.unwrap_or_default();
        (owner.get(release).cloned().unwrap_or_default(), owner.get(place).cloned().unwrap_or_default(), names)
    };
    let values = |environment: &str| json!({ "mqtt": { "host": "broker" }, "environment": environment });
    let ours = ("modulet".to_owned(), "one".to_owned(), vec!["mro".to_owned()]);
    helm_install(kubeconfig, "one", &values("one")).await.unwrap();
    assert_eq!(seen().await, ours);
    // As a version before had it, of which the other release of the cluster must not make anything.
    let older = json!({ "spec": { "names": { "shortNames": null } } });
    let name = "modulerollouts.modulet.koupleless.io";
    definitions.patch(name, &PatchParams::default(), &Patch::Merge(older)).await.unwrap();
    helm_install(kubeconfig, "two", &values("two")).await.unwrap();
    assert_eq!(seen().await, (ours.0.clone(), ours.1.clone(), Vec::new()));
    helm_install(kubeconfig, "one", &values("one")).await.unwrap();
    assert_eq!(seen().await, ours, "an upgrade brings what its chart has");
    helm_release(kubeconfig, "one", &["uninstall", "modulet"], &json!({})).await.unwrap();
    assert_eq!(seen().await, ours, "and with it every ModuleRollout");
}

#[tokio::test]
async fn monitors_rules_and_dashboard_are_in_the_form_of_their_operators() {
    let values = json!({
        "mqtt": { "host": "broker" }, "commonLabels": { "team": "a" },
        "metrics": {
            "serviceMonitor": { "enabled": true, "interval": "15s", "labels": { "release": "prometheus" } },
            "podMonitor": { "enabled": true }, "prometheusRule": { "enabled": true, "labels": { "release": "p" } },
            "dashboard": { "enabled": true, "annotations": { "grafana_folder": "Koupleless" } },
        },
    });
    helm_lint(&values).await.unwrap();
    let documents = helm_template("somewhere", &values).await.unwrap();
    let of = |kind| of_kind(&documents, kind).unwrap();
    let selector = &of("Deployment")["spec"]["selector"]["matchLabels"];
    let service = of("Service");
    assert_eq!((&service["spec"]["selector"], &service["spec"]["ports"][0]["name"]), (selector, &json!("http")));
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);

    let monitor = of("ServiceMonitor");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["spec"]["namespaceSelector"], json!({ "matchNames": ["somewhere"] }));
    let labels = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(labels.iter().all(|(name, value)| service["metadata"]["labels"][name] == *value), "{labels:?}");
    assert!(labels.contains_key("app.kubernetes.io/component"), "not the Service that bases post to");
    let endpoint = json!([{ "port": "http", "path": "/metrics", "interval": "15s" }]);
    assert_eq!(monitor["spec"]["endpoints"], endpoint);
    let pods = &of("PodMonitor")["spec"];
    assert_eq!(pods["selector"]["matchLabels"], *selector);
    assert_eq!(pods["podMetricsEndpoints"], json!([{ "port": "http", "path": "/metrics" }]));

    let rules = of("PrometheusRule");
    assert_eq!(
        (&rules["apiVersion"], &rules["metadata"]["labels"]["release"]),
        (&json!("monitoring.coreos.com/v1"), &json!("p"))
    );
    let file = std::fs::read_to_string(modulet_testkit::helm::chart().join("rules/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!(rules["spec"], file, "as the file that others load");

    let dashboard = of("ConfigMap");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(dashboard["metadata"]["annotations"], json!({ "grafana_folder": "Koupleless" }));
    let json: Value = serde_json::from_str(dashboard["data"]["modulet.json"].as_str().unwrap()).unwrap();
    assert_eq!(json["uid"], "modulet");
    for document in &documents {
        assert_eq!(document["metadata"]["labels"]["team"], "a", "{}", document["kind"]);
    }
}

#[tokio::test]
async fn the_pod_is_sized_by_the_number_of_bases_and_takes_what_a_platform_adds() {
    let pod = async |more: Value| {
        let mut values = json!({ "mqtt": { "host": "broker" } });
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let documents = helm_template("somewhere", &values).await.unwrap();
        of_kind(&documents, "Deployment").unwrap()["spec"]["template"].clone()
    };
    for (bases, request, limit) in [
        (1, "96Mi", "256Mi"),
        (1_000, "96Mi", "256Mi"),
        (1_001, "160Mi", "320Mi"),
        (5_000, "320Mi", "512Mi"),
        (20_000, "1Gi", "2Gi"),
    ] {
        let container = &pod(json!({ "bases": { "count": bases } })).await["spec"]["containers"][0];
        let memory = ["requests", "limits"].map(|part| container["resources"][part]["memory"].clone());
        assert_eq!(memory, [request, limit], "{bases}");
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let template = pod(json!({
        "image": { "repository": "registry.example.org/modulet", "tag": "1", "digest": digest },
        "imagePullSecrets": [{ "name": "registry" }], "resources": { "limits": { "memory": "1Gi" } },
        "extraVolumes": [{ "name": "authorities", "configMap": { "name": "authorities" } }],
        "extraVolumeMounts": [{ "name": "authorities", "mountPath": "/etc/ssl/certs" }],
        "reports": { "existingSecret": "robots" }, "priorityClassName": "system-cluster-critical",
        "commonAnnotations": { "owner": "platform" }, "nodeSelector": { "pool": "system" },
    }))
    .await;
    let (spec, container) = (&template["spec"], &template["spec"]["containers"][0]);
    assert_eq!(container["image"], format!("registry.example.org/modulet@{digest}"));
    assert_eq!(container["resources"], json!({ "limits": { "memory": "1Gi" } }));
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(
        (&spec["priorityClassName"], &spec["nodeSelector"]["pool"]),
        (&json!("system-cluster-critical"), &json!("system"))
    );
    let mounts = json!([
        { "name": "reports", "mountPath": "/etc/modulet/reports", "readOnly": true },
        { "name": "authorities", "mountPath": "/etc/ssl/certs" },
    ]);
    assert_eq!(container["volumeMounts"], mounts);
    let names: Vec<_> = spec["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].clone()).collect();
    assert_eq!(names, ["reports", "authorities"]);
    let hooks = container["env"].as_array().unwrap().iter().find(|env| env["name"] == "REPORT_HOOKS_FILE");
    assert_eq!(hooks.unwrap()["value"], "/etc/modulet/reports/hooks");
    for (values, word) in [
        (json!({ "bases": { "count": 0 } }), "minimum"),
        (json!({ "bases": { "count": 20_001 } }), "maximum"),
        (json!({ "image": { "digest": "abc" } }), "pattern"),
        (json!({ "admissionPolicy": { "enable": true } }), "'enable' not allowed"),
        (json!({ "priorityClass": { "value": 2_000_000_000 } }), "maximum"),
    ] {
        let error = helm_template("somewhere", &values).await.unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn one_network_policy_says_who_gets_in_and_where_it_may_go() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "name": "monitoring" } } }]);
    let values = json!({
        "mqtt": { "host": "broker" }, "http": { "enabled": true },
        "networkPolicy": { "enabled": true, "metricsFrom": from, "egress": [{ "ports": [{ "port": 6443 }] }] },
    });
    let documents = helm_template("somewhere", &values).await.unwrap();
    let spec = &of_kind(&documents, "NetworkPolicy").unwrap()["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let heartbeats = json!({ "ports": [{ "port": "heartbeats" }] });
    assert_eq!(spec["ingress"], json!([heartbeats, { "from": from, "ports": [{ "port": "http" }] }]));
    assert_eq!(spec["egress"], json!([{ "ports": [{ "port": 6443 }] }]));
    let documents =
        helm_template("somewhere", &json!({ "mqtt": { "host": "broker" }, "networkPolicy": { "enabled": true } }))
            .await;
    let spec = of_kind(&documents.unwrap(), "NetworkPolicy").unwrap()["spec"].clone();
    assert_eq!(
        (&spec["policyTypes"], &spec["ingress"]),
        (&json!(["Ingress"]), &json!([{ "ports": [{ "port": "http" }] }]))
    );
}

#[tokio::test]
async fn a_real_api_server_takes_it_and_gives_the_least_rights() {
    let cluster = ControlPlane::shared().await.unwrap();
    let password = "p\"w: {{ x }} #";
    // Another test has the definition.
    let values = json!({
        "mqtt": { "host": "broker", "username": "me", "password": password }, "moduleRollouts": { "definition": false },
    });
    let notes = helm_install(cluster.kubeconfig(), "charted", &values).await.unwrap();
    assert!(notes.contains("rollout status deployment/modulet"), "{notes}");

    let client = cluster.client().await.unwrap();
    let secret = Api::<Secret>::namespaced(client.clone(), "charted").get("modulet-mqtt").await;
    assert_eq!(secret.unwrap().data.unwrap()["password"].0, password.as_bytes());
    let deployments = Api::<Deployment>::namespaced(client.clone(), "charted");
    let strategy = async || {
        let spec = deployments.get("modulet").await.unwrap().spec.unwrap();
        (spec.replicas.unwrap(), spec.strategy.unwrap().type_.unwrap())
    };
    assert_eq!(strategy().await, (2, "RollingUpdate".to_owned()));
    // One that was installed by a version which does not ask who leads.
    let old = json!({ "metadata": { "annotations": { "modulet.koupleless.io/leader-election": null } } });
    deployments.patch("modulet", &PatchParams::default(), &Patch::Merge(old)).await.unwrap();
    for expected in ["Recreate", "RollingUpdate"] {
        helm_install(cluster.kubeconfig(), "charted", &values).await.unwrap();
        assert_eq!(strategy().await, (2, expected.to_owned()), "an old one has to be gone before the new one comes");
    }
    let pods = Api::<Pod>::namespaced(client, "charted");
    eventually("the Pod to be made", Duration::from_secs(20), async || {
        pods.list(&ListParams::default()).await.ok()?.items.pop()
    })
    .await
    .unwrap();

    let kubeconfig = cluster.kubeconfig_for_service_account("charted", "modulet").await.unwrap();
    let reviews = Api::<SelfSubjectAccessReview>::all(client_with(&kubeconfig).await.unwrap());
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str| {
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({ "spec": { "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": part,
            "namespace": namespace,
        } } });
        let review = serde_json::from_value(review).unwrap();
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    for (verb, group, resource, namespace) in [
        ("create", "", "nodes", ""),
        ("delete", "", "nodes", ""),
        ("patch", "", "nodes/status", ""),
        ("watch", "", "pods", ""),
        ("delete", "", "pods", "anywhere"),
        ("patch", "", "pods/status", "anywhere"),
        ("create", "events.k8s.io", "events", "anywhere"),
        ("patch", "coordination.k8s.io", "leases", "kube-node-lease"),
        ("watch", "apps", "replicasets", ""),
        ("watch", "apps", "controllerrevisions", ""),
        ("watch", "apps", "daemonsets", ""),
        ("patch", "apps", "deployments/scale", "anywhere"),
        ("watch", "modulet.koupleless.io", "modulerollouts", ""),
        ("patch", "modulet.koupleless.io", "modulerollouts/status", "anywhere"),
    ] {
        assert!(may(verb, group, resource, namespace).await, "{verb} {resource} is not allowed");
    }
    for (verb, group, resource, namespace) in [
        ("create", "", "pods", "anywhere"),
        ("patch", "", "pods", "anywhere"),
        ("patch", "events.k8s.io", "events", "anywhere"),
        ("get", "", "secrets", "charted"),
        ("get", "", "configmaps", "charted"),
        ("patch", "coordination.k8s.io", "leases", "charted"),
        ("patch", "apps", "deployments", "anywhere"),
        ("patch", "apps", "daemonsets", "anywhere"),
        ("create", "modulet.koupleless.io", "modulerollouts", "anywhere"),
        ("delete", "modulet.koupleless.io", "modulerollouts", "anywhere"),
        ("delete", "apps", "replicasets", "anywhere"),
    ] {
        assert!(!may(verb, group, resource, namespace).await, "{verb} {resource} is allowed");
    }
}
