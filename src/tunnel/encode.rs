//! Domain → JSON: what bases are told.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::domain::{Command, ModuleSpec, Strategy};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawInstall<'a> {
    biz_name: &'a str,
    biz_version: &'a str,
    biz_url: &'a str,
    install_strategy: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    envs: &'a BTreeMap<String, String>,
}

fn raw_install(spec: &ModuleSpec, strategy: Strategy) -> RawInstall<'_> {
    RawInstall {
        biz_name: &spec.id.name,
        biz_version: &spec.id.version,
        biz_url: &spec.url,
        install_strategy: match strategy {
            Strategy::InstallOnly => "installOnly",
            Strategy::UninstallThenInstall => "uninstallThenInstall",
        },
        args: &spec.args,
        envs: &spec.envs,
    }
}

/// The largest command that is sent, in bytes.
pub(super) const MAX_COMMAND: usize = 1024 * 1024;

/// A command's payload as it is sent; or why it is not, for people.
pub(super) fn payload(command: &Command) -> Result<Vec<u8>, String> {
    let payload = encode(command).map_err(|error| format!("the command cannot be written: {error}"))?;
    let bytes = payload.len();
    if bytes > MAX_COMMAND {
        return Err(format!("the command has {bytes} bytes, more than the {MAX_COMMAND} that are sent"));
    }
    Ok(payload)
}

/// Writes a command's payload.
///
/// # Errors
/// None in practice: the types have no values that JSON can't hold.
pub fn encode(command: &Command) -> Result<Vec<u8>, serde_json::Error> {
    match command {
        Command::Install(spec, strategy) => serde_json::to_vec(&raw_install(spec, *strategy)),
        Command::Switch(ModuleSpec { id, .. }) | Command::Uninstall(id) => {
            serde_json::to_vec(&json!({ "bizName": id.name, "bizVersion": id.version }))
        }
        Command::Baseline(specs) => {
            let elements: Vec<_> = specs.iter().map(|s| raw_install(s, Strategy::InstallOnly)).collect();
            serde_json::to_vec(&elements)
        }
        Command::QueryModules | Command::QueryHealth => Ok(b"{}".to_vec()),
    }
}
