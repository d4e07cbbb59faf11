//! What bases say, and the connection to them.

use std::time::Instant;

use tracing::{debug, info, warn};

use crate::{
    domain::{Answer, BaseId, BaseInfo, Command, Metaspace, Reply},
    engine::state::State,
    k8s::names,
    planning::Task,
    tunnel::{self, Heartbeat, Message, Via},
};

impl State {
    /// A fact from the bases.
    pub(in crate::engine) fn tunnel(&mut self, event: tunnel::Event, now: Instant) {
        match event {
            tunnel::Event::Connected => {
                self.connected = true;
                self.last_arrival = Some(now);
                for (id, state) in self.bases.iter_mut().filter(|(_, state)| state.via == Via::Mqtt) {
                    state.base.connection_back(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Disconnected => {
                self.connected = false;
                self.last_arrival = None;
                for (id, state) in self.bases.iter_mut().filter(|(_, state)| state.via == Via::Mqtt) {
                    state.base.connection_lost(now);
                    self.dirty.insert(id.clone());
                }
            }
            tunnel::Event::Alive => self.last_arrival = Some(now),
            tunnel::Event::Undeliverable { base, command, why } => {
                if let Some(state) = self.bases.get_mut(&base) {
                    state.base.undeliverable(&command, &why, now);
                    self.dirty.insert(base);
                }
            }
            tunnel::Event::Uncertain(base) => {
                if let Some(state) = self.bases.get_mut(&base) {
                    state.base.command_uncertain();
                    self.dirty.insert(base);
                }
            }
            tunnel::Event::Message(via, id, message) => self.message(via, &id, message, now),
        }
    }

    fn message(&mut self, via: Via, id: &BaseId, message: Message, now: Instant) {
        if let Message::Heartbeat(Heartbeat { info, .. }) = &message
            && !self.accepts(id, info)
        {
            return;
        }
        if !self.bases.contains_key(id) && !self.admission.admits(id, self.bases.len(), &self.metrics, now) {
            return;
        }
        let ranges = self.config.base_addresses.clone();
        self.tell_refusal(id, &message);
        self.heard_somebody(now);
        let (connected, begun) = (self.connected, self.begun.is_some());
        let Some(state) = self.base_mut(id, now) else { return };
        let was_at_rest = state.via == via && state.base.liveness.is_at_rest();
        state.is_heard_via(via, connected, now);
        state.base.liveness.heard(now);
        match message {
            Message::Heartbeat(Heartbeat { mut info, no_address, going_away, out_of_turn }) => {
                if out_of_turn {
                    state.may_be_new();
                }
                let (ip, no_address) = ranges.admit(info.ip.take(), no_address);
                info.ip = ip;
                if going_away {
                    info!(base = %id, "the base says that it goes away");
                    state.base.liveness.said_goodbye(now);
                } else {
                    state.base.liveness.beat(now);
                }
                if state.registration.registers(&mut state.base, info, no_address, now) {
                    // Their statuses name its address.
                    for uid in self.index.of_base(id) {
                        if let Some(pod) = self.pods.get_mut(uid) {
                            pod.said = None;
                        }
                    }
                    self.view_pods_of(id);
                } else if was_at_rest
                    && !(going_away || out_of_turn || state.registration.unreported.is_some())
                    && self.schedule.has(&Task::Base(id.clone()))
                {
                    // Most of what a fleet at rest says, and it only puts off when the base is to be asked. The look
                    // that is planned comes before that: `heartbeats_that_say_nothing_new_are_not_decided_on`.
                    return;
                }
            }
            Message::Modules(modules) => {
                debug!(base = %id, count = modules.len(), "list received");
                state.base.listed(modules, now);
                state.listed_at = Some(now);
                self.claim_orders_of_former_process(id, now);
            }
            Message::Health(mut health) => {
                // What a base that leaves its JVM out has said of it before still holds, if it is the same JVM.
                let complete = health.java_version.is_some();
                let known = state.health.take().filter(|_| !complete && state.base.knows_its_jvm());
                if let Some(known) = known {
                    (health.java_version, health.max_metaspace) = (known.java_version, known.max_metaspace);
                }
                state.base.health_answered(complete);
                state.base.has_web_server = health.web_server.or(state.base.has_web_server);
                let used = health.used_metaspace.take();
                state.loaded_classes = health.loaded_classes.take().or(state.loaded_classes);
                if let Some(run_time) = health.run_time.take() {
                    state.base.runs_for(run_time, now);
                }
                let metaspace = used.zip(health.max_metaspace).map(|(used, max)| Metaspace { used, max });
                state.health = Some(health);
                if let Some(state) = self.bases.get_mut(id).filter(|_| complete) {
                    state.measured(metaspace, &self.settings.metaspace, now);
                    if self.config.metrics_per_base {
                        self.metrics.standing.metaspace.set_base(id.as_str(), state.metaspace());
                    }
                }
            }
            Message::Reply(reply) => {
                debug!(base = %id, command = reply.command, answer = ?reply.answer, "reply received");
                if !begun && reply.command == "baseline" {
                    state.base.baseline_given(); // by whoever leads
                    state.asked_before_its_node = false;
                }
                if reply.command == Command::SWITCH && matches!(reply.answer, Answer::Failed(_)) {
                    state.refuses_switch = true;
                }
                let took = state.base.replied(reply);
                took.into_iter().for_each(|took| self.needs.learn(took));
            }
            Message::QueryBaseline(_) => {
                let expected = self.expected_modules(id);
                info!(base = %id, expected = expected.len(), "the base asks for its baseline");
                if let Some(state) = self.bases.get_mut(id) {
                    state.asked_before_its_node = !state.node.object.exists();
                    state.base.asked_for_baseline(expected, now);
                }
            }
        }
        self.dirty.insert(id.clone());
    }

    /// A base that could not do what it was told says why.
    fn tell_refusal(&self, id: &BaseId, message: &Message) {
        let Message::Reply(Reply { command, module, answer: Answer::Failed(error), .. }) = message else { return };
        if self.begun.is_some() {
            let trace = module.as_ref().and_then(|module| self.trace_of(id, module));
            let module = module.as_ref().map(ToString::to_string);
            warn!(base = %id, command, module, trace, error, "the base refused a command");
            self.metrics.module_failed(command);
        }
    }

    /// Whether a base's name and version can be labels. If not it gets no Node at all.
    fn accepts(&mut self, id: &BaseId, info: &BaseInfo) -> bool {
        let labels = [Some(&info.name), Some(&info.version), info.cluster.as_ref()];
        if labels.into_iter().flatten().all(|v| names::is_label_value(v)) {
            return true;
        }
        self.metrics.message_refused("label");
        self.metrics.standing.base_refused("label");
        if self.admission.logs_refusal(id) {
            let (name, version, cluster) = (&info.name, &info.version, info.cluster.as_deref());
            warn!(base = %id, name, version, cluster, "base refused: its name, version or cluster can't be a label");
        }
        false
    }
}
