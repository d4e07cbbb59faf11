//! Who a base says that it is: heartbeats, and the question for the baseline.

use serde::Deserialize;

use super::{
    CodecError, Heartbeat,
    text::{text, text_if_any},
};
use crate::{domain::BaseInfo, tunnel::address::address};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawMetadata {
    pub(super) identity: Option<String>,
    name: Option<String>,
    version: Option<String>,
    cluster_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawHeart {
    pub(super) base_metadata: Option<RawMetadata>,
    /// Bases up to 2.1.7.
    master_biz_info: Option<RawMaster>,
    network_info: Option<RawNetwork>,
    #[serde(rename = "localIP")]
    pub(super) local_ip: Option<String>,
    local_host_name: Option<String>,
    state: Option<String>,
    /// Over HTTP: where commands go.
    pub(super) port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawMaster {
    /// `name`/`version` in 2.1.6, `bizName`/`bizVersion` before and in health.
    #[serde(alias = "bizName")]
    pub(super) name: Option<String>,
    #[serde(alias = "bizVersion")]
    pub(super) version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNetwork {
    #[serde(rename = "localIP")]
    local_ip: Option<String>,
    local_host_name: Option<String>,
}

pub(super) fn heartbeat(identity: &str, raw: RawHeart) -> Result<Heartbeat, CodecError> {
    let metadata = match (raw.base_metadata, raw.master_biz_info) {
        (Some(metadata), _) => metadata,
        (None, Some(master)) => RawMetadata { name: master.name, version: master.version, ..RawMetadata::default() },
        (None, None) => return Err(CodecError::Nameless("heartbeat")),
    };
    let mut info = info(identity, metadata)?.ok_or(CodecError::Nameless("heartbeat"))?;
    let network = raw.network_info.unwrap_or_default();
    let said = raw.local_ip.or(network.local_ip).filter(|said| !said.is_empty());
    let (ip, no_address) = match said.as_deref().map(address).transpose() {
        Ok(ip) => (ip, None),
        Err(why) => (None, Some(why)),
    };
    info.ip = ip;
    info.host_name = text_if_any(raw.local_host_name.or(network.local_host_name));
    // Every other word than "activated" means that the base serves no longer (as the Go controller reads it);
    // none at all comes from bases up to 2.1.5, which say it by beating.
    let going_away = raw.state.is_some_and(|s| !s.eq_ignore_ascii_case("activated"));
    Ok(Heartbeat { info, no_address, going_away, out_of_turn: false })
}

pub(super) fn info(identity: &str, raw: RawMetadata) -> Result<Option<BaseInfo>, CodecError> {
    if let Some(inside) = raw.identity.filter(|inside| inside != identity) {
        return Err(CodecError::ForeignIdentity { inside: inside.chars().take(80).collect() });
    }
    let (Some(name), Some(version)) = (raw.name, raw.version) else { return Ok(None) };
    let cluster = raw.cluster_name.map(|cluster| text(&cluster));
    Ok(Some(BaseInfo { name: text(&name), version: text(&version), cluster, ..BaseInfo::default() }))
}
