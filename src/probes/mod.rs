//! Probes: asks what containers want to be asked, and tells the engine what is news.
//!
//! The engine says for each base what is to be asked there; answers are counted here, and only what changes is told. It
//! runs on a thread and a runtime of its own: connections and handshakes take nothing of the engine's time. A replica
//! that stands by is told nothing, so it asks nothing.

mod anyone;
mod ask;
mod attempt;
mod book;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};
use tracing::error;

use crate::{
    domain::{ProbeFact, ProbeOrder},
    lead::Lead,
    metrics::Metrics,
    tasks::Tasks,
};
use ask::Asker;
use attempt::{Attempt, Outcome};
use book::Book;

/// Orders that wait, one for each base that changed. Full: the engine says it again.
const QUEUE: usize = 4096;
/// Connections at a time. What is due beyond them waits, and counts for nothing.
const CONNECTIONS: usize = 256;

/// The sending half, as the engine has it.
#[derive(Clone, Debug)]
pub struct Prober(mpsc::Sender<ProbeOrder>);

impl Prober {
    /// A sender, and the end at which its orders come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ProbeOrder>) {
        let (sender, orders) = mpsc::channel(QUEUE);
        (Self(sender), orders)
    }

    /// Asks for a thread that probes for ever, and ends with `tasks`. What is news goes to `facts`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        tasks: &mut Tasks,
        facts: mpsc::Sender<ProbeFact>,
        metrics: Arc<Metrics>,
        lead: Lead,
    ) -> anyhow::Result<Self> {
        let (prober, orders) = Self::new();
        let run = move || probe(orders, facts, metrics, lead);
        tasks.spawn_thread("probes", run).context("cannot start a thread for probes")?;
        Ok(prober)
    }

    /// Hands an order over; false if there is no room, and it is lost.
    pub fn send(&self, order: ProbeOrder) -> bool {
        self.0.try_send(order).is_ok()
    }

    /// Orders waiting.
    pub fn depth(&self) -> usize {
        QUEUE.saturating_sub(self.0.capacity())
    }
}

async fn probe(
    mut orders: mpsc::Receiver<ProbeOrder>,
    facts: mpsc::Sender<ProbeFact>,
    metrics: Arc<Metrics>,
    lead: Lead,
) {
    let asker = match Asker::new() {
        Ok(asker) => Arc::new(asker),
        Err(error) => return error!(%error, "nothing can be probed"),
    };
    let mut book = Book::default();
    let mut open: JoinSet<(Attempt, Outcome)> = JoinSet::new();
    loop {
        let now = Instant::now();
        while open.len() < CONNECTIONS
            && let Some(attempt) = book.due(now)
        {
            let (asker, acts) = (Arc::clone(&asker), lead.may_act());
            open.spawn(async move {
                // Who may not act at this moment asks nothing.
                let outcome = if acts { asker.ask(&attempt).await } else { Outcome::Unknown };
                (attempt, outcome)
            });
        }
        let next = if open.len() < CONNECTIONS { book.next() } else { None };
        let idle = now.checked_add(Duration::from_secs(3600)).unwrap_or(now);
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => book.set(order, Instant::now()),
                None => return,
            },
            Some(end) = open.join_next() => {
                // One that panicked has no end that could be counted: it is asked no more until it is ordered anew.
                let Ok((attempt, outcome)) = end else { continue };
                metrics.probed(attempt.kind.word(), outcome.word());
                for fact in book.ended(&attempt, outcome, Instant::now()) {
                    // The engine takes them in in its own time.
                    if facts.send(fact).await.is_err() {
                        return;
                    }
                }
            }
            () = sleep_until(next.unwrap_or(idle).into()) => {}
        }
    }
}
