//! How a test ends: when nothing changes, nothing is written but Leases.

use std::{collections::BTreeMap, fs, path::Path, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stage::Stage;

/// For so long nothing may be written.
const WINDOW: Duration = Duration::from_millis(2500);
/// By then there must have been such a time: what goes on longer never ends.
const LIMIT: Duration = Duration::from_secs(40);

/// All that may not change: objects by kind and name, and how often the controller wrote, by kind.
#[derive(PartialEq)]
struct Snapshot(BTreeMap<String, Value>);

impl Stage {
    /// Waits until the controller has come to rest: for some seconds no Node, Pod, `ConfigMap`, workload or Event of the
    /// stage changes, and nothing but Leases is written. To be called at the end, while the bases still live.
    pub(crate) async fn ends_quietly(&self) -> Result<()> {
        let start = Instant::now();
        let mut before = self.snapshot().await?;
        loop {
            tokio::time::sleep(WINDOW).await; // what is looked for is that nothing happens
            let after = self.snapshot().await?;
            if before == after {
                self.ended.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let changed = before.changed(&after).join("\n");
            ensure!(start.elapsed() < LIMIT, "{} does not come to rest; in the last {WINDOW:?}:\n{changed}", self.name);
            before = after;
        }
    }

    /// For a test that ends while something is still going on, or with the controller gone.
    pub(crate) fn ends_without_quiet(&self, why: &str) {
        assert!(!why.is_empty());
        self.ended.store(true, Ordering::Relaxed);
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let mut seen = BTreeMap::new();
        let nodes = format!("virtual-kubelet.koupleless.io/env={}", self.name);
        let record = format!("modulet.koupleless.io/record={}", self.name);
        for (kind, version, plural, namespace, labels) in [
            ("Node", "v1", "nodes", None, nodes.as_str()),
            ("Pod", "v1", "pods", Some(self.name.as_str()), ""),
            ("ConfigMap", "v1", "configmaps", Some(&self.name), ""),
            ("ConfigMap", "v1", "configmaps", Some("default"), &record),
            ("Event", "v1", "events", Some(&self.name), ""),
            ("Deployment", "apps/v1", "deployments", Some(&self.name), ""),
            ("ReplicaSet", "apps/v1", "replicasets", Some(&self.name), ""),
        ] {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let resource = ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            };
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                None => Api::all_with(self.client.clone(), &resource),
            };
            for object in api.list(&ListParams::default().labels(labels)).await?.items {
                let name = object.metadata.name.clone().unwrap_or_default();
                let object = json!(object);
                if !of_the_scheduler(kind, &object) {
                    seen.insert(format!("{kind} {name}"), object);
                }
            }
        }
        // Events about Nodes are in "default", with those of all stages.
        let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), "default");
        let ours = format!(".{}.", self.name);
        for event in events.list_metadata(&ListParams::default()).await?.items {
            let name = event.metadata.name.clone().unwrap_or_default();
            if name.starts_with("vnode.") && name.contains(&ours) {
                seen.insert(format!("Event {name}"), json!(event.metadata.resource_version));
            }
        }
        for line in self.controller.metrics().await?.lines() {
            if let Some((series, count)) =
                line.strip_prefix("modulet_api_writes_total").and_then(|l| l.split_once("} "))
                && !series.contains("kind=\"lease\"")
            {
                seen.insert(format!("writes {series}}}"), json!(count));
            }
        }
        Ok(Snapshot(seen))
    }
}

/// A Pod that no Node takes is looked at whenever any Node of the cluster changes, which is not our doing.
fn of_the_scheduler(kind: &str, object: &Value) -> bool {
    match kind {
        "Pod" => object["spec"]["nodeName"].is_null(),
        "Event" => {
            object["source"]["component"] == "default-scheduler" || object["reportingComponent"] == "default-scheduler"
        }
        _ => false,
    }
}

impl Snapshot {
    /// One line for each difference.
    fn changed(&self, after: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, now) in &after.0 {
            match self.0.get(name) {
                None => lines.push(format!("{name}: new")),
                Some(then) => differences(name, then, now, &mut lines),
            }
        }
        lines.extend(self.0.keys().filter(|name| !after.0.contains_key(*name)).map(|name| format!("{name}: gone")));
        lines
    }
}

fn differences(path: &str, then: &Value, now: &Value, lines: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys.into_iter().filter(|key| *key != "managedFields") {
                let null = Value::Null;
                let (then, now) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                differences(&format!("{path}.{key}"), then, now, lines);
            }
        }
        _ if then != now => lines.push(format!("{path}: {then} -> {now}")),
        _ => {}
    }
}

/// Whether a function makes a stage, and keeps it.
fn makes_a_stage(function: &str) -> bool {
    let head = function.split('{').next().unwrap_or_default();
    let gives_it_away = ["Self", "Stage>", "Stage,", "Scene>"]
        .iter()
        .any(|word| head.split("->").nth(1).is_some_and(|result| result.contains(word)));
    let makes = |line: &&str| {
        line.starts_with("    let ") && ["Stage::set", "Scene::set", "= stage("].iter().any(|call| line.contains(call))
    };
    !gives_it_away && function.lines().find(makes).is_some()
}

fn functions(directory: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, found)?;
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for function in text.split("\n}\n").filter_map(|part| part.find("async fn ").map(|at| &part[at..])) {
            let name = function.trim_start_matches("async fn ").split(['(', '<']).next().unwrap_or_default();
            found.push((format!("{}: {name}", path.display()), function.to_owned()));
        }
    }
    Ok(())
}

#[test]
fn every_test_says_how_it_ends() -> Result<()> {
    let mut all = Vec::new();
    functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e"), &mut all)?;
    let (makes, ends): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|(_, text)| makes_a_stage(text))
        .partition(|(_, text)| !text.contains(".ends_quietly()") && !text.contains(".ends_without_quiet("));
    assert!(
        makes.is_empty(),
        "neither ends_quietly() nor ends_without_quiet(): {:?}",
        makes.iter().map(|m| &m.0).collect::<Vec<_>>()
    );
    assert!(ends.len() > 90, "only {} were found", ends.len());
    Ok(())
}
