//! Health: of all that a base says there, what the Node shows.

use std::time::Duration;

use serde::Deserialize;

use super::{Health, identity::RawMaster, text::text};

/// The plugin of `SOFAArk` that gives web modules a context in the web server of the base.
const WEB_PLUGIN: &str = "web-ark-plugin";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawHealthData {
    health_data: Option<RawHealthParts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHealthParts {
    jvm: Option<RawJvm>,
    cpu: Option<RawCpu>,
    master_biz_info: Option<RawMaster>,
    /// Whatever stands there, as with the metaspace.
    plugin_list_info: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct RawJvm {
    #[serde(rename = "java max metaspace")]
    max_metaspace: Option<serde_json::Number>,
    /// Whatever stands there: health without it is still health.
    #[serde(rename = "java used metaspace")]
    used_metaspace: Option<serde_json::Value>,
    #[serde(rename = "loaded class count")]
    loaded_classes: Option<serde_json::Value>,
    #[serde(rename = "java version")]
    version: Option<String>,
    #[serde(rename = "run time(s)")]
    run_time: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawCpu {
    count: Option<serde_json::Value>,
}

pub(super) fn health(raw: RawHealthData) -> Health {
    let Some(parts) = raw.health_data else { return Health::default() };
    let is_web = |plugin: &serde_json::Value| plugin["pluginName"] == WEB_PLUGIN;
    let plugins = parts.plugin_list_info.as_ref().and_then(|plugins| plugins.as_array());
    let jvm = parts.jvm.unwrap_or_default();
    Health {
        web_server: plugins.map(|plugins| plugins.iter().any(is_web)),
        run_time: jvm.run_time.and_then(|seconds| Duration::try_from_secs_f64(seconds.as_f64()?).ok()),
        loaded_classes: jvm.loaded_classes.and_then(|count| count.as_u64()),
        cpus: parts.cpu.and_then(|cpu| cpu.count?.as_u64()),
        used_metaspace: jvm.used_metaspace.and_then(|bytes| bytes.as_u64()),
        max_metaspace: jvm.max_metaspace.and_then(|bytes| bytes.as_u64()).filter(|bytes| *bytes > 0),
        java_version: jvm.version.map(|version| text(&version)),
        master: parts.master_biz_info.and_then(|m| Some((text(&m.name?), text(&m.version?)))),
    }
}
