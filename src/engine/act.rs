//! Decisions become commands, writes and Events.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use tracing::info;

use super::{
    Edges,
    pods::PodRecord,
    world::{BaseRecord, World},
};
use crate::{
    api::{EventSink, Key, Note, Request, Subject},
    domain::{BaseId, Command, ContainerOutcome, Phase, Plan, PodOutcome, PodUid, Reachability, Reason},
    k8s::{StatusWriter, names, status_patch},
};

/// A queue was full: look again soon.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// What a Pod's Events have told so far: each change is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown(Vec<String>);

impl Shown {
    /// What the status of a Pod that is met for the first time shows was told by an earlier process.
    pub(super) fn from_status(pod: &core::Pod) -> Self {
        let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
        Self(
            statuses
                .map(|s| match s.state.as_ref() {
                    Some(state) if state.running.is_some() => "Installed".to_owned(),
                    Some(core::ContainerState { waiting: Some(w), .. }) => {
                        key(w.reason.as_deref(), w.message.as_deref(), s.restart_count)
                    }
                    _ => String::new(),
                })
                .collect(),
        )
    }

    fn of(outcome: &ContainerOutcome) -> String {
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

impl World {
    /// Decides on every base that something happened to or whose time has come.
    pub(super) fn decide(&mut self, edges: &Edges, now: Instant) {
        while let Some(base) = self.timers.pop(now) {
            self.dirty.insert(base);
        }
        for id in std::mem::take(&mut self.dirty) {
            let started = Instant::now();
            self.decide_base(&id, edges, now);
            self.metrics.observe_step(started.elapsed());
        }
        self.keep_journal(edges, now);
    }

    fn decide_base(&mut self, id: &BaseId, edges: &Edges, now: Instant) {
        let Some(record) = self.bases.get_mut(id) else {
            self.without_base(id, edges, now);
            return;
        };
        let pods: Vec<_> = record.pods.iter().filter_map(|uid| self.pods.get(uid)).map(|p| &p.pod).collect();
        let mut plan = record.base.step(&pods, now);
        if record.wants_health && self.connected {
            record.wants_health = false;
            plan.commands.push(Command::QueryHealth);
        }
        let reachability = record.base.reachability(now);
        if record.reachability.replace(reachability) != Some(reachability) {
            reachability_changed(record, id, reachability, edges, now);
            self.peers.changed(now);
        }

        self.settle_journal(id, now);
        let mut wake = plan.wake;
        if !plan.unrecorded.is_empty() && self.put_on_record(id, &plan.unrecorded, now) {
            wake = Some(now);
        }
        self.send(id, &plan, edges, now);
        wake = earliest(wake, self.write_statuses(id, &plan.pods, edges, now));
        for uid in &plan.finished {
            wake = earliest(wake, self.delete(uid, edges, now));
        }
        // What was superseded by whom must be on record before the Pod that shows it goes.
        let saved = self.bases.get(id).is_some_and(|r| r.node.has_saved(&r.base.ledger));
        for uid in plan.expired.iter().filter(|_| saved) {
            wake = earliest(wake, self.delete(uid, edges, now));
        }
        if reachability == Reachability::Dead {
            // Nobody else will: a Node that is gone has no kubelet to finish its Pods' deletion.
            for uid in self.terminating(id) {
                wake = earliest(wake, self.delete(&uid, edges, now));
            }
        }
        wake = earliest(wake, self.keep_node(id, !plan.expired.is_empty(), edges, now));
        wake = earliest(wake, self.keep_lease(id, &edges.background, now));
        if self.bases.contains_key(id) {
            self.timers.set(id, wake);
        }
    }

    /// First that the old Pod has failed, then that the new one is Ready: with both, its Deployment would count one
    /// base as two, and take away a Pod too many. But the other way round where nothing else of it is Ready: then its
    /// Service would have no endpoint in between, although the base serves.
    fn write_statuses(&mut self, id: &BaseId, all: &[PodOutcome], edges: &Edges, now: Instant) -> Option<Instant> {
        let (failed, others): (Vec<_>, Vec<_>) = all.iter().partition(|o| o.phase == Phase::Failed);
        let (ready, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|o| o.ready());
        let last = !ready.is_empty() && failed.iter().any(|o| !self.is_ready_elsewhere(&o.uid));
        let (first, then) = if last { (ready, failed) } else { (failed, ready) };
        let mut wake = None;
        for outcome in others.into_iter().chain(first.iter().copied()) {
            wake = earliest(wake, self.write_status(id, outcome, edges, now));
        }
        if self.pods_of(id).any(PodRecord::is_failing_now)
            || first.iter().any(|o| self.pods.get(&o.uid).is_some_and(|p| p.is_ahead_of_api(o)))
        {
            return wake;
        }
        for outcome in then {
            wake = earliest(wake, self.write_status(id, outcome, edges, now));
        }
        wake
    }

    /// Pods of a Node whose base is not known: nothing can be done but let go what is being deleted
    /// once the Node is gone too.
    fn without_base(&mut self, id: &BaseId, edges: &Edges, now: Instant) {
        let mut wake = None;
        for uid in self.terminating(id) {
            wake = earliest(wake, self.delete(&uid, edges, now));
        }
        self.timers.set(id, wake);
    }

    fn terminating(&self, id: &BaseId) -> Vec<PodUid> {
        let of_base = self.pods.values().filter(|p| p.base == *id && p.pod.deleting.is_some());
        of_base.map(|p| p.pod.uid.clone()).collect()
    }

    fn send(&mut self, id: &BaseId, plan: &Plan, edges: &Edges, now: Instant) {
        let Some(sender) = &edges.commands else { return };
        let mut lost = false;
        for command in &plan.commands {
            lost |= !sender.send(id.clone(), command.clone());
            match command {
                Command::Install(spec, _) => {
                    info!(base = %id, module = %spec.id, switch = command.is_switch(), "installing");
                    self.tell_installing(id, std::slice::from_ref(spec), command.is_switch(), edges, now);
                }
                Command::Baseline(specs) => {
                    info!(base = %id, modules = specs.len(), "answering with the baseline");
                    self.tell_installing(id, specs, false, edges, now);
                }
                Command::Uninstall(module) => {
                    info!(base = %id, %module, "uninstalling");
                    for record in self.pods_of(id) {
                        if record.pod.deleting.is_some() && record.pod.modules().any(|s| s.id == *module) {
                            note(
                                &edges.events,
                                record,
                                false,
                                Reason::Uninstalling.as_str(),
                                format!("uninstalling {module}"),
                            );
                        }
                    }
                }
                Command::QueryModules | Command::QueryHealth => {}
            }
        }
        if lost {
            self.metrics.overflow("commands");
            if let Some(record) = self.bases.get_mut(id) {
                record.base.commands_lost();
            }
        }
    }

    fn pods_of<'a>(&'a self, id: &BaseId) -> impl Iterator<Item = &'a PodRecord> {
        let uids = self.bases.get(id).into_iter().flat_map(|r| &r.pods);
        uids.filter_map(|uid| self.pods.get(uid).map(Box::as_ref))
    }

    fn tell_installing(
        &mut self,
        id: &BaseId,
        specs: &[crate::domain::ModuleSpec],
        switch: bool,
        edges: &Edges,
        now: Instant,
    ) {
        let uids: Vec<_> = self.bases.get(id).into_iter().flat_map(|r| r.pods.iter().cloned()).collect();
        for uid in uids {
            let Some(record) = self.pods.get_mut(&uid) else { continue };
            let Some(spec) = record.pod.modules().find(|m| specs.contains(m)).filter(|_| record.pod.is_live()) else {
                continue;
            };
            let (reason, message) = if switch {
                (Reason::Switching, format!("{} has started; switching to it", spec.id))
            } else {
                (Reason::Installing, format!("installing {} from {}", spec.id, spec.url))
            };
            note(&edges.events, record, false, reason.as_str(), message);
            if !std::mem::replace(&mut record.commanded, true) {
                self.metrics.observe_bound_to_command(now.saturating_duration_since(record.first_seen));
            }
        }
    }

    fn write_status(&mut self, id: &BaseId, outcome: &PodOutcome, edges: &Edges, now: Instant) -> Option<Instant> {
        let ip = self.bases.get(id).and_then(|b| b.base.info.as_ref()).and_then(|i| i.ip.as_deref());
        let record = self.pods.get_mut(&outcome.uid)?;
        if record.settled.as_ref() == Some(outcome) {
            return None;
        }
        tell(&edges.events, record, outcome);
        if let Err(at) = record.status.may_start(now) {
            return at;
        }
        let fresh = record.object.status.as_ref().is_none_or(|s| s.container_statuses.is_none());
        let under_way = outcome.containers.iter().all(|c| {
            matches!(
                c,
                ContainerOutcome::Active { .. }
                    | ContainerOutcome::Waiting {
                        reason: Reason::Installing | Reason::Switching | Reason::ConfigError,
                        ..
                    }
            )
        });
        let quick = record.first_seen + Self::QUICK;
        if fresh && under_way && !outcome.ready() && now < quick {
            return Some(quick);
        }
        let status = StatusWriter { ip, now: whole_seconds(Timestamp::now()) }.status(&record.object, outcome);
        if record.object.status.as_ref() == Some(&status) {
            record.settled = Some(outcome.clone());
            return None;
        }
        let (namespace, name) = record.pod.name.split_once('/')?;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let request = Request::strategic_patch(path, &status_patch(&outcome.uid, &status));
        if edges.writer.submit(Key::PodStatus(outcome.uid.clone()), request) {
            record.status.in_flight = true;
            record.writing = Some(Box::new(status));
            record.assume_written();
            None
        } else {
            self.metrics.overflow(edges.writer.name());
            Some(now + AGAIN)
        }
    }

    fn delete(&mut self, uid: &PodUid, edges: &Edges, now: Instant) -> Option<Instant> {
        let record = self.pods.get_mut(uid)?;
        if record.object.metadata.deletion_grace_period_seconds == Some(0) {
            return None; // the API server removes it without us; the watch is about to say so
        }
        if let Err(at) = record.deletion.may_start(now) {
            return at;
        }
        let (namespace, name) = record.pod.name.split_once('/')?;
        let request = Request::delete(format!("/api/v1/namespaces/{namespace}/pods/{name}"), uid);
        if edges.writer.submit(Key::PodDelete(uid.clone()), request) {
            record.deletion.in_flight = true;
            None
        } else {
            self.metrics.overflow(edges.writer.name());
            Some(now + AGAIN)
        }
    }

    /// Saves every ledger of which a death now would lose something. Returns how many are still to come.
    pub(super) fn save_ledgers(&mut self, edges: &Edges, now: Instant) -> usize {
        let ahead = self.bases.iter().filter(|(_, r)| r.is_ahead(&self.journal));
        let unsaved: Vec<_> = ahead.map(|(id, _)| id.clone()).collect();
        for id in &unsaved {
            self.keep_node(id, true, edges, now);
        }
        unsaved.len()
    }

    /// Brings the figures about queues and bases up to date.
    pub(super) fn figures(&self, edges: &Edges, now: Instant) {
        let mut states = HashMap::from([("online", 0), ("unreachable", 0), ("stopped", 0), ("unknown", 0)]);
        for record in self.bases.values() {
            let state = match record.base.reachability(now) {
                Reachability::Online => "online",
                Reachability::Unreachable | Reachability::Dead => "unreachable",
                Reachability::Stopped => "stopped",
                Reachability::Unknown => "unknown",
            };
            *states.entry(state).or_default() += 1;
        }
        states.into_iter().for_each(|(state, count)| self.metrics.set_bases(state, count));
        self.metrics.pods.set(i64::try_from(self.pods.len()).unwrap_or(i64::MAX));
        for (queue, depth) in [
            ("tunnel", edges.tunnel.len()),
            ("watched", edges.watched.len()),
            ("written", edges.written.len()),
            ("commands", edges.commands.as_ref().map_or(0, crate::tunnel::mqtt::Sender::depth)),
            (edges.writer.name(), edges.writer.depth()),
            (edges.background.name(), edges.background.depth()),
            (edges.journal.name(), edges.journal.depth()),
            ("events", edges.events.depth()),
        ] {
            self.metrics.set_queue(queue, depth);
        }
    }
}

fn reachability_changed(record: &BaseRecord, id: &BaseId, to: Reachability, edges: &Edges, now: Instant) {
    info!(base = %id, state = ?to, silent_for = ?record.base.liveness.silence(now), "base");
    let (warning, reason, message) = match to {
        Reachability::Online => (false, "BaseReady", "the base answers"),
        Reachability::Unreachable => (true, "BaseUnreachable", "the base was asked and does not answer"),
        Reachability::Stopped => (true, "BaseStopped", "the base said that it goes away"),
        Reachability::Dead => (true, "BaseDead", "the base has been away for too long, the Node is deleted"),
        Reachability::Unknown => return,
    };
    let subject = Subject::Node(record.node.name().to_owned());
    edges.events.note(Note { subject, warning, reason, message: message.to_owned() });
}

/// Tells what has changed since the last time.
fn tell(events: &EventSink, record: &mut PodRecord, outcome: &PodOutcome) {
    if outcome.containers.is_empty() {
        return;
    }
    let shown = Shown(outcome.containers.iter().map(Shown::of).collect());
    if shown == record.shown {
        return;
    }
    let init = record.object.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).map(|c| c.name.as_str());
    let init: Vec<_> = init.collect();
    if record.shown == Shown::default() && !init.is_empty() {
        let message = format!("init containers are not run on a base: {}", init.join(", "));
        note(events, record, true, "InitContainersIgnored", message);
    }
    let name = |index: usize| {
        let container = record.pod.containers().get(index);
        container.map_or_else(String::new, |c| c.module().map_or_else(|| c.name.clone(), |m| m.id.to_string()))
    };
    for (index, container) in outcome.containers.iter().enumerate() {
        if record.shown.0.get(index) == shown.0.get(index) {
            continue;
        }
        let module = name(index);
        match container {
            ContainerOutcome::Active { .. } => {
                note(events, record, false, "Installed", format!("{module} is active on the base"));
            }
            ContainerOutcome::Superseded { message } => {
                note(events, record, true, names::BIZ_DEACTIVATE, message.clone());
            }
            ContainerOutcome::SideCar => {
                let message = format!("container {module} is no module (its image is no URL) and is not run");
                note(events, record, true, "SideCarIgnored", message);
            }
            // Told when the command goes out.
            ContainerOutcome::Waiting { reason: Reason::Installing | Reason::Switching, .. } => {}
            ContainerOutcome::Waiting { reason, message, .. } => {
                note(events, record, *reason != Reason::Held, reason.as_str(), message.clone());
            }
        }
    }
    record.shown = shown;
}

fn note(events: &EventSink, record: &PodRecord, warning: bool, reason: &'static str, message: String) {
    let Some((namespace, name)) = record.pod.name.split_once('/') else { return };
    let subject = Subject::Pod(namespace.to_owned(), name.to_owned(), record.pod.uid.to_string());
    events.note(Note { subject, warning, reason, message });
}

/// Times in the API have no more: what comes back then equals what was written.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
