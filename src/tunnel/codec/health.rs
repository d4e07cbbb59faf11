//! Health: of all that a base says there, what the Node shows.

use serde::Deserialize;

use super::{Health, identity::RawMaster, text::text};

/// The plugin of `SOFAArk` that gives web modules a context in the web server of the base.
const WEB_PLUGIN: &str = "web-ark-plugin";

#[derive(Deserialize)]
pub(super) struct RawHealth {
    data: Option<RawHealthData>,
}

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

#[derive(Deserialize)]
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

pub(super) fn health(raw: RawHealth) -> Health {
    raw.data.map(health_data).unwrap_or_default()
}

pub(super) fn health_data(raw: RawHealthData) -> Health {
    let Some(parts) = raw.health_data else { return Health::default() };
    let RawHealthParts { jvm, cpu, master_biz_info: master, plugin_list_info: plugins } = parts;
    let is_web = |plugin: &serde_json::Value| plugin["pluginName"] == WEB_PLUGIN;
    let web_server = plugins.as_ref().and_then(|p| p.as_array()).map(|plugins| plugins.iter().any(is_web));
    let run_time = jvm.as_ref().and_then(|j| j.run_time.as_ref()?.as_f64());
    let loaded_classes = jvm.as_ref().and_then(|j| j.loaded_classes.as_ref()?.as_u64());
    let (metaspace, used, java_version) =
        jvm.map_or((None, None, None), |j| (j.max_metaspace, j.used_metaspace, j.version));
    let run_time = run_time.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    Health {
        web_server,
        run_time,
        loaded_classes,
        cpus: cpu.and_then(|cpu| cpu.count?.as_u64()),
        used_metaspace: used.and_then(|u| u.as_u64()),
        max_metaspace: metaspace.and_then(|m| m.as_u64()).filter(|m| *m > 0),
        java_version: java_version.map(|version| text(&version)),
        master: master.and_then(|m| Some((text(&m.name?), text(&m.version?)))),
    }
}
