//! Which failures of a Pod were reported: each once, however often it is tried again, until the container runs.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;

use crate::domain::{ContainerOutcome, PodOutcome, Reason};

/// Why a Pod is not taken: there are too many on its Node (a kubelet's word).
pub(in crate::engine) const OUT_OF_PODS: &str = "OutOfpods";

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Failure {
    /// Which container; none: the whole Pod.
    pub(in crate::engine) container: Option<usize>,
    /// In one word.
    pub(in crate::engine) reason: &'static str,
    /// For people.
    pub(in crate::engine) message: String,
}

/// Failures of a Pod that were reported. Most Pods have none, so it takes little room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Failures(Option<Box<Told>>);

type Told = BTreeSet<(Option<usize>, &'static str)>;

impl Failures {
    /// What the status of a Pod that is met for the first time shows was reported by an earlier process.
    pub(in crate::engine) fn of_earlier(object: &core::Pod) -> Self {
        let mut told = Told::new();
        let statuses = object.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
        for (index, status) in statuses.enumerate() {
            let state = status.state.as_ref();
            let waiting = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
            let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(|t| t.reason.as_deref());
            if state.is_none_or(|state| state.running.is_none()) {
                let reasons = [waiting, last].into_iter().flatten().filter_map(Reason::of);
                told.extend(reasons.filter(|r| r.is_failure()).map(|r| (Some(index), r.as_str())));
            }
        }
        // The only reason for which a Pod is not taken at all.
        let failed = object.status.as_ref().and_then(|status| status.reason.as_deref());
        told.extend((failed == Some(OUT_OF_PODS)).then_some((None, OUT_OF_PODS)));
        Self((!told.is_empty()).then(|| Box::new(told)))
    }

    /// Those of an outcome that were not reported yet; now they are.
    pub(in crate::engine) fn new_of(&mut self, outcome: &PodOutcome) -> Vec<Failure> {
        let mut new = Vec::new();
        if let Some(rejected) = &outcome.rejected
            && self.is_new((None, rejected.reason))
        {
            new.push(Failure { container: None, reason: rejected.reason, message: rejected.message.clone() });
        }
        for (index, container) in outcome.containers.iter().enumerate() {
            match container {
                ContainerOutcome::Active { .. } => self.runs(index),
                ContainerOutcome::Waiting { reason, message, .. }
                    if reason.is_failure() && self.is_new((Some(index), reason.as_str())) =>
                {
                    new.push(Failure { container: Some(index), reason: reason.as_str(), message: message.clone() });
                }
                _ => {}
            }
        }
        new
    }

    /// Whether this was not reported yet; now it is.
    fn is_new(&mut self, failure: (Option<usize>, &'static str)) -> bool {
        self.0.get_or_insert_default().insert(failure)
    }

    /// What fails from now on fails anew.
    fn runs(&mut self, container: usize) {
        if let Some(told) = &mut self.0 {
            told.retain(|(of, _)| *of != Some(container));
            if told.is_empty() {
                self.0 = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Health, Phase, Rejection};

    fn outcome(containers: Vec<ContainerOutcome>, rejected: Option<Rejection>) -> PodOutcome {
        PodOutcome { uid: "uid".into(), phase: Phase::Pending, containers, reachable: true, rejected, leaving: None }
    }

    fn waiting(reason: Reason, message: &str, restarts: u32) -> ContainerOutcome {
        ContainerOutcome::Waiting { reason, message: message.into(), restarts }
    }

    fn reasons(new: &[Failure]) -> Vec<&'static str> {
        new.iter().map(|failure| failure.reason).collect()
    }

    #[test]
    fn a_failure_is_new_once_however_often_it_is_tried_again_and_again_after_it_ran() {
        let mut failures = Failures::default();
        let mut new = |container| reasons(&failures.new_of(&outcome(vec![container], None)));
        assert_eq!(new(waiting(Reason::Installing, "", 0)), [""; 0]);
        assert_eq!(new(waiting(Reason::InstallFailed, "one", 0)), ["InstallFailed"]);
        for restarts in 1..50 {
            assert_eq!(new(waiting(Reason::Installing, "", restarts)), [""; 0]);
            assert_eq!(new(waiting(Reason::InstallFailed, &format!("at {restarts}"), restarts)), [""; 0]);
        }
        assert_eq!(new(waiting(Reason::ModuleMismatch, "other", 50)), ["ModuleMismatch"]);
        assert_eq!(new(ContainerOutcome::Active { restarts: 50, health: Health::Ready }), [""; 0]);
        assert_eq!(new(waiting(Reason::InstallFailed, "again", 51)), ["InstallFailed"]);
    }

    #[test]
    fn what_is_expected_is_none() {
        let mut failures = Failures::default();
        for reason in Reason::ALL.into_iter().filter(|reason| !reason.is_failure()) {
            assert_eq!(failures.new_of(&outcome(vec![waiting(reason, "m", 0)], None)), []);
        }
        assert_eq!(failures, Failures::default(), "nothing is remembered of it");
    }

    #[test]
    fn containers_and_the_pod_itself_are_told_apart() {
        let mut failures = Failures::default();
        let both = vec![waiting(Reason::InstallFailed, "a", 0), waiting(Reason::InstallFailed, "b", 0)];
        assert_eq!(reasons(&failures.new_of(&outcome(both.clone(), None))), ["InstallFailed", "InstallFailed"]);
        assert_eq!(failures.new_of(&outcome(both, None)), []);
        let rejected = Some(Rejection { reason: "OutOfpods", message: "full".into() });
        let new = failures.new_of(&outcome(Vec::new(), rejected.clone()));
        assert_eq!(new, [Failure { container: None, reason: "OutOfpods", message: "full".into() }]);
        assert_eq!(failures.new_of(&outcome(Vec::new(), rejected)), []);
    }
}
