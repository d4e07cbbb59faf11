//! The one place where effects are carried out: nothing else has an edge in its hands.

use tokio::sync::mpsc;

use super::state::State;
use crate::{
    api::{EventSink, Read, Reader, ReportSink, Watched, WriteError, Writer, Written},
    domain::{BaseId, ProbeFact},
    metrics::Metrics,
    planning::{Effect, Lane},
    probes::Prober,
    tunnel::{self, Sender, Via},
};

/// The edges, as the engine sees them.
pub struct Edges {
    /// Messages from bases.
    pub tunnel: mpsc::Receiver<tunnel::Event>,
    /// Changes of Kubernetes objects.
    pub watched: mpsc::Receiver<Watched>,
    /// News of probes.
    pub probed: mpsc::Receiver<ProbeFact>,
    /// Ends of writes.
    pub written: mpsc::Receiver<Written>,
    /// Ends of reads.
    pub read: mpsc::Receiver<Read>,
    /// Reads of what environments refer to.
    pub reader: Reader,
    /// Commands to bases.
    pub commands: Commands,
    /// What is probed.
    pub prober: Prober,
    /// Statuses, Nodes, deletions.
    pub writer: Writer,
    /// Leases and ledgers.
    pub background: Writer,
    /// The set of ordered modules.
    pub record: Writer,
    /// Events.
    pub events: EventSink,
    /// Failures; none where there are no hooks to tell.
    pub reports: Option<ReportSink>,
}

/// The tunnels' sending halves; none of one that is not switched on.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// Over the broker.
    pub mqtt: Option<Sender>,
    /// To the base itself.
    pub http: Option<Sender>,
}

impl Commands {
    fn of(&self, via: Via) -> Option<&Sender> {
        match via {
            Via::Mqtt => self.mqtt.as_ref(),
            Via::Http => self.http.as_ref(),
        }
    }

    fn depth(&self) -> usize {
        [&self.mqtt, &self.http].into_iter().flatten().map(Sender::depth).sum()
    }
}

/// What an edge did not take, since its queue was full.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// Commands to this base are lost.
    Command(BaseId),
    /// What is to be probed on this base is lost.
    Probes(BaseId),
    /// This write has failed.
    Write(Written),
}

impl Edges {
    /// Carries them out, in order. Returns what was not taken.
    pub(super) fn carry_out(&self, effects: impl IntoIterator<Item = Effect>, metrics: &Metrics) -> Vec<NotTaken> {
        let mut not_taken = Vec::new();
        for effect in effects {
            match effect {
                Effect::Tell(via, base, command) => {
                    let Some(commands) = self.commands.of(via) else { continue };
                    if !commands.send(base.clone(), command) {
                        metrics.overflow("commands");
                        not_taken.push(NotTaken::Command(base));
                    }
                }
                Effect::Probe(order) => {
                    let base = order.base.clone();
                    if !self.prober.send(order) {
                        metrics.overflow("probes");
                        not_taken.push(NotTaken::Probes(base));
                    }
                }
                Effect::Write(lane, key, request) => {
                    let writer = self.lane(lane);
                    if !writer.submit(key.clone(), request) {
                        metrics.overflow(writer.name());
                        let result = Err(WriteError::Unreachable("the queue of writes is full".to_owned()));
                        not_taken.push(NotTaken::Write(Written { key, result }));
                    }
                }
                Effect::Note(note) => self.events.note(note),
                Effect::Report(report) => {
                    if let Some(reports) = &self.reports {
                        reports.report(report);
                    }
                }
                // One that finds no room is asked for again, as one whose answer is lost.
                Effect::Read(reference) => drop(self.reader.read(reference)),
            }
        }
        not_taken
    }

    fn lane(&self, lane: Lane) -> &Writer {
        match lane {
            Lane::Status => &self.writer,
            Lane::Background => &self.background,
            Lane::Record => &self.record,
        }
    }

    /// How many entries wait in each queue.
    pub(super) fn depths(&self) -> [(&'static str, usize); 11] {
        [
            ("tunnel", self.tunnel.len()),
            ("watched", self.watched.len()),
            ("written", self.written.len()),
            ("commands", self.commands.depth()),
            ("probes", self.prober.depth()),
            ("probed", self.probed.len()),
            (self.writer.name(), self.writer.depth()),
            (self.background.name(), self.background.depth()),
            (self.record.name(), self.record.depth()),
            ("events", self.events.depth()),
            ("reports", self.reports.as_ref().map_or(0, ReportSink::depth)),
        ]
    }
}

impl State {
    /// Decides on all that there is to decide on, and has it done.
    pub(super) fn turn(&mut self, edges: &Edges, now: std::time::Instant) {
        let mut effects = self.plan(now);
        self.notes.pace(&mut effects, &self.metrics, now);
        for end in edges.carry_out(effects, &self.metrics.clone()) {
            match end {
                NotTaken::Command(base) => self.commands_lost(&base, now),
                NotTaken::Probes(base) => self.probes_lost(&base, now),
                NotTaken::Write(end) => self.written(end, now),
            }
        }
    }
}
