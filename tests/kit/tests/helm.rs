//! The chart renders, is accepted by a real API server, and gives the rights it says and no more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use modulet_testkit::control_plane::{ControlPlane, client_with};
use modulet_testkit::helm::{helm_install, helm_lint, helm_template};
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
async fn a_real_api_server_takes_it_and_gives_the_least_rights() {
    let cluster = ControlPlane::shared().await.unwrap();
    let password = "p\"w: {{ x }} #";
    let values = json!({ "mqtt": { "host": "broker", "username": "me", "password": password } });
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
        ("delete", "apps", "replicasets", "anywhere"),
    ] {
        assert!(!may(verb, group, resource, namespace).await, "{verb} {resource} is allowed");
    }
}
