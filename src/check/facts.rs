//! What was seen.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
    core::v1::{LimitRange, Node},
};

use super::rights::Right;
use crate::{
    config::ZonePerBase,
    tunnel::{
        http::{HttpConfig, HttpError},
        probe::Probe,
    },
};

/// What was seen; or why it was not.
pub(super) type Look<T> = Result<T, Blind>;

/// Why something was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blind {
    /// A right is missing: what it is to.
    Needs(String),
    /// The API server did not answer that question.
    Failed(String),
}

/// All of it.
#[derive(Debug)]
pub(super) struct Facts {
    /// The environment.
    pub(super) env: String,
    /// The controller that this is a check for, where it has a name.
    pub(super) client_id: String,
    /// The replica that leads, if one does and that can be seen.
    pub(super) leader: Option<String>,
    /// Whether each base gets a zone of its own.
    pub(super) zone_per_base: ZonePerBase,
    /// A base's Node, as it would be made.
    pub(super) base: Option<Node>,
    /// The API server's version; or why it could not be asked.
    pub(super) version: Result<String, String>,
    /// Whose rights were judged.
    pub(super) who: Option<String>,
    /// Rights, and whether they are granted.
    pub(super) rights: Vec<(Right, Look<bool>)>,
    /// All Nodes.
    pub(super) nodes: Look<Vec<Node>>,
    /// All `DaemonSet`s.
    pub(super) daemon_sets: Look<Vec<DaemonSet>>,
    /// Deployments of modules.
    pub(super) deployments: Look<Vec<Deployment>>,
    /// Namespaces that have module Pods.
    pub(super) module_namespaces: Look<BTreeSet<String>>,
    /// All of them.
    pub(super) limit_ranges: Look<Vec<LimitRange>>,
    /// Namespaces with module Pods that refer to objects of this kind, and whether modulet may read them.
    pub(super) referred: Vec<(String, &'static str, Look<bool>)>,
    /// Leases of Nodes.
    pub(super) leases: Look<Vec<Lease>>,
    /// Who wrote the record of this environment last, if there is one and it says.
    pub(super) writer: Look<Option<String>>,
    /// The broker; none: the tunnel over MQTT is not switched on.
    pub(super) broker: Option<Probe>,
    /// The tunnel over HTTP, where it is switched on.
    pub(super) heartbeats: Option<Heartbeats>,
}

/// How bases are heard over HTTP.
#[derive(Debug)]
pub(super) struct Heartbeats {
    /// Who may beat, and where.
    pub(super) tunnel: HttpConfig,
    /// Whether the files could be read and the port be opened.
    pub(super) opened: Result<(), HttpError>,
}
