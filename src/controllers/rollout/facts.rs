//! What a decision on a release may look at.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{BaseId, PodUid};

/// Names a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Deployment or `DaemonSet`.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
}

/// What can be released in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Deployment.
    Deployment,
    /// A `DaemonSet`.
    DaemonSet,
}

/// All of it, for one workload.
pub struct RolloutFacts<'a> {
    /// The workload; none if it is not there, or not known.
    pub workload: Option<WorkloadFacts>,
    /// The revisions of its template, the current one last.
    pub revisions: Vec<Arc<str>>,
    /// Bases with Pods of it, in any order.
    pub bases: Vec<BaseFacts<'a>>,
    /// Bases without one, of a `DaemonSet`: between two Pods a base has none.
    pub others: Vec<BaseFacts<'a>>,
    /// Labels of a base's Node.
    pub labels_of: &'a dyn Fn(&BaseId) -> BTreeMap<String, String>,
    /// The time of day, to be written and never to be read.
    pub wall: jiff::Timestamp,
}

/// What its object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Its uid.
    pub uid: Arc<str>,
    /// `spec.replicas`; a `DaemonSet` has none.
    pub replicas: Option<usize>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: u64,
    /// Whether it can be released in batches.
    pub suits: Suits,
}

/// Whether a workload can be released in batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suits {
    /// Base by base: each has a Pod of the new revision from the start.
    ByBase,
    /// By number: its new Pods come as the scheduler has it, so many at a time.
    ByCount(usize),
    /// As it is, going on would break the promise: its new revisions are held. What to do about it.
    Held(String),
    /// It cannot be held: releases are as without a `ModuleRollout`. What to do about it.
    Refused(String),
}

/// A base with Pods of the workload.
#[derive(Debug)]
pub struct BaseFacts<'a> {
    /// Which base.
    pub base: &'a BaseId,
    /// The name of its Node.
    pub node: &'a str,
    /// Its cluster.
    pub cluster: Option<&'a str>,
    /// It can be reached, as far as is known.
    pub reachable: bool,
    /// Its live Pods of the workload.
    pub pods: Vec<PodFacts>,
    /// Revisions of Pods of the workload that are being deleted: what the others' statuses say may be from before.
    pub going: Vec<Arc<str>>,
}

/// A live Pod.
#[derive(Debug)]
pub struct PodFacts {
    /// Its uid.
    pub uid: PodUid,
    /// The hash of the template that it was made from.
    pub revision: Arc<str>,
    /// How far it is, as the API shows it.
    pub is: PodIs,
}

/// How far a Pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodIs {
    /// Nothing was begun for it.
    Awaiting,
    /// Its base is at work on it.
    AtWork,
    /// It failed, and may be tried again: one word, a sentence, and how often it was tried before.
    Failed(String, String, i32),
    /// It is Ready.
    Ready,
}

impl BaseFacts<'_> {
    /// Its Pod of that revision.
    pub(super) fn pod_of(&self, revision: &str) -> Option<&PodFacts> {
        // The one that is further counts where there are two.
        let of_it = self.pods.iter().filter(|pod| &*pod.revision == revision);
        of_it.max_by_key(|pod| (pod.is == PodIs::Ready, pod.is != PodIs::Awaiting))
    }

    /// Another revision's Pod is on it, also one that goes.
    pub(super) fn has_another_than(&self, revision: &str) -> bool {
        self.pods.iter().map(|pod| &pod.revision).chain(&self.going).any(|other| &**other != revision)
    }
}
