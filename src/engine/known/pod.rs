//! What is known of a Pod on a base.

use std::time::Instant;

use k8s_openapi::api::core::v1 as core;

use super::{failures::Failures, template::Template};
use crate::{
    domain::{BaseId, ContainerOutcome, Phase, Pod, PodOutcome, Reason},
    k8s::{Owner, names},
    planning::{Packed, Tracked},
};

/// What the status of a Pod that is not Ready shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Waits {
    /// Nothing yet.
    Pending,
    /// Its base cannot be reached.
    BaseUnreachable,
    /// The first container that waits for something of ours.
    For(Reason),
    /// Something else.
    NotReady,
}

/// A Pod on one of our Nodes.
#[derive(Debug)]
pub(in crate::engine) struct PodState {
    pub(in crate::engine) object: Tracked<Packed<core::Pod>, Box<core::PodStatus>>,
    pub(in crate::engine) owner: Owner,
    /// Its [`names::DELETION_COST`].
    pub(in crate::engine) deletion_cost: Option<Box<str>>,
    /// What it was made from.
    pub(in crate::engine) template: Box<Template>,
    pub(in crate::engine) deletion: Tracked<()>,
    /// Since when the API server is about to remove it without us.
    pub(in crate::engine) marked: Option<Instant>,
    pub(in crate::engine) pod: Pod,
    pub(in crate::engine) base: BaseId,
    pub(in crate::engine) first_seen: Instant,
    /// Since when it is not Ready, though it should be; as far as was looked at.
    pub(in crate::engine) waits_since: Option<Instant>,
    /// What for, as its status shows.
    pub(in crate::engine) waits_for: Waits,
    /// A command went out for it.
    pub(in crate::engine) commanded: bool,
    pub(in crate::engine) reported: Reported,
    pub(in crate::engine) failures: Failures,
    /// It is to be spread over zones, and was not told yet what that means where there are none.
    pub(in crate::engine) spreads_over_zones: bool,
    /// It was told that it shares a module's name with a Pod of another namespace.
    pub(in crate::engine) told_shared: bool,
    /// What the status was last found to say already; none after any change of the Pod.
    pub(in crate::engine) said: Option<PodOutcome>,
}

impl PodState {
    /// Whether this is still to be written, and nothing is known to be in the way.
    pub(in crate::engine) fn is_to_be_written(&self, outcome: &PodOutcome) -> bool {
        self.said.as_ref() != Some(outcome) && !self.object.is_failing()
    }

    /// The object as the watch showed it.
    pub(in crate::engine) fn shown(&self) -> Option<core::Pod> {
        self.object.object()?.unpack()
    }

    /// That it gave way is on its way to the API.
    pub(in crate::engine) fn is_failing_now(&self) -> bool {
        self.object.writing().is_some_and(|status| status.phase.as_deref() == Some(Phase::Failed.as_str()))
    }

    /// A Pod that is told to have failed is not the workload's any more, also if its revision becomes the current
    /// one again (an undo) before the API server has answered.
    pub(in crate::engine) fn assume_written(&mut self) {
        let Some(status) = self.object.writing() else { return };
        if status.phase.as_deref() == Some(Phase::Failed.as_str()) {
            self.pod.terminal = true;
            self.pod.superseded |= status.reason.as_deref() == Some(names::BIZ_DEACTIVATE);
        }
    }

    /// Takes note of the Pod as it is now. Says whether that is another than was known.
    pub(in crate::engine) fn see(&mut self, pod: Pod) -> bool {
        let before = std::mem::replace(&mut self.pod, pod);
        self.assume_written();
        self.pod != before
    }

    /// Whether the API says that it is Ready, and nothing else is on its way there.
    pub(in crate::engine) fn is_observed_ready(&self) -> bool {
        self.pod.shown_ready && self.object.writing().is_none() && self.pod.is_live()
    }
}

/// What a Pod's Events have told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Reported {
    /// Of each container.
    pub(in crate::engine) containers: Vec<String>,
    /// Fields of the Pod that a base has no use for.
    pub(in crate::engine) not_done: Vec<String>,
}

impl Reported {
    /// What the status of a Pod that is met for the first time shows was told by an earlier process.
    pub(in crate::engine) fn from_status(pod: &core::Pod, not_done: &[String]) -> Self {
        let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
        let containers: Vec<_> = statuses
            .map(|s| match s.state.as_ref() {
                Some(state) if state.running.is_some() => "Installed".to_owned(),
                Some(core::ContainerState { waiting: Some(w), .. }) => {
                    key(w.reason.as_deref(), w.message.as_deref(), s.restart_count)
                }
                _ => String::new(),
            })
            .collect();
        let not_done = if containers.is_empty() { Vec::new() } else { not_done.to_vec() };
        Self { containers, not_done }
    }

    /// What is to be told of a container.
    pub(in crate::engine) fn of(outcome: &ContainerOutcome) -> String {
        match outcome {
            ContainerOutcome::Active { .. } => "Installed".to_owned(),
            ContainerOutcome::Superseded { .. } => names::BIZ_DEACTIVATE.to_owned(),
            ContainerOutcome::SideCar => "SideCar".to_owned(),
            ContainerOutcome::Waiting { reason, message, restarts } => {
                key(Some(reason.as_str()), Some(message), i32::try_from(*restarts).unwrap_or(0))
            }
        }
    }
}

fn key(reason: Option<&str>, message: Option<&str>, restarts: i32) -> String {
    format!("{}/{restarts}/{}", reason.unwrap_or_default(), message.unwrap_or_default())
}
