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

impl<K> Seen<K> {
    /// The same, whatever the object is.
    fn what(&self) -> Seen<()> {
        match self {
            Self::Applied(_) => Seen::Applied(()),
            Self::Gone(_) => Seen::Gone(()),
            Self::ListBegins => Seen::ListBegins,
            Self::ListEnds => Seen::ListEnds,
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

    /// The number of the watch that it comes from, and what it is.
    fn what(&self) -> (usize, Seen<()>) {
        match self {
            Self::Pod(seen) => (0, seen.what()),
            Self::Node(seen) => (1, seen.what()),
            Self::DaemonSet(seen) => (2, seen.what()),
            Self::Record(seen) => (3, seen.what()),
            // After the first one nothing more is looked at.
            Self::ZonedNode(Seen::Applied(_)) => (Self::ZONES, Seen::ListEnds),
            Self::ZonedNode(seen) => (Self::ZONES, seen.what()),
            Self::Rollout(seen) => (5, seen.what()),
            Self::Workload(seen) => (6, seen.what()),
            Self::ApiServer(_) => (Self::COUNT, Seen::Applied(())),
            Self::ReplicaSet(watch, seen) => (Self::SINGLE + watch, seen.what()),
            Self::ControllerRevision(watch, seen) => (Self::SINGLE + LABELS.len() + watch, seen.what()),
            Self::Deployment(watch, seen) => (Self::SINGLE + 2 * LABELS.len() + watch, seen.what()),
        }
    }

    /// Comes before every attempt to list, so it is no sign that the API server answers.
    pub(super) fn is_attempt(&self) -> bool {
        matches!(self.what().1, Seen::ListBegins)
    }

    /// The number of the watch whose list is complete by this.
    pub fn completes(&self) -> Option<usize> {
        let (watch, what) = self.what();
        matches!(what, Seen::ListEnds).then_some(watch)
    }
}
