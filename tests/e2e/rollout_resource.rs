//! `ModuleRollout` on a real API server: what it takes, what it refuses and in which words, what `kubectl get` shows, and who
//! may do what with the chart's roles.

#[path = "../../examples/from-module-deployment/convert.rs"]
mod convert;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use convert::{Converted, convert, is_module_deployment};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        rbac::v1::{ClusterRole, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use modulet::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};
use modulet_testkit::{
    control_plane::{ControlPlane, client_with},
    helm::{chart, helm_template},
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::SOON;

/// A control plane that knows the kind, with a namespace of the test's own.
struct Place {
    cluster: &'static ControlPlane,
    namespace: &'static str,
    client: Client,
}

impl Place {
    async fn make(namespace: &'static str) -> Result<Self> {
        let cluster = ControlPlane::shared().await?;
        let client = cluster.client().await?;
        cluster.create_namespace(namespace).await?;
        let place = Self { cluster, namespace, client };
        let file = chart().join("definitions/modulerollouts.yaml").display().to_string();
        // What the API server remarks on (an unknown format) is an error.
        place.kubectl(&["--warnings-as-errors", "apply", "--server-side", "--force-conflicts", "-f", &file]).await?;
        eventually("the kind known", SOON, async || Ok(place.rollouts().list(&ListParams::default()).await?)).await?;
        Ok(place)
    }

    fn rollouts(&self) -> Api<ModuleRollout> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let kubectl = Tool::ControlPlane.program("kubectl").await?;
        let output = tokio::process::Command::new(kubectl)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .args(["-n", self.namespace])
            .args(args)
            .output()
            .await?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Sends it as it stands, with fields that no type of ours has; in the end nothing is made of it.
    async fn try_out(&self, spec: &Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
            "metadata": { "name": "tried" }, "spec": spec,
        });
        let path = format!("/apis/modulet.koupleless.io/v1alpha1/namespaces/{}/modulerollouts", self.namespace);
        let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes());
        match self.client.request_text(request.map_err(|error| error.to_string())?).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn spec(how: &Value) -> Value {
    let mut spec = json!({ "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "biz1" } });
    for (key, value) in how.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

fn steps(steps: &Value) -> Value {
    json!({ "steps": steps })
}

fn good() -> Vec<Value> {
    let canary = json!({ "matchLabels": { "base.koupleless.io/cluster-name": "canary" } });
    let expression = json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b"] }] });
    let many: Vec<_> = (1..=20).map(|n| json!({ "replicas": format!("{}%", n * 5) })).collect();
    vec![
        steps(&json!([{ "replicas": "100%" }])),
        steps(&json!([
            { "replicas": 1, "selector": canary, "pause": {} },
            { "replicas": "20%", "selector": expression, "pause": { "durationSeconds": 600 } },
            { "replicas": "100%" },
        ])),
        steps(
            &json!([{ "replicas": 2 }, { "replicas": 10 }, { "replicas": "9%" }, { "replicas": "100%", "pause": {} }]),
        ),
        steps(&json!(many)),
        json!({ "batches": { "count": 5, "beta": true, "confirm": true, "graySeconds": 60 } }),
        json!({ "batches": { "count": 1 } }),
        json!({ "batches": { "count": 2 }, "steps": null }),
        json!({
            "batches": { "count": 100 }, "maxParallel": 1, "progressDeadlineSeconds": 1, "joinedBases": "Release",
            "failurePolicy": { "maxFailures": 3, "action": "Rollback" },
            "workloadRef": { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "biz1" },
        }),
    ]
}

/// What is refused, and words that must be said of it.
fn bad() -> Vec<(Value, &'static str)> {
    let selector = json!({ "matchLabels": { "a": "b" } });
    let of = |kind: &str, version: &str| {
        json!({
            "batches": { "count": 2 }, "workloadRef": { "apiVersion": version, "kind": kind, "name": "biz1" },
        })
    };
    let rise = "steps rise";
    let end = "the last step is for all bases: replicas \"100%\", without a selector";
    let one = "say steps or batches, one of the two";
    vec![
        (json!({}), one),
        (json!({ "batches": { "count": 2 }, "steps": [{ "replicas": "100%" }] }), one),
        (steps(&json!([])), "should have at least 1 items"),
        (steps(&json!([{ "replicas": "20%" }])), end),
        (steps(&json!([{ "replicas": 100 }])), end),
        (steps(&json!([{ "replicas": "100%", "selector": selector }])), end),
        (steps(&json!([{ "replicas": "30%" }, { "replicas": "20%" }, { "replicas": "100%" }])), rise),
        (steps(&json!([{ "replicas": "9%" }, { "replicas": "9%" }, { "replicas": "100%" }])), rise),
        // As texts they would rise.
        (steps(&json!([{ "replicas": "20%" }, { "replicas": "3%" }, { "replicas": "100%" }])), rise),
        (steps(&json!([{ "replicas": 5 }, { "replicas": 4 }, { "replicas": "100%" }])), rise),
        (steps(&json!([{ "replicas": 4 }, { "replicas": "20%" }, { "replicas": 4 }, { "replicas": "100%" }])), rise),
        (steps(&json!([{ "replicas": "100%" }, { "replicas": "100%" }])), rise),
        (
            steps(&json!([{ "replicas": 1 }, { "replicas": 2, "selector": selector }, { "replicas": "100%" }])),
            "steps with a selector come first",
        ),
        (steps(&json!([{ "replicas": 0 }, { "replicas": "100%" }])), "greater than or equal to 1"),
        (steps(&json!([{ "replicas": "0%" }, { "replicas": "100%" }])), "should match '^([1-9][0-9]?|100)%$'"),
        (steps(&json!([{ "replicas": "101%" }, { "replicas": "100%" }])), "should match"),
        (steps(&json!([{ "replicas": "some" }, { "replicas": "100%" }])), "should match"),
        (steps(&json!([{ "replicas": "100%", "pause": { "durationSeconds": 0 } }])), "greater than or equal to 1"),
        (steps(&json!([{ "replicas": "100%", "paused": {} }])), "unknown field \"spec.steps[0].paused\""),
        (steps(&json!(vec![json!({ "replicas": "100%" }); 21])), "must have at most 20 items"),
        (json!({ "batches": { "count": 0 } }), "greater than or equal to 1"),
        (json!({ "batches": { "count": 101 } }), "less than or equal to 100"),
        (json!({ "batches": { "count": 1, "beta": true } }), "beta is the first of at least two batches"),
        (json!({ "batches": { "count": 2 }, "maxParallel": 0 }), "greater than or equal to 1"),
        (
            json!({ "batches": { "count": 2 }, "failurePolicy": { "action": "Stop" } }),
            "supported values: \"Pause\", \"Rollback\"",
        ),
        (json!({ "batches": { "count": 2 }, "joinedBases": "Ignore" }), "supported values: \"Wait\", \"Release\""),
        (of("StatefulSet", "apps/v1"), "a StatefulSet has rollingUpdate.partition of its own"),
        (of("Deployment", "extensions/v1beta1"), "workloadRef is a Deployment or a DaemonSet of apps/v1"),
        (
            json!({ "batches": { "count": 2 }, "workloadRef": { "kind": "Deployment", "name": "a" } }),
            "apiVersion: Required",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_words_that_say_what_does() -> Result<()> {
    let place = Place::make("rollout-rules").await?;
    for how in good() {
        let end = place.try_out(&spec(&how)).await;
        assert_eq!(end, Ok(()), "{how}");
    }
    for (how, words) in bad() {
        let why = place.try_out(&spec(&how)).await.err().with_context(|| format!("taken: {how}"))?;
        assert!(why.contains(words), "{how}: {why}");
    }

    // Defaults are there, and another workload is another rollout.
    let rollouts = place.rollouts();
    let first: ModuleRollout = serde_json::from_value(json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
        "metadata": { "name": "biz1" }, "spec": spec(&json!({ "batches": { "count": 3 } })),
    }))?;
    let made = rollouts.create(&PostParams::default(), &first).await?;
    let seen = place.kubectl(&["get", "mro", "biz1", "-o", "json"]).await?;
    let seen: Value = serde_json::from_str(&seen)?;
    for (field, value) in
        [("maxParallel", json!(10)), ("progressDeadlineSeconds", json!(600)), ("joinedBases", json!("Wait"))]
    {
        assert_eq!(seen["spec"][field], value, "{field}");
    }
    assert_eq!(seen["spec"]["failurePolicy"], json!({ "maxFailures": 0, "action": "Pause" }));
    assert_eq!(made.spec.planned_steps().len(), 3);
    let other = json!({ "spec": { "workloadRef": { "name": "biz2" } } });
    let why = rollouts.patch("biz1", &PatchParams::default(), &Patch::Merge(other)).await;
    let why = why.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(why.contains("workloadRef cannot be changed: make another ModuleRollout"), "{why}");
    let same = json!({ "spec": { "maxParallel": 3 } });
    rollouts.patch("biz1", &PatchParams::default(), &Patch::Merge(same)).await?;
    Ok(())
}

/// Nothing is made: the API server says whether it would take it, to the last field.
async fn would_be_taken(place: &Place, what: &str, text: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let path = file.path().display().to_string();
    let said = place.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &path]).await;
    said.map(drop).with_context(|| format!("{what}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_and_what_module_deployments_become_are_taken() -> Result<()> {
    let place = Place::make("rollout-examples").await?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = fs::read_to_string(here.join("examples/strategies/batch-update.yaml"))?;
    would_be_taken(&place, "batch-update.yaml", &example).await?;

    let old = fs::read_to_string(here.join("tests/data/module-deployments.yaml"))?;
    let mut kinds = BTreeSet::new();
    for old in serde_saphyr::from_multiple::<Value>(&old)? {
        ensure!(is_module_deployment(&old), "{old}");
        let Converted { objects, remarks } = convert(&old, Some("base"))?;
        for mut object in objects {
            object["metadata"]["namespace"] = json!(place.namespace);
            kinds.insert(object["kind"].as_str().unwrap_or_default().to_owned());
            would_be_taken(&place, &format!("{remarks:?}"), &object.to_string()).await?;
        }
    }
    assert_eq!(kinds, ["Deployment", "ModuleRollout", "Service"].map(str::to_owned).into());
    Ok(())
}

fn status() -> Result<ModuleRolloutStatus> {
    Ok(serde_json::from_value(json!({
        "observedGeneration": 1, "revision": "7", "stableRevision": "6", "phase": "Waiting",
        "step": 2, "stepOf": "2/3", "doneOf": "6/30", "waitingFor": "confirmation",
        "message": "batch 2 of 3 done; 24 bases wait for confirmation",
        "bases": { "total": 30, "done": 6, "left": 24, "failed": 1 },
        "failures": [{ "base": "vnode.base-1.dev", "reason": "InstallFailed", "message": "no jar" }],
        "conditions": [{
            "type": "Ready", "status": "False", "reason": "Waiting", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "released": { "6": ["base-1", "base-2"], "7": ["base-1"] }, "pauseSecondsLeft": 17, "confirmedAll": true,
    }))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_get_says_how_far_a_release_is() -> Result<()> {
    let place = Place::make("rollout-columns").await?;
    let rollouts = place.rollouts();
    let rollout: ModuleRollout = serde_json::from_value(json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
        "metadata": { "name": "release" }, "spec": spec(&json!({ "batches": { "count": 3 } })),
    }))?;
    rollouts.create(&PostParams::default(), &rollout).await?;
    // As a controller writes it, and as one that starts anew finds it.
    let applied = json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout", "metadata": { "name": "release" },
        "status": status()?,
    });
    rollouts.patch_status("release", &PatchParams::apply("modulet"), &Patch::Apply(applied)).await?;
    let kept = rollouts.get("release").await?.status.context("no status")?;
    assert_eq!(kept, status()?, "nothing of it is lost");
    assert_eq!(kept.phase, Some(Phase::Waiting));

    let table = place.kubectl(&["get", "mro"]).await?;
    let words =
        |line: usize| table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(0), "NAME WORKLOAD PHASE STEP DONE FAILED WAITING FOR AGE");
    assert!(words(1).starts_with("release biz1 Waiting 2/3 6/30 1 confirmation "), "{table}");
    let wide = place.kubectl(&["get", "modulerollouts", "-o", "wide"]).await?;
    assert!(wide.contains("24 bases wait for confirmation"), "{wide}");
    let explained = place.kubectl(&["explain", "mro.spec.maxParallel"]).await?;
    assert!(explained.contains("at work on the new revision at once"), "{explained}");
    // A status is no place for what a person wants: with the object it cannot be written.
    let wrong = json!({ "status": { "phase": "Completed" } });
    let after = rollouts.patch("release", &PatchParams::default(), &Patch::Merge(wrong)).await?;
    assert_eq!(after.status.and_then(|status| status.phase), Some(Phase::Waiting));
    Ok(())
}

/// The chart's roles for people, as they are; aggregated ones become part of Kubernetes' own.
async fn chart_roles(place: &Place) -> Result<()> {
    let values = json!({ "mqtt": { "host": "broker" } });
    let roles = Api::<ClusterRole>::all(place.client.clone());
    for document in helm_template(place.namespace, &values).await? {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if document["kind"] == "ClusterRole" && name.contains("-rollouts-") {
            roles.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(document)).await?;
        }
    }
    Ok(())
}

/// A person with that role in the namespace.
async fn person(place: &Place, name: &str, role: &str) -> Result<Client> {
    let kubeconfig = place.cluster.kubeconfig_for_service_account(place.namespace, name).await?;
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "namespace": place.namespace, "name": name }],
    }))?;
    let bindings = Api::<RoleBinding>::namespaced(place.client.clone(), place.namespace);
    bindings.create(&PostParams::default(), &binding).await?;
    client_with(&kubeconfig).await
}

fn is_forbidden<T: std::fmt::Debug>(result: kube::Result<T>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_confirms_can_patch_a_rollout_and_nothing_else() -> Result<()> {
    let place = Place::make("rollout-roles").await?;
    chart_roles(&place).await?;
    let rollout: ModuleRollout = serde_json::from_value(json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1", "kind": "ModuleRollout",
        "metadata": { "name": "biz1" }, "spec": spec(&json!({ "batches": { "count": 3 } })),
    }))?;
    place.rollouts().create(&PostParams::default(), &rollout).await?;
    let api = |client: Client| Api::<ModuleRollout>::namespaced(client, place.namespace);

    let confirmer = person(&place, "confirmer", "rollout-roles:modulet-rollouts-confirm").await?;
    let (patch, name) = (PatchParams::default(), "biz1");
    let confirm = json!({ "metadata": { "annotations": { "modulet.koupleless.io/confirm": "7" } } });
    let its = api(confirmer.clone());
    eventually("the role", SOON, async || Ok(its.patch(name, &patch, &Patch::Merge(&confirm)).await?)).await?;
    assert!(is_forbidden(its.get(name).await), "get");
    assert!(is_forbidden(its.list(&ListParams::default()).await), "list");
    assert!(is_forbidden(its.create(&PostParams::default(), &rollout).await), "create");
    assert!(is_forbidden(its.replace(name, &PostParams::default(), &rollout).await), "update");
    assert!(is_forbidden(its.delete(name, &DeleteParams::default()).await), "delete");
    let done = json!({ "status": { "phase": "Completed" } });
    assert!(is_forbidden(its.patch_status(name, &patch, &Patch::Merge(done)).await), "status");
    let deployments = Api::<Deployment>::namespaced(confirmer, place.namespace);
    assert!(is_forbidden(deployments.patch(name, &patch, &Patch::Merge(&confirm)).await), "the workload");

    // Who has Kubernetes' own roles needs no further one.
    let viewer = api(person(&place, "viewer", "view").await?);
    let seen = eventually("a part of view", SOON, async || Ok(viewer.list(&ListParams::default()).await?)).await?;
    assert_eq!(seen.items.len(), 1);
    assert!(is_forbidden(viewer.patch(name, &patch, &Patch::Merge(&confirm)).await), "view writes nothing");
    let editor = api(person(&place, "editor", "edit").await?);
    let mut second = rollout.clone();
    second.metadata = ObjectMeta { name: Some("biz2".to_owned()), ..ObjectMeta::default() };
    eventually("a part of edit", SOON, async || Ok(editor.create(&PostParams::default(), &second).await?)).await?;
    editor.delete("biz2", &DeleteParams::default()).await?;
    Ok(())
}
