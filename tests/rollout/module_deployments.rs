//! `ModuleDeployment`s of the generation before become what does the same today (`examples/from-module-deployment`).

use std::{fs, path::Path};

use crate::convert::{Converted, convert, is_module_deployment};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

fn old() -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/module-deployments.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

fn of<'c>(converted: &'c Converted, kind: &str) -> Option<&'c Value> {
    converted.objects.iter().find(|object| object["kind"] == kind)
}

fn says(converted: &Converted, words: &str) -> bool {
    converted.remarks.iter().any(|remark| remark.contains(words))
}

#[test]
fn a_symmetric_one_with_a_beta_becomes_a_peer_deployment_with_a_rollout() -> Result<()> {
    let old = old()?;
    assert!(is_module_deployment(&old[0]));
    let new = convert(&old[0], None)?;
    let deployment = of(&new, "Deployment").context("no Deployment")?;
    assert_eq!(
        deployment["metadata"],
        json!({ "name": "orders", "namespace": "shop", "labels": { "virtual-kubelet.koupleless.io/strategy": "peer" } })
    );
    let spec = &deployment["spec"];
    assert!(spec["replicas"].is_null(), "they follow the bases");
    assert_eq!(spec["strategy"], json!({ "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } }));
    assert_eq!((&spec["minReadySeconds"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(i32::MAX)));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({ "base.koupleless.io/name": "shop-base" }));
    assert_eq!(
        pod["containers"],
        json!([{
            "name": "orders", "image": "https://modules.example.com/orders-1.4.0-ark-biz.jar",
            "env": [{ "name": "BIZ_VERSION", "value": "1.4.0" }],
        }])
    );
    let apart = &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(apart["labelSelector"]["matchLabels"]["module.koupleless.io/version"], "1.4.0");
    let labels = spec["template"]["metadata"]["labels"].as_object().context("no labels")?;
    let selector = spec["selector"]["matchLabels"].as_object().context("no selector")?;
    assert!(selector.iter().all(|(name, value)| labels.get(name) == Some(value)), "{selector:?} {labels:?}");

    let rollout = of(&new, "ModuleRollout").context("no ModuleRollout")?;
    assert_eq!(
        rollout["spec"],
        json!({
            "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "orders" },
            // Somebody confirms, so no time passes by itself: as before.
            "batches": { "count": 3, "beta": true, "confirm": true },
            "progressDeadlineSeconds": 900,
        })
    );
    let service = of(&new, "Service").context("no Service")?;
    assert_eq!(service["spec"]["ports"], json!([{ "port": 8080, "targetPort": 8081 }]));
    assert!(says(&new, "called shop-base?") && says(&new, "web module") && says(&new, "confirm"), "{:?}", new.remarks);
    assert!(!says(&convert(&old[0], Some("the-base"))?, "called"), "whoever says the name need not be asked");
    Ok(())
}

#[test]
fn uninstall_first_is_replace_and_stacking_is_said_to_be_nobodys() -> Result<()> {
    let new = convert(&old()?[1], None)?;
    let deployment = of(&new, "Deployment").context("no Deployment")?;
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({ "modulet.koupleless.io/update": "replace" }));
    assert!(template["spec"]["affinity"].is_null());
    assert_eq!(deployment["spec"]["replicas"], 4);
    assert!(says(&new, "stacking") && !says(&new, "web module"), "{:?}", new.remarks);
    let rollout = &of(&new, "ModuleRollout").context("no ModuleRollout")?["spec"];
    assert_eq!(rollout["batches"], json!({ "count": 2, "graySeconds": 60 }));
    assert_eq!(rollout["maxParallel"], 1);
    Ok(())
}

#[test]
fn one_batch_needs_no_rollout_and_the_oldest_names_are_understood() -> Result<()> {
    let new = convert(&old()?[2], None)?;
    assert!(of(&new, "ModuleRollout").is_none() && of(&new, "Service").is_none(), "{:?}", new.objects);
    let pod = &of(&new, "Deployment").context("no Deployment")?["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["base.koupleless.io/name"], "shop-base");
    Ok(())
}

#[test]
fn what_cannot_be_converted_is_said() -> Result<()> {
    let old = old()?;
    for (field, words) in [("version", "module.version"), ("url", "module.url"), ("name", "module.name")] {
        let mut one = old[0].clone();
        one["spec"]["template"]["spec"]["module"][field] = json!(null);
        let why = convert(&one, None).err().context("it was taken")?.to_string();
        assert!(why.contains(words), "{why}");
    }
    let mut many = old[0].clone();
    many["spec"]["operationStrategy"]["batchCount"] = json!(500);
    let new = convert(&many, None)?;
    assert!(says(&new, "100 is the most"), "{:?}", new.remarks);
    let mut nowhere = old[0].clone();
    nowhere["spec"]["baseDeploymentName"] = json!(null);
    assert!(convert(&nowhere, None).is_err_and(|why| why.to_string().contains("--base")));
    let mut other = old[0].clone();
    other["apiVersion"] = json!("apps/v1");
    assert!(!is_module_deployment(&other));
    Ok(())
}
