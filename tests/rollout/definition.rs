//! The chart's definition of `ModuleRollout` (CRD) is what its types say. `make definition` makes it anew.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use modulet::k8s::rollout::definition;
use serde_json::Value;

const FILE: &str = "charts/modulet/definitions/modulerollouts.yaml";
const HEAD: &str = "# Made from src/k8s/rollout by `make definition`.\n";

#[test]
fn the_charts_definition_is_what_the_types_say() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let types = definition();
    if env::var_os("MODULET_RENEW").is_some() {
        fs::write(&path, format!("{HEAD}{}", serde_saphyr::to_string(&types)?))?;
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let file: Value = serde_saphyr::from_str(&text)?;
    ensure!(file == types, "{FILE} is not what the types say: make definition\n{types:#}");
    Ok(())
}

/// All values below this one, with how one gets there.
fn all<'v>(value: &'v Value, path: &str, into: &mut Vec<(String, &'v Value)>) {
    into.push((path.to_owned(), value));
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| all(value, &format!("{path}.{key}"), into)),
        Value::Array(list) => list.iter().for_each(|value| all(value, &format!("{path}[]"), into)),
        _ => {}
    }
}

#[test]
fn every_field_says_what_it_is_and_no_format_is_one_that_kubernetes_does_not_know() -> Result<()> {
    let types = definition();
    let schema = &types["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut values = Vec::new();
    all(schema, "", &mut values);
    let own = |path: &str| !["conditions", "selector"].iter().any(|others| path.contains(others));
    let mut fields = 0;
    for (path, properties) in values.iter().filter(|(path, _)| path.ends_with(".properties") && own(path)) {
        for (name, field) in properties.as_object().context("no fields")? {
            fields += 1;
            ensure!(field["description"].is_string(), "{path}.{name} does not say what it is");
        }
    }
    ensure!(fields > 40, "{fields} fields");
    for (path, format) in values.iter().filter(|(path, _)| path.ends_with(".format")) {
        ensure!(["int32", "int64", "date-time"].iter().any(|known| *format == known), "{path}: {format}");
    }
    Ok(())
}
