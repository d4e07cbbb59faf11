//! One `ModuleDeployment` as the objects that do the same today.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// Kubernetes' word for "never".
const NO_DEADLINE: i32 = i32::MAX;

/// What became of one.
#[derive(Debug)]
pub(crate) struct Converted {
    /// To be applied.
    pub(crate) objects: Vec<Value>,
    /// What a person should know of it.
    pub(crate) remarks: Vec<String>,
}

/// Whether this is one, of any of the groups that the kind has had.
pub(crate) fn is_module_deployment(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
    let groups = ["koupleless.io", "koupleless.alipay.com", "serverless.alipay.com"];
    object["kind"] == "ModuleDeployment" && group.is_some_and(|group| groups.contains(&group))
}

fn text<'v>(value: &'v Value, what: &str) -> Result<&'v str> {
    value.as_str().filter(|text| !text.is_empty()).with_context(|| format!("there is no {what}"))
}

/// The same for `install_then_uninstall` and `installThenUninstall`.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace(['_', '-'], "").to_lowercase()
}

fn positive(value: &Value) -> Option<i64> {
    value.as_i64().filter(|number| *number > 0)
}

/// What of a `ModuleDeployment` says how.
struct Old<'v> {
    name: &'v str,
    namespace: Option<&'v str>,
    module: &'v Value,
    spec: &'v Value,
    strategy: &'v Value,
}

impl Old<'_> {
    fn metadata(&self, name: &str) -> Value {
        let namespace = self.namespace.map(|namespace| ("namespace".to_owned(), json!(namespace)));
        Value::Object([("name".to_owned(), json!(name))].into_iter().chain(namespace).collect::<Map<_, _>>())
    }

    fn is_peer(&self) -> bool {
        self.spec["replicas"] == -1
    }

    fn template(&self, base: &str, stacked: bool, replace: bool) -> Result<Value> {
        let (name, version) =
            (text(&self.module["name"], "module.name")?, text(&self.module["version"], "module.version")?);
        let labels = json!({
            "module-controller.koupleless.io/component": "module",
            "module.koupleless.io/name": name, "module.koupleless.io/version": version,
        });
        let mut template = json!({ "metadata": { "labels": labels }, "spec": {
            "containers": [{
                "name": name, "image": text(&self.module["url"], "module.url")?,
                "env": [{ "name": "BIZ_VERSION", "value": version }],
            }],
            "nodeSelector": { "base.koupleless.io/name": base },
            "tolerations": [{
                "key": "schedule.koupleless.io/virtual-node", "operator": "Equal", "value": "True", "effect": "NoExecute",
            }],
        } });
        if !stacked {
            let apart = json!({
                "labelSelector": { "matchLabels": {
                    "module.koupleless.io/name": name, "module.koupleless.io/version": version,
                } },
                "topologyKey": "kubernetes.io/hostname",
            });
            template["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([apart]);
        }
        if replace {
            template["metadata"]["annotations"] = json!({ "modulet.koupleless.io/update": "replace" });
        }
        Ok(template)
    }

    fn deployment(&self, template: &Value) -> Value {
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.metadata(self.name),
            "spec": {
                "progressDeadlineSeconds": NO_DEADLINE,
                "selector": { "matchLabels": { "module.koupleless.io/name": self.module["name"] } },
                "strategy": { "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } },
                "template": template,
            },
        });
        if self.is_peer() {
            deployment["metadata"]["labels"] = json!({ "virtual-kubelet.koupleless.io/strategy": "peer" });
        } else {
            deployment["spec"]["replicas"] = json!(self.spec["replicas"].as_i64().unwrap_or(0));
        }
        for field in ["minReadySeconds", "revisionHistoryLimit"] {
            if let Some(number) = positive(&self.spec[field]) {
                deployment["spec"][field] = json!(number);
            }
        }
        deployment
    }

    fn rollout(&self, remarks: &mut Vec<String>) -> Option<Value> {
        let said = positive(&self.strategy["batchCount"]).unwrap_or(1);
        let count = said.min(100);
        if said > count {
            remarks.push(format!("batchCount {said}: 100 is the most"));
        }
        if count == 1 {
            return None;
        }
        let gray = &self.strategy["grayTimeBetweenBatchSeconds"];
        let mut batches = json!({ "count": count });
        for (field, value) in [("beta", &self.strategy["useBeta"]), ("confirm", &self.strategy["needConfirm"])] {
            if *value == true {
                batches[field] = json!(true);
            }
        }
        if let Some(seconds) = positive(gray).filter(|_| batches["confirm"].is_null()) {
            batches["graySeconds"] = json!(seconds);
        }
        let mut spec = json!({
            "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name }, "batches": batches,
        });
        for (ours, theirs) in [
            ("progressDeadlineSeconds", &self.spec["progressDeadlineSeconds"]),
            ("maxParallel", &self.strategy["maxUnavailable"]),
        ] {
            if let Some(number) = positive(theirs) {
                spec[ours] = json!(number);
            }
        }
        Some(json!({
            "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
            "metadata": self.metadata(self.name), "spec": spec,
        }))
    }

    fn service(&self) -> Option<Value> {
        let said = &self.strategy["serviceStrategy"];
        let (name, port) = (self.module["name"].as_str()?, positive(&said["port"])?);
        let target = if said["targetPort"].is_null() { &said["port"] } else { &said["targetPort"] };
        (said["enableModuleService"] == true).then(|| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(&format!("{name}-service")),
                "spec": {
                    "selector": { "module.koupleless.io/name": name },
                    "ports": [{ "port": port, "targetPort": target }],
                },
            })
        })
    }
}

/// Converts one. `base` is what bases call themselves (`base.koupleless.io/name`); else they are called as their
/// Deployment.
pub(crate) fn convert(object: &Value, base: Option<&str>) -> Result<Converted> {
    let spec = &object["spec"];
    let old = Old {
        name: text(&object["metadata"]["name"], "metadata.name")?,
        namespace: object["metadata"]["namespace"].as_str(),
        module: &spec["template"]["spec"]["module"],
        spec,
        strategy: if spec["operationStrategy"].is_null() { &spec["strategy"] } else { &spec["operationStrategy"] },
    };
    let mut remarks = Vec::new();
    let named = ["baseDeploymentName", "baseAppName"].iter().find_map(|field| spec[*field].as_str());
    let base = match (base, named) {
        (Some(base), _) => base,
        (None, Some(named)) => {
            remarks.push(format!("are the bases called {named}? See `kubectl get nodes -L base.koupleless.io/name`"));
            named
        }
        (None, None) => return Err(anyhow::anyhow!("there is no baseDeploymentName: say --base")),
    };
    let policies = [&old.strategy["upgradePolicy"], &old.strategy["upgradeType"]].map(word);
    let policy = policies.iter().find(|policy| !policy.is_empty()).map_or("", String::as_str);
    let replace = policy.starts_with("uninstall");
    match policy {
        "scaleupthenscaledown" => remarks.push("scaleup_then_scaledown: nothing makes further bases here".to_owned()),
        _ if replace => {}
        _ => remarks.push(
            "is it a web module? Then a base cannot load two versions: modulet.koupleless.io/update: replace"
                .to_owned(),
        ),
    }
    let stacked = word(&spec["schedulingStrategy"]["schedulingPolicy"]) == "stacking";
    if stacked {
        remarks.push("stacking: nothing fills one base after the other; the scheduler chooses".to_owned());
    }
    if positive(&spec["confirmBatchNum"]).is_some() || old.strategy["needConfirm"] == true {
        remarks.push("confirm by the annotation modulet.koupleless.io/confirm of the ModuleRollout".to_owned());
    }
    let deployment = old.deployment(&old.template(base, stacked, replace)?);
    let rollout = old.rollout(&mut remarks);
    let objects = rollout.into_iter().chain([deployment]).chain(old.service()).collect();
    Ok(Converted { objects, remarks })
}
