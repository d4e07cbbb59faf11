//! What a plan for peer Deployments may look at.

use std::time::Instant;

use k8s_openapi::api::core::v1::Node;

use crate::{
    domain::{BaseId, PodUid},
    planning::Packed,
};

/// All of it.
#[derive(Clone, Copy)]
pub struct PeerFacts<'a> {
    /// The environment.
    pub env: &'a str,
    /// All Nodes of bases.
    pub nodes: &'a [PeerNode<'a>],
    /// The live Pods of a workload, by its uid.
    pub pods_of: &'a dyn Fn(&str) -> Vec<PeerPod<'a>>,
}

/// A live Pod of a peer Deployment.
#[derive(Clone, Copy, Debug)]
pub struct PeerPod<'a> {
    /// Its uid.
    pub uid: &'a PodUid,
    /// `namespace/name`.
    pub name: &'a str,
    /// Where it runs.
    pub base: &'a BaseId,
    /// It serves.
    pub is_ready: bool,
    /// Its [`DELETION_COST`](crate::k8s::names::DELETION_COST).
    pub deletion_cost: Option<&'a str>,
}

impl PeerPod<'_> {
    /// Where the API has it.
    pub(super) fn path(&self) -> Option<String> {
        let (namespace, name) = self.name.split_once('/')?;
        Some(format!("/api/v1/namespaces/{namespace}/pods/{name}"))
    }
}

/// A base's Node.
#[derive(Clone, Copy, Debug)]
pub struct PeerNode<'a> {
    /// Which base.
    pub base: &'a BaseId,
    /// Its Node.
    pub node: &'a Packed<Node>,
    /// Since when its Ready condition is not True.
    pub not_ready_since: Option<Instant>,
}
