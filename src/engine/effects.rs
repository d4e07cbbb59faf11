//! The one place where effects are carried out: nothing else has an edge in its hands.

use std::time::Instant;

use tokio::sync::mpsc;

use super::state::State;
use crate::{
    api::{EventSink, Read, Reader, ReportSink, Watched, WriteError, Writer, Written},
    domain::ProbeFact,
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

impl Edges {
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
    pub(super) fn turn(&mut self, edges: &Edges, now: Instant) {
        let mut effects = self.plan(now);
        self.notes.pace(&mut effects, &self.metrics, now);
        self.carry_out(effects, edges, now);
    }

    /// Carries them out, in order. What an edge does not take, since its queue is full, is lost or has failed.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>, edges: &Edges, now: Instant) {
        for effect in effects {
            match effect {
                Effect::Tell(via, base, command) => {
                    let Some(commands) = edges.commands.of(via) else { continue };
                    if !commands.send(base.clone(), command) {
                        self.metrics.overflow("commands");
                        self.commands_lost(&base, now);
                    }
                }
                Effect::Probe(order) => {
                    let base = order.base.clone();
                    if !edges.prober.send(order) {
                        self.metrics.overflow("probes");
                        self.probes_lost(&base, now);
                    }
                }
                Effect::Write(lane, key, request) => {
                    let writer = edges.lane(lane);
                    if !writer.submit(key.clone(), request) {
                        self.metrics.overflow(writer.name());
                        let result = Err(WriteError::Unreachable("the queue of writes is full".to_owned()));
                        self.written(Written { key, result }, now);
                    }
                }
                Effect::Note(note) => edges.events.note(note),
                Effect::Report(report) => {
                    if let Some(reports) = &edges.reports {
                        reports.report(report);
                    }
                }
                // One that finds no room is asked for again, as one whose answer is lost.
                Effect::Read(reference) => drop(edges.reader.read(reference)),
            }
        }
    }
}
