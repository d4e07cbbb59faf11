//! What goes between the decisions on bases, their JVMs and the API server, in whatever order.

use std::time::Duration;

use super::cluster::Cluster;
use crate::domain::{ContainerOutcome, Link, Needs, Phase, Reason, WebContexts, tests::jvm::FromBase};

/// A command and its answer take at most so long.
const MOST_ON_ITS_WAY: Duration = Duration::from_secs(4);

impl Cluster {
    /// What is decided on one base goes on its way.
    pub(super) fn decides(&mut self, number: usize) {
        let pods = self.pods_on(number);
        let node = &mut self.nodes[number];
        node.base.liveness.heard(self.now);
        let link = Link { proven: Some(self.now), ..Link::default() };
        for _ in 0..2 {
            let all: Vec<_> = pods.iter().collect();
            let plan = node.base.step(&all, &link, &WebContexts::default(), &Needs::default(), self.now);
            let unrecorded = !plan.unrecorded.is_empty();
            node.base.recorded(plan.unrecorded);
            if !plan.commands.is_empty() {
                node.busy_since.get_or_insert(self.now);
            }
            node.to_base.extend(plan.commands);
            // As the engine writes them: that one failed before that the next one is Ready.
            let (failed, others): (Vec<_>, Vec<_>) = plan.pods.into_iter().partition(|o| o.phase == Phase::Failed);
            node.unwritten.extend(failed.into_iter().chain(others));
            let done = |pod: &super::deployment::Pod| {
                plan.finished.iter().chain(&plan.expired).any(|uid| **uid == *pod.id.to_string())
            };
            self.deployment.pods.retain(|pod| !done(pod));
            if !unrecorded {
                break;
            }
        }
    }

    /// A base gets the oldest command, and its answer comes.
    pub(super) fn delivers(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if let Some(command) = node.to_base.pop_front() {
            for spec in command.installs() {
                let bases = self.touched.entry(spec.id.version.clone()).or_default();
                if !bases.contains(&number) {
                    bases.push(number);
                }
            }
            let answer = node.jvm.handle(&command);
            node.from_base.push_back(answer);
        }
        if self.rng.bool()
            && let Some(answer) = node.from_base.pop_front()
        {
            node.base.liveness.heard(self.now);
            match answer {
                FromBase::List(modules) => node.base.listed(modules, self.now),
                FromBase::Reply(reply) => drop(node.base.replied(reply)),
                FromBase::AlsoAlive => {}
            }
        }
        if node.to_base.is_empty() && node.from_base.is_empty() {
            node.busy_since = None;
        }
        self.counts();
    }

    /// Time goes on. What is on its way arrives within seconds: a question that is not answered for longer is asked again,
    /// and a command that is overtaken by the answer counts as lost.
    pub(super) fn later(&mut self, by: Duration) {
        self.now += by;
        for number in 0..self.nodes.len() {
            while self.nodes[number].busy_since.is_some_and(|since| self.now - since > MOST_ON_ITS_WAY) {
                self.delivers(number);
            }
        }
    }

    /// The API server gets the oldest status of a base's Pods.
    pub(super) fn shows(&mut self, number: usize) {
        let Some(outcome) = self.nodes[number].unwritten.pop_front() else { return };
        let of_it = |pod: &&mut super::deployment::Pod| *pod.id.to_string() == *outcome.uid && !pod.failed;
        let Some(pod) = self.deployment.pods.iter_mut().find(of_it) else { return };
        pod.ready = outcome.ready() && !pod.deleting;
        pod.failed = outcome.phase == Phase::Failed;
        let history = self.histories.entry(pod.id).or_default();
        let says = |reason: Reason| {
            outcome.containers.iter().any(|c| matches!(c, ContainerOutcome::Waiting { reason: r, .. } if *r == reason))
        };
        pod.held_back = says(Reason::AwaitingBatch);
        pod.broken = says(Reason::InstallFailed);
        history.has_run |= outcome.containers.iter().any(ContainerOutcome::active);
        history.failed |= pod.broken;
    }
}
