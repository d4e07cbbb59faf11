//! Reads `ModuleDeployment`s of the generation before and writes what does the same today.
//!
//! ```sh
//! kubectl get moduledeployments -A -o yaml | cargo run --example from-module-deployment > today.yaml
//! cargo run --example from-module-deployment -- --base my-base < old.yaml > today.yaml
//! ```
//!
//! Nothing is applied: `docs/strategies/module-deployment.md` has the order of things.

mod convert;

use std::{env, io::Read as _};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let base = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--base", base] => Some(base.to_owned()),
        _ => bail!("usage: from-module-deployment [--base NAME] < old.yaml > new.yaml"),
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("what was said")?;
    for object in objects(&text)? {
        if !convert::is_module_deployment(&object) {
            eprintln!("passed over: {} {}", object["kind"], object["metadata"]["name"]);
            continue;
        }
        let what = format!("ModuleDeployment {}", object["metadata"]["name"]);
        let converted = convert::convert(&object, base.as_deref()).with_context(|| what.clone())?;
        println!("# {what}");
        converted.remarks.iter().for_each(|remark| println!("# - {remark}"));
        for object in converted.objects {
            print!("---\n{}", serde_saphyr::to_string(&object)?);
        }
        println!("---");
    }
    Ok(())
}

/// The objects of all documents, those of lists among them.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("as YAML")?;
    let of = |document: Value| match document {
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
            let items = list.remove("items").and_then(|items| items.as_array().cloned());
            items.unwrap_or_default()
        }
        other => vec![other],
    };
    Ok(documents.into_iter().filter(|document| !document.is_null()).flat_map(of).collect())
}
