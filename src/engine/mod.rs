//! The loop between the edges: facts in, plans out.
//!
//! **Invariant:** one task owns all state. Facts change it and mark bases dirty; plans are made of it, and each dirty
//! base is decided on once, however many facts came; effects are carried out in one place. Nothing here waits for an
//! edge.

mod admission;
mod baseline;
mod bases;
mod controllers;
mod daemon_sets;
mod effects;
mod facts;
mod figures;
mod intruders;
mod known;
mod notes;
mod pictures;
mod record;
mod references;
mod rollouts;
mod state;
mod surroundings;
mod suspicion;
#[cfg(test)]
mod tests;

pub use effects::{Commands, Edges};

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    domain::Later,
    http::Readiness,
    lead::Lead,
    metrics::Metrics,
    picture::Pictures,
    planning::{Effect, Task},
    tunnel::Topics,
};

use state::State;

/// Facts taken in before the bases they concern are decided on.
const BATCH: usize = 256;
/// What one turn finds to be due at once, such as an install that turns out to be on record, the next one does without a
/// timer: that would take a millisecond or two. So many turns at most before facts are taken in again.
const TURNS: usize = 4;
/// How often figures about queues, bases and Pods are brought up to date.
const FIGURES_EVERY: Duration = Duration::from_secs(2);
/// At the end, commands that are under way get this long, so that whoever leads next finds them ended;
const ANSWERS: Duration = Duration::from_secs(3);
/// and then ledgers that are not saved yet get this long.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Runs until `stop` says so.
pub async fn run(
    config: Arc<Config>,
    mut edges: Edges,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    pictures: Arc<Pictures>,
    lead: Lead,
    mut stop: watch::Receiver<bool>,
) {
    let mut state = State::new(Arc::clone(&config), Topics::new(&config.env), metrics);
    state.pictures = Arc::clone(&pictures);
    let mut figures_at = Instant::now();
    loop {
        // Before all is known nothing is decided, however much is due.
        let due = state.schedule.next().filter(|_| state.begun.is_some());
        let timer = due.map_or(figures_at, |at| at.min(figures_at));
        tokio::select! {
            _ = stop.changed() => break,
            () = sleep_until(timer.into()) => state.metrics.set_lateness(timer.elapsed()),
            () = pictures.asked() => {} // a turn takes them
            Some(event) = edges.tunnel.recv() => state.tunnel(event, Instant::now()),
            Some(change) = edges.watched.recv() => state.watched(change, Instant::now()),
            Some(end) = edges.written.recv() => state.written(end, Instant::now()),
            Some(fact) = edges.probed.recv() => state.probed(&fact, Instant::now()),
            Some(end) = edges.read.recv() => state.reference_read(end, Instant::now()),
        }
        take_in(&mut state, &mut edges);
        let now = Instant::now();
        readiness.pulse.beat(now);
        let leads = lead.leads();
        if let Some(foreign) = state.record.foreign() {
            error!(error = %foreign, "the record cannot be read: this process ends");
            return;
        }
        if state.begin(now) {
            // With the figures there is a turn in any case.
            let mut has_work = state.has_work(now) || figures_at <= now;
            for _ in 0..TURNS {
                if !has_work {
                    break;
                }
                state.turn(&edges, now);
                has_work = state.is_due(now);
            }
        }
        readiness.watches.store(state.begun.is_some() || !leads && state.is_warm(), Ordering::Relaxed);
        readiness.leads.store(leads, Ordering::Relaxed);
        let without_broker = config.mqtt.is_none() && config.http_tunnel.is_some();
        readiness.broker.store(state.connected || without_broker, Ordering::Relaxed);
        if figures_at <= now {
            figures_at = now.later(FIGURES_EVERY);
            edges.depths().into_iter().for_each(|(queue, depth)| state.metrics.set_queue(queue, depth));
            state.figures(now);
        }
    }
    farewell(&mut state, &mut edges).await;
}

/// Takes in what else has come meanwhile.
fn take_in(state: &mut State, edges: &mut Edges) {
    let (mut room, mut taken) = (BATCH, 1);
    while room > 0 && taken > 0 {
        let now = Instant::now();
        let facts = [
            edges.written.try_recv().map(|end| state.written(end, now)),
            edges.tunnel.try_recv().map(|event| state.tunnel(event, now)),
            edges.watched.try_recv().map(|change| state.watched(change, now)),
            edges.probed.try_recv().map(|fact| state.probed(&fact, now)),
        ];
        taken = facts.iter().flatten().count();
        room = room.saturating_sub(taken);
    }
}

/// Saves what a restart would lose.
async fn farewell(state: &mut State, edges: &mut Edges) {
    if state.begun.is_none() {
        return; // a standby has nothing
    }
    let answered = async {
        while state.bases.values().any(|base| base.base.in_flight() > 0) {
            tokio::select! {
                Some(event) = edges.tunnel.recv() => state.tunnel(event, Instant::now()),
                Some(end) = edges.written.recv() => state.written(end, Instant::now()),
                Some(change) = edges.watched.recv() => state.watched(change, Instant::now()),
            }
        }
    };
    if timeout(ANSWERS, answered).await.is_err() {
        info!("commands are under way that whoever leads next will find");
    }
    let deadline = Instant::now().later(FAREWELL);
    while state.save_ledgers(edges, Instant::now()) > 0 {
        tokio::select! {
            () = sleep_until(deadline.into()) => {
                warn!("the API server did not take all ledgers in time");
                return;
            }
            Some(end) = edges.written.recv() => state.written(end, Instant::now()),
            Some(change) = edges.watched.recv() => state.watched(change, Instant::now()),
        }
    }
}

impl State {
    /// Whether there is anything to decide on. Most heartbeats of a fleet at rest and most ends of writes leave nothing:
    /// `Scene::step` of the tests shows for each that no turn does anything then.
    fn has_work(&self, now: Instant) -> bool {
        let told = self.revisions_changed || !self.fact_notes.is_empty() || !self.dirty.is_empty();
        told || self.is_due(now) || self.pictures.are_wanted(now)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.schedule.next().is_some_and(|at| at <= now)
    }

    /// Decides on every base that something happened to or whose time has come, and on what concerns all of them.
    fn plan(&mut self, now: Instant) -> Vec<Effect> {
        let mut out = std::mem::take(&mut self.fact_notes);
        self.see_revisions(now);
        let mut due = Vec::new();
        while let Some(task) = self.schedule.due(now) {
            match task {
                Task::Base(base) => drop(self.dirty.insert(base)),
                of_all => due.push(of_all),
            }
        }
        self.plan_rollouts(due.contains(&Task::Rollouts), now, &mut out);
        self.base_pods.touched(self.dirty.iter(), now, &mut self.schedule);
        for id in std::mem::take(&mut self.dirty) {
            let started = Instant::now();
            self.plan_base(&id, now, &mut out);
            self.metrics.observe_step(started.elapsed());
            if self.untaken_pictures.is_some() {
                self.take_picture(&id, now); // somebody looks
            }
        }
        if due.contains(&Task::References) {
            self.references.plan(now, &mut self.schedule, &mut out);
        }
        if due.contains(&Task::Peers) {
            self.plan_peers(now, &mut out);
        }
        if due.contains(&Task::BasePods) {
            self.plan_base_pods(now, &mut out);
        }
        self.plan_record(now, &mut out); // whatever the reason for this turn
        self.take_pictures(now);
        out
    }

    fn plan_record(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let bases = &self.bases;
        let wake = self.record.plan(|id| bases.get(id).map(|state| &state.base.ledger), now, out);
        self.metrics.contested.set(i64::from(self.record.is_contested()));
        // That is all that is to be done for the record, whatever it was to be looked at for before.
        self.schedule.clear(&Task::Record);
        if let Some(at) = wake {
            self.schedule.wake(&Task::Record, at);
        }
    }

    /// Saves every ledger that is not on record. Returns how many are still to come.
    fn save_ledgers(&mut self, edges: &Edges, now: Instant) -> usize {
        for (id, state) in &mut self.bases {
            let mark = state.ledger_mark();
            if std::mem::replace(&mut state.noted_mark, mark) != mark {
                self.record.changed(id, &state.base.ledger, true, now);
            }
        }
        let left = self.record.hurry(now);
        let mut out = Vec::new();
        self.plan_record(now, &mut out);
        self.carry_out(out, edges, now);
        left
    }
}
