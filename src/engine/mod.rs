//! The loop between the edges: facts in, decisions out.
//!
//! **Invariant:** one task owns all state. Facts change it, mark bases dirty, and each dirty base
//! is decided on once, however many facts came. Nothing here waits for an edge.

mod act;
mod baseline;
mod contest;
mod journal;
mod lease;
mod node;
mod peers;
mod pods;
mod record;
mod references;
mod surplus;
#[cfg(test)]
mod tests;
mod timers;
mod world;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tracing::{info, warn};

use crate::{
    api::{EventSink, Read, Reader, Watched, Writer, Written},
    config::Config,
    http::Readiness,
    metrics::Metrics,
    tunnel::{self, Topics, mqtt},
};

use journal::Journal;
use world::World;

/// Facts taken in before the bases they concern are decided on.
const BATCH: usize = 256;
/// How often figures about queues and bases are brought up to date.
const FIGURES_EVERY: Duration = Duration::from_secs(2);
/// At the end, ledgers that are not saved yet get this long.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The edges, as the engine sees them.
pub struct Edges {
    /// Messages from bases.
    pub tunnel: mpsc::Receiver<tunnel::Event>,
    /// Changes of Kubernetes objects.
    pub watched: mpsc::Receiver<Watched>,
    /// Ends of writes.
    pub written: mpsc::Receiver<Written>,
    /// Ends of reads.
    pub read: mpsc::Receiver<Read>,
    /// Reads of what environments refer to.
    pub reader: Reader,
    /// Commands to bases.
    pub commands: Option<mqtt::Sender>,
    /// Writes of Pods and Nodes.
    pub writer: Writer,
    /// Leases and ledgers: they must neither wait behind a burst of statuses nor hold it up.
    pub background: Writer,
    /// Segments of the journal: what waits for them is on every Pod's way.
    pub journal: Writer,
    /// Events.
    pub events: EventSink,
}

/// Runs until `stop` says so.
pub async fn run(
    config: Arc<Config>,
    mut edges: Edges,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    mut stop: watch::Receiver<bool>,
) {
    let run = format!("{:x}", Timestamp::now().as_millisecond());
    let journal = Journal::new(config.namespace.clone(), config.env.clone(), run);
    let mut world = World::new(Arc::clone(&config), Topics::new(&config.env), journal, Arc::clone(&metrics));
    let mut figures_at = Instant::now();
    loop {
        let timers = [world.timers.next(), world.references.next(), world.peers.next(), world.journal.next()];
        let timer = timers.into_iter().flatten().fold(figures_at, Instant::min);
        let mut room = BATCH;
        tokio::select! {
            _ = stop.changed() => break,
            () = sleep_until(timer.into()) => metrics.set_lateness(timer.elapsed()),
            Some(event) = edges.tunnel.recv() => world.tunnel(event, Instant::now()),
            Some(change) = edges.watched.recv() => world.watched(change, Instant::now()),
            Some(end) = edges.written.recv() => world.written(end, Instant::now()),
            Some(end) = edges.read.recv() => world.reference_read(end, Instant::now()),
        }
        while room > 0 {
            let now = Instant::now();
            let before = room;
            if let Ok(end) = edges.written.try_recv() {
                world.written(end, now);
                room -= 1;
            }
            if let Ok(event) = edges.tunnel.try_recv() {
                world.tunnel(event, now);
                room = room.saturating_sub(1);
            }
            if let Ok(change) = edges.watched.try_recv() {
                world.watched(change, now);
                room = room.saturating_sub(1);
            }
            if before == room {
                break;
            }
        }
        if world.synced() {
            if !readiness.watches.swap(true, Ordering::Relaxed) {
                info!(bases = world.bases.len(), pods = world.pods.len(), "watches have delivered, starting");
            }
            world.read_references(&edges.reader, Instant::now());
            world.decide(&edges, Instant::now());
            world.keep_peers(&edges, Instant::now());
        }
        readiness.broker.store(world.connected || config.mqtt.is_none(), Ordering::Relaxed);
        if figures_at.elapsed() > Duration::ZERO {
            figures_at = Instant::now() + FIGURES_EVERY;
            world.figures(&edges, Instant::now());
        }
    }
    farewell(&mut world, &mut edges).await;
}

/// Saves what a restart would lose.
async fn farewell(world: &mut World, edges: &mut Edges) {
    let deadline = Instant::now() + FAREWELL;
    while world.save_ledgers(edges, Instant::now()) > 0 {
        tokio::select! {
            () = sleep_until(deadline.into()) => {
                warn!("the API server did not take all ledgers in time");
                return;
            }
            Some(end) = edges.written.recv() => world.written(end, Instant::now()),
            Some(change) = edges.watched.recv() => world.watched(change, Instant::now()),
        }
    }
}
