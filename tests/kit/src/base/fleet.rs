//! Very many bases in one process, over one connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::engine::Engine;
use super::module::BizState;
use super::options::{BaseOptions, UrlBehaviour};
use super::slot::{Counters, ReceivedCommand, Slot};
use super::{ModuleState, listed};

/// Many simulated bases that share one connection; numbered from 0.
///
/// Each has the identity `{id}-{number}` and an address of its own. Their heartbeats are spread
/// evenly over the interval.
#[derive(Debug)]
pub struct Fleet {
    engine: Engine,
    identities: Vec<String>,
}

impl Fleet {
    /// Starts `count` bases alike.
    pub async fn start(options: BaseOptions, count: usize) -> Result<Self> {
        let now = Instant::now();
        let one = |number: usize| {
            let mut own = options.clone();
            own.id = format!("{}-{number}", options.id);
            own.host_name = format!("{}-{number}", options.host_name);
            own.ip = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
            let mut slot = Slot::new(own, now);
            slot.boot(now);
            slot
        };
        let slots: Vec<_> = (0..count).map(one).collect();
        let identities = slots.iter().map(|slot| slot.identity.clone()).collect();
        let env = options.env_in_topics();
        let client_id = format!("{}@@@{}-fleet", options.client_prefix, options.id);
        let heartbeat = options.heartbeat;
        let engine = Engine::new(options, client_id, slots);
        let filters = vec![format!("koupleless_{env}/+/+"), format!("koupleless_{env}/+/base/baseline")];
        engine.connect(filters).await.context("fleet of simulated bases")?;
        let total = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        for number in 0..count {
            let share = u32::try_from(number).unwrap_or(u32::MAX);
            engine.with(number, |slot, now| {
                slot.connected(now);
                // The first beat comes at once with the question, the second somewhere in the interval.
                slot.spread_hearts(heartbeat * share / total);
            });
        }
        Ok(Self { engine, identities })
    }

    /// The identities, by number.
    pub fn identities(&self) -> &[String] {
        &self.identities
    }

    /// Number of bases.
    pub fn len(&self) -> usize {
        self.engine.len()
    }

    /// Whether there is no base at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The modules of one base.
    pub fn modules(&self, number: usize) -> Vec<ModuleState> {
        self.engine.look(number, |slot| listed(slot.arklet.modules())).unwrap_or_default()
    }

    /// How many bases have that module in that state.
    pub fn count_in_state(&self, name: &str, version: &str, state: BizState) -> usize {
        let wanted: ModuleState = (name.to_owned(), version.to_owned(), state);
        (0..self.len()).filter(|number| self.modules(*number).contains(&wanted)).count()
    }

    /// The commands one base received.
    pub fn commands(&self, number: usize) -> Vec<ReceivedCommand> {
        self.engine.look(number, |slot| slot.commands.clone()).unwrap_or_default()
    }

    /// What one base counted.
    pub fn counters(&self, number: usize) -> Counters {
        self.engine.look(number, |slot| slot.counters.clone()).unwrap_or_default()
    }

    /// How often a command was received by all bases together.
    pub fn received(&self, command: &str) -> usize {
        let of_one = |slot: &Slot| slot.counters.received.get(command).copied().unwrap_or(0);
        (0..self.len()).filter_map(|number| self.engine.look(number, of_one)).sum()
    }

    /// Ends one base without a word.
    pub fn kill(&self, number: usize) {
        self.engine.with(number, Slot::die);
    }

    /// A fresh JVM for one base.
    pub fn restart(&self, number: usize) {
        self.engine.with(number, |slot, now| {
            slot.boot(now);
            slot.connected(now);
        });
    }

    /// One base stops answering, see [`super::SimulatedBase::hang`].
    pub fn hang(&self, number: usize) {
        self.engine.with(number, |slot, _| slot.hang());
    }

    /// One base goes on.
    pub fn resume(&self, number: usize) {
        self.engine.with(number, Slot::resume);
    }

    /// Cuts the connection that all share.
    pub fn drop_connection(&self, time: Duration) {
        self.engine.cut(time);
    }

    /// Chooses what a URL leads to, for all bases.
    pub fn set_url_behaviour(&self, pattern: &str, behaviour: &UrlBehaviour) {
        for number in 0..self.len() {
            self.engine.with(number, |slot, _| {
                slot.arklet.set_url(pattern, behaviour.clone());
            });
        }
    }
}
