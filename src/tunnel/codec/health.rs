//! Health: of all that a base says there, what the Node shows.

use serde::Deserialize;

use super::{Health, identity::RawMaster, text::text};

#[derive(Deserialize)]
pub(super) struct RawHealth {
    data: Option<RawHealthData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHealthData {
    health_data: Option<RawHealthParts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHealthParts {
    jvm: Option<RawJvm>,
    master_biz_info: Option<RawMaster>,
}

#[derive(Deserialize)]
struct RawJvm {
    #[serde(rename = "java max metaspace")]
    max_metaspace: Option<serde_json::Number>,
    /// Whatever stands there: health without it is still health.
    #[serde(rename = "java used metaspace")]
    used_metaspace: Option<serde_json::Value>,
    #[serde(rename = "java version")]
    version: Option<String>,
}

pub(super) fn health(raw: RawHealth) -> Health {
    let parts = raw.data.and_then(|d| d.health_data);
    let (jvm, master) = parts.map_or((None, None), |p| (p.jvm, p.master_biz_info));
    let (metaspace, used, java_version) =
        jvm.map_or((None, None, None), |j| (j.max_metaspace, j.used_metaspace, j.version));
    Health {
        used_metaspace: used.and_then(|u| u.as_u64()),
        max_metaspace: metaspace.and_then(|m| m.as_u64()).filter(|m| *m > 0),
        java_version: java_version.map(|version| text(&version)),
        master: master.and_then(|m| Some((text(&m.name?), text(&m.version?)))),
    }
}
