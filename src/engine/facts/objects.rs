//! What the API server says: changes of objects, the ends of writes and reads.

use std::time::Instant;

use tracing::info;

use crate::{
    api::{Key, Read, Seen, Watched, Written},
    engine::{references::Users, state::State},
    k8s::{Reference, kubelet_version, names},
    planning::Task,
};

impl State {
    /// A fact from the API server.
    pub(in crate::engine) fn watched(&mut self, change: Watched, now: Instant) {
        self.synced.extend(change.completes());
        match change {
            Watched::Pod(seen) => self.pod_seen(*seen, now),
            Watched::Node(seen) => {
                self.node_seen(*seen, now);
                self.peers.changed(now, &mut self.schedule);
            }
            Watched::DaemonSet(seen) => {
                self.intruders.seen(&seen);
                self.rollouts.daemon_set_seen(&seen, now, &mut self.schedule);
                self.daemon_sets.seen(*seen);
            }
            Watched::Record(seen) => {
                self.record.seen(*seen, now);
                self.schedule.wake(&Task::Record, now);
            }
            Watched::Deployment(watch, seen) => self.peers.seen(watch, *seen, now, &mut self.schedule),
            Watched::Rollout(seen) => self.rollouts.seen(*seen, now, &mut self.schedule),
            Watched::Workload(seen) => self.rollouts.deployment_seen(&seen, now, &mut self.schedule),
            Watched::ZonedNode(seen) => {
                if matches!(seen, Seen::Applied(_)) && !std::mem::replace(&mut self.surroundings.zoned, true) {
                    info!("ordinary Nodes have zones: bases have none of their own ({})", names::ZONE);
                    self.look_at_all_nodes();
                }
            }
            Watched::ApiServer(version) => {
                self.surroundings.kubelet_version = Some(kubelet_version(version.as_deref()));
                self.look_at_all_nodes();
            }
            Watched::ReplicaSet(watch, seen) => match seen {
                Seen::Applied(set) => self.revisions_changed |= self.revisions.replica_set(watch, &set.metadata),
                Seen::Gone(set) => self.revisions.replica_set_gone(watch, &set.metadata),
                Seen::ListBegins => self.revisions.replica_sets.begin(watch),
                Seen::ListEnds => self.revisions.replica_sets.end(watch),
            },
            Watched::ControllerRevision(watch, seen) => match *seen {
                Seen::Applied(revision) => {
                    self.revisions_changed |= self.revisions.controller_revision(watch, &revision);
                }
                Seen::Gone(revision) => self.revisions.controller_revision_gone(watch, &revision),
                Seen::ListBegins => self.revisions.controller_revisions.begin(watch),
                Seen::ListEnds => self.revisions.controller_revisions.end(watch),
            },
        }
    }

    /// What all Nodes should say may be something else now.
    fn look_at_all_nodes(&mut self) {
        for (id, state) in &mut self.bases {
            state.node.said = None;
            self.dirty.insert(id.clone());
        }
    }

    /// A write ended.
    pub(in crate::engine) fn written(&mut self, end: Written, now: Instant) {
        match end.key {
            Key::PodStatus(uid) => self.status_written(&uid, end.result, now),
            Key::PodDelete(uid) => self.pod_deleted(&uid, end.result, now),
            Key::Node(id) => {
                if let Some(state) = self.bases.get_mut(&id) {
                    state.node_written(end.result, now);
                    self.dirty.insert(id);
                }
            }
            Key::Lease(id) => {
                if let Some(state) = self.bases.get_mut(&id) {
                    if end.result.is_err() {
                        self.dirty.insert(id);
                    }
                    state.lease_written(end.result, now);
                }
            }
            Key::Record(name) => {
                let (waited, saved) = self.record.written(&name, end.result, now);
                self.dirty.extend(waited);
                for (id, mark) in saved {
                    let Some(state) = self.bases.get_mut(&id) else { continue };
                    state.saved_mark = mark;
                    if state.is_recorded() {
                        self.record.ordered.saved(&id);
                    }
                    self.dirty.insert(id);
                }
                self.schedule.wake(&Task::Record, now);
            }
            Key::Scale(uid) => self.peers.written(&uid, end.result, now, &mut self.schedule),
            Key::Rollout(uid) => self.rollouts.written(&uid, end.result, now, &mut self.schedule),
            Key::RolledBack(uid) => self.rollouts.rolled_back(&uid, end.result, now, &mut self.schedule),
            Key::BasePod(uid) => self.base_pods.written(&uid, end.result, now, &mut self.schedule),
            Key::PodMove(pod) => self.peers.moved(&pod, end.result, now, &mut self.schedule),
            Key::PodCost(deployment, pod) => self.peers.marked(&deployment, &pod, end.result),
        }
    }

    /// An object that environments refer to was read.
    pub(in crate::engine) fn reference_read(&mut self, read: Read, now: Instant) {
        if let Reference::Template(namespace, replica_set) = &read.reference {
            return self.rollouts.template_read(namespace, replica_set, &read.referred, now, &mut self.schedule);
        }
        let reference = read.reference.clone();
        let Users { changed, missed } = self.references.read(read, now, &mut self.schedule);
        for (uid, needed) in missed {
            let (Some(pod), Some(reason)) = (self.pods.get(&uid), reference.missing(needed)) else { continue };
            let message = format!("{reference} does not exist{}", if needed { "" } else { ", and is optional" });
            self.fact_notes.extend(pod.note(needed, reason, message));
        }
        changed.iter().for_each(|uid| self.view_again(uid));
    }
}
