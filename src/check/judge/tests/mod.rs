//! A cluster in which all is well, and what is said of others.

mod broker;
mod heartbeats;
mod workloads;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{
    super::{
        facts::{Blind, Look},
        finding::Report,
        rights,
    },
    words::{CONTROLLERS, DAEMON_SETS, POD_CIDRS, ZONES},
    *,
};
use crate::{
    config::ZonePerBase,
    k8s::{names, typical_base},
    tunnel::probe::Probe,
};

fn base_node() -> Node {
    typical_base("dev", 1000, false, false).unwrap()
}

fn probe() -> Probe {
    Probe {
        broker: "broker:1883".into(),
        tls: false,
        connected: Ok(()),
        not_heard: Vec::new(),
        not_said: Ok(Vec::new()),
        heard: Some("base-1".into()),
        others: BTreeSet::new(),
        kept: Some(BTreeSet::new()),
    }
}

/// A cluster in which all is well.
fn well() -> Facts {
    Facts {
        env: "dev".into(),
        client_id: "me".into(),
        leader: None,
        zone_per_base: ZonePerBase::Auto,
        base: Some(base_node()),
        version: Ok("v1.36.0".into()),
        who: Some("admin".into()),
        rights: rights::all(true, true, true).into_iter().map(|right| (right, Ok(true))).collect(),
        nodes: Ok(Vec::new()),
        daemon_sets: Ok(Vec::new()),
        deployments: Ok(Vec::new()),
        module_namespaces: Ok(BTreeSet::new()),
        limit_ranges: Ok(Vec::new()),
        referred: vec![("ns".into(), "secrets", Ok(true))],
        leases: Ok(Vec::new()),
        writer: Ok(None),
        broker: Some(probe()),
        heartbeats: None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as facts have them")]
fn objects<T: serde::de::DeserializeOwned>(all: &[Value]) -> Look<Vec<T>> {
    Ok(all.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect())
}

/// Level and words of the findings of a section.
fn found(facts: &Facts, section: &str) -> Vec<(Level, String)> {
    let of = all(facts).into_iter().filter(|f| f.section == section);
    of.map(|f| (f.level, format!("{} | {}", f.text, f.advice.join(" | ")))).collect()
}

#[track_caller]
fn finds(facts: &Facts, section: &str, level: Level, words: &[&str]) {
    let found = found(facts, section);
    let is = |(l, text): &(Level, String)| *l == level && words.iter().all(|word| text.contains(word));
    assert!(found.iter().any(is), "{level:?} {words:?} is not among {found:#?}");
}

fn exit(facts: &Facts) -> (u8, u8) {
    let report = Report(all(facts));
    (report.exit_code(false), report.exit_code(true))
}

fn ordinary(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels } })
}

fn base(name: &str, more: Value) -> Value {
    let mut node = json!({
        "metadata": { "name": name, "labels": {
            names::COMPONENT: "vnode", names::ENV: "dev", names::TYPE: "virtual-kubelet", "kubernetes.io/os": "linux" } },
        "spec": {},
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "modulet-v0", "machineID": "", "operatingSystem": "",
                "osImage": "", "systemUUID": "" },
        },
    });
    node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node
}

fn lease(node: &str, holder: &str) -> Value {
    json!({ "metadata": { "name": node }, "spec": { "holderIdentity": holder } })
}

#[test]
fn all_well() {
    let facts = well();
    assert_eq!(exit(&facts), (0, 0), "{:#?}", all(&facts));
    assert!(all(&facts).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn without_an_api_server_nothing_is_said_of_the_cluster_but_the_broker_is_looked_at() {
    let facts = Facts { version: Err("https://h: connection refused".into()), ..well() };
    finds(&facts, API_SERVER, Level::NoCluster, &["connection refused"]);
    let sections: BTreeSet<_> = all(&facts).iter().map(|f| f.section).collect();
    assert_eq!(sections.into_iter().collect::<Vec<_>>(), [API_SERVER, "broker"]);
    assert_eq!(exit(&facts), (2, 2));
}

#[test]
fn what_cannot_be_seen_names_the_right_and_is_no_failure() {
    let needs = |what: &str| Blind::Needs(what.to_owned());
    let facts = Facts {
        nodes: Err(needs("list nodes")),
        daemon_sets: Err(needs("list daemonsets.apps")),
        limit_ranges: Err(needs("list limitranges")),
        rights: vec![(rights::all(true, true, true)[0], Err(Blind::Failed("no answer".into())))],
        ..well()
    };
    finds(&facts, DAEMON_SETS, Level::CannotLook, &["needs the right to list daemonsets.apps"]);
    for section in [ZONES, POD_CIDRS, CONTROLLERS] {
        finds(&facts, section, Level::CannotLook, &["list nodes"]);
    }
    finds(&facts, "LimitRanges", Level::CannotLook, &["list limitranges"]);
    finds(&facts, RIGHTS, Level::CannotLook, &["no answer"]);
    assert_eq!(exit(&facts), (0, 0));
}

#[test]
fn missing_rights_are_named_with_what_is_not_done_without_them() {
    let mut facts = well();
    for (right, granted) in &mut facts.rights {
        *granted = Ok(!["create nodes", "patch deployments.apps/scale", "create leases.coordination.k8s.io"]
            .contains(&&*right.name()));
    }
    finds(
        &facts,
        RIGHTS,
        Level::Problem,
        &["admin may not create nodes, create leases.coordination.k8s.io in kube-node-lease"],
    );
    finds(&facts, RIGHTS, Level::Warning, &["patch deployments.apps/scale", "peer Deployments"]);
    assert_eq!(exit(&facts), (1, 1));
    for (right, granted) in &mut facts.rights {
        *granted = Ok(right.without.is_none());
    }
    assert_eq!(exit(&facts), (0, 1));
}

#[test]
fn environments_that_cannot_be_read_are_named_by_namespace() {
    let referred = ["a", "b"].map(|namespace| (namespace.to_owned(), "secrets", Ok(false)));
    let mut facts = Facts { referred: referred.to_vec(), ..well() };
    facts.referred.push(("c".into(), "configmaps", Err(Blind::Failed("no answer".into()))));
    finds(&facts, RIGHTS, Level::Problem, &["may not get secrets in a, b", "rbac.environmentFrom"]);
    assert!(!format!("{:?}", found(&facts, RIGHTS)).contains("in c"));
}

fn daemon_set(name: &str, spec: Value) -> Value {
    let mut template = json!({ "containers": [], "tolerations": [{ "operator": "Exists" }] });
    template.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "metadata": { "namespace": "ns", "name": name },
        "spec": { "selector": {}, "template": { "spec": template } },
    })
}

#[test]
fn daemon_sets_that_come_to_bases_are_named_with_the_patch() {
    let mut facts = Facts { daemon_sets: objects(&[daemon_set("good", json!({ "tolerations": [] }))]), ..well() };
    finds(&facts, DAEMON_SETS, Level::Ok, &["none of 1"]);
    facts.daemon_sets = objects(&[daemon_set("good", json!({ "tolerations": [] })), daemon_set("bad", json!({}))]);
    finds(&facts, DAEMON_SETS, Level::Warning, &["ns/bad", "kubectl patch daemonset bad --namespace ns", "NotIn"]);
    assert!(!format!("{:?}", all(&facts)).contains("ns/good"));
    assert_eq!(exit(&facts), (0, 1));
}

#[test]
fn what_selects_a_label_that_people_gave_a_base_comes_there_too() {
    let mut node = base("vnode.base-1.dev", json!({}));
    node["metadata"]["labels"]["pool"] = json!("blue");
    let facts = Facts {
        daemon_sets: objects(&[daemon_set("bad", json!({ "nodeSelector": { "pool": "blue" } }))]),
        nodes: objects(&[node.clone()]),
        ..well()
    };
    finds(&facts, DAEMON_SETS, Level::Warning, &["ns/bad"]);
    // The base of another environment is another modulet's.
    node["metadata"]["labels"][names::ENV] = json!("other");
    finds(&Facts { nodes: objects(&[node]), ..facts }, DAEMON_SETS, Level::Ok, &[]);
}

#[test]
fn a_base_is_judged_as_modulet_will_label_it() {
    // Another controller said linux, and modulet does not.
    let facts = Facts {
        daemon_sets: objects(&[daemon_set("agent", json!({ "nodeSelector": { "kubernetes.io/os": "linux" } }))]),
        nodes: objects(&[base("vnode.base-1.dev", json!({}))]),
        ..well()
    };
    finds(&facts, DAEMON_SETS, Level::Ok, &["none of 1"]);
}

#[test]
fn zones_of_ordinary_nodes_decide_for_those_of_bases() {
    let zoned = [
        ordinary("a", json!({ names::ZONE: "z1" })),
        ordinary("b", json!({ names::ZONE: "z2" })),
        base("vnode.base-1.dev", json!({})),
        ordinary("virtual", json!({ names::ZONE: "z9", names::TYPE: "virtual-kubelet" })),
    ];
    let facts = Facts { nodes: objects(&zoned), ..well() };
    finds(&facts, ZONES, Level::Ok, &["z1, z2)", "none of their own"]);
    let facts = Facts { zone_per_base: ZonePerBase::True, ..facts };
    finds(&facts, ZONES, Level::Problem, &["z1, z2", "MODULET_ZONE_PER_BASE=false"]);
    let alone = Facts { nodes: objects(&zoned[2..]), ..well() };
    finds(&alone, ZONES, Level::Ok, &["each base gets its own"]);
}

#[test]
fn ranges_of_pod_addresses_are_named() {
    let spec = json!({ "spec": { "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"] } });
    let mut machine = ordinary("a", json!({}));
    machine["spec"] = spec["spec"].clone();
    let facts = Facts { nodes: objects(&[machine.clone()]), ..well() };
    finds(&facts, POD_CIDRS, Level::Ok, &["1 Nodes", "10.1.0.0/24", "each base takes one too"]);
    let facts = Facts { nodes: objects(&[machine, base("vnode.base-1.dev", spec)]), ..well() };
    finds(&facts, POD_CIDRS, Level::Warning, &["1 bases", "--node-cidr-mask-size"]);
}

#[test]
fn who_else_is_at_work_is_told_by_the_leases_of_ready_nodes() {
    let names = ["vnode.a.dev", "vnode.b.dev"];
    let nodes: Vec<_> = names.iter().map(|name| base(name, json!({}))).collect();
    let with = |leases: &[Value]| Facts { nodes: objects(&nodes), leases: objects(leases), ..well() };
    let one = with(&[lease("vnode.a.dev", "me"), lease("vnode.b.dev", "me"), lease("machine", "kubelet")]);
    finds(&one, CONTROLLERS, Level::Ok, &["me holds"]);
    let other = with(&[lease("vnode.a.dev", "go-controller")]);
    finds(&other, CONTROLLERS, Level::Warning, &["go-controller (1 Nodes)", "stop it"]);
    // Another of our replicas leads.
    let replica = with(&[lease("vnode.a.dev", "me-2")]);
    finds(&replica, CONTROLLERS, Level::Warning, &["me-2 (1 Nodes) holds"]);
    let replica = Facts { leader: Some("me-2".into()), ..replica };
    finds(&replica, CONTROLLERS, Level::Ok, &["me-2 holds", "nobody else"]);
    let two = with(&[lease("vnode.a.dev", "me"), lease("vnode.b.dev", "go-controller")]);
    finds(&two, CONTROLLERS, Level::Problem, &["go-controller (1 Nodes), me (1 Nodes)", "doubled"]);
    // What was held by somebody who is gone is not Ready.
    let gone = base("vnode.b.dev", json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }));
    let left = Facts { nodes: objects(&[nodes[0].clone(), gone]), ..two };
    finds(&left, CONTROLLERS, Level::Ok, &["me holds"]);
}

#[test]
fn without_the_right_to_see_leases_record_and_nodes_tell_who_is_at_work() {
    let mut stranger = base("vnode.a.dev", json!({}));
    stranger["status"]["nodeInfo"]["kubeletVersion"] = json!("");
    let facts = Facts {
        nodes: objects(&[stranger]),
        leases: Err(Blind::Needs("list leases".into())),
        writer: Ok(Some("other/modulet-1".into())),
        ..well()
    };
    finds(&facts, CONTROLLERS, Level::CannotLook, &["list leases"]);
    finds(&facts, CONTROLLERS, Level::Warning, &["other holds"]);
    finds(&facts, CONTROLLERS, Level::Warning, &["vnode.a.dev", "not modulet", "docs/migration.md"]);
    let facts = Facts { writer: Ok(Some("me/modulet-1".into())), ..facts };
    finds(&facts, CONTROLLERS, Level::Ok, &["me"]);
}
