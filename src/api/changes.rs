//! What watches show: changes of objects, and marks in the stream.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet},
    core::v1::{ConfigMap, Node, Pod},
};
use kube::core::PartialObjectMeta;

use crate::k8s::{names, rollout::ModuleRollout};

/// Both component labels that module Pods may have; their owners inherit them from the template.
pub(super) const LABELS: [&str; 2] = [names::COMPONENT, names::COMPONENT_OLD];

/// One change of an object, or a mark in the stream.
#[derive(Debug)]
pub enum Seen<K> {
    /// The object is there, as given.
    Applied(K),
    /// The object is gone.
    Gone(K),
    /// A list begins: what is not in it is gone.
    ListBegins,
    /// The list is complete.
    ListEnds,
}

/// What is no change of an object, but tells of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begins,
    Ends,
}

impl<K> Seen<K> {
    fn mark(&self) -> Option<Mark> {
        match self {
            Self::ListBegins => Some(Mark::Begins),
            Self::ListEnds => Some(Mark::Ends),
            Self::Applied(_) | Self::Gone(_) => None,
        }
    }
}

/// A change of something that is watched. The number tells apart the watches of one kind.
#[derive(Debug)]
pub enum Watched {
    /// A Pod bound to some Node.
    Pod(Box<Seen<Pod>>),
    /// A virtual Node of our environment.
    Node(Box<Seen<Node>>),
    /// A replica set with module Pods.
    ReplicaSet(usize, Seen<PartialObjectMeta<ReplicaSet>>),
    /// A revision of a `DaemonSet` or `StatefulSet` with module Pods.
    ControllerRevision(usize, Box<Seen<ControllerRevision>>),
    /// A Deployment that asks for peer deployment.
    Deployment(usize, Box<Seen<Deployment>>),
    /// A Node that is no base's and has a zone. Only the first one is shown.
    ZonedNode(Seen<PartialObjectMeta<Node>>),
    /// The API server's version; none where it does not tell.
    ApiServer(Option<String>),
    /// Some `DaemonSet`: whether its Pods are modules stands in its template, which can't be selected by.
    DaemonSet(Box<Seen<DaemonSet>>),
    /// A `ModuleRollout`.
    Rollout(Box<Seen<ModuleRollout>>),
    /// Some Deployment: whether its Pods are modules stands in its template, which can't be selected by.
    Workload(Box<Seen<Deployment>>),
    /// An object of modulet's own record.
    Record(Box<Seen<ConfigMap>>),
}

impl Watched {
    /// How many watches there are: readiness waits for the first list of each.
    pub const COUNT: usize = Self::SINGLE + 3 * LABELS.len();
    /// Kinds with one watch.
    const SINGLE: usize = 7;
    /// The number of the watch of Nodes with zones, which is there only where zones are left to us.
    pub const ZONES: usize = 4;
    /// The numbers of the watches that begin with the lead: Pods, the record, and how far releases are.
    pub const WITH_THE_LEAD: [usize; 3] = [0, 3, 5];

    /// The number of the watch that it comes from, and the mark in the stream that it is.
    fn mark(&self) -> (usize, Option<Mark>) {
        match self {
            Self::Pod(seen) => (0, seen.mark()),
            Self::Node(seen) => (1, seen.mark()),
            Self::DaemonSet(seen) => (2, seen.mark()),
            Self::Record(seen) => (3, seen.mark()),
            // After the first one nothing more is looked at.
            Self::ZonedNode(Seen::Applied(_)) => (Self::ZONES, Some(Mark::Ends)),
            Self::ZonedNode(seen) => (Self::ZONES, seen.mark()),
            Self::Rollout(seen) => (5, seen.mark()),
            Self::Workload(seen) => (6, seen.mark()),
            Self::ApiServer(_) => (Self::COUNT, None),
            Self::ReplicaSet(watch, seen) => (Self::SINGLE + watch, seen.mark()),
            Self::ControllerRevision(watch, seen) => (Self::SINGLE + LABELS.len() + watch, seen.mark()),
            Self::Deployment(watch, seen) => (Self::SINGLE + 2 * LABELS.len() + watch, seen.mark()),
        }
    }

    /// Comes before every attempt to list, so it is no sign that the API server answers.
    pub(super) fn is_attempt(&self) -> bool {
        self.mark().1 == Some(Mark::Begins)
    }

    /// The number of the watch whose list is complete by this.
    pub fn completes(&self) -> Option<usize> {
        let (watch, mark) = self.mark();
        (mark == Some(Mark::Ends)).then_some(watch)
    }
}
