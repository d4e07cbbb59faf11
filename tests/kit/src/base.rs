//! A simulated base: behaves on the wire as the recorded real ones do.
//!
//! [`SimulatedBase`] is one base with one connection of its own; [`Fleet`] is very many over one
//! connection. Both execute commands by the same state machine, which knows no I/O.
//!
//! Where nothing else is chosen, a module's URL tells what becomes of it: a file name with `broken`
//! in it fails to start, one with `missing` cannot be fetched, one with `slow-<ms>` stays `resolved`
//! for that long, and `<name>-<version>-ark-biz.jar` tells which module is really inside.

mod answers;
mod arklet;
mod command;
mod engine;
mod fleet;
mod http;
mod jobs;
mod leaving;
mod link;
mod module;
mod options;
mod slot;
mod starting;
mod traces;
mod urls;
mod wire;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use engine::Engine;
use module::Module;
use slot::Slot;

pub use fleet::Fleet;
pub use http::{HttpBase, HttpOptions};
pub use module::BizState;
pub use options::{Activation, BaseOptions, Generation, UrlBehaviour};
pub use slot::{Counters, ReceivedCommand};

/// Name, version and state of a module.
pub type ModuleState = (String, String, BizState);

fn listed(modules: &[Module]) -> Vec<ModuleState> {
    let mut list: Vec<_> =
        modules.iter().map(|module| (module.name.clone(), module.version.clone(), module.state())).collect();
    list.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    list
}

/// One simulated base with its own connection. Dropping it is like [`SimulatedBase::kill`].
#[derive(Debug)]
pub struct SimulatedBase {
    engine: Engine,
}

impl SimulatedBase {
    /// Starts the JVM, so to say: returns when it is subscribed, has asked for its baseline and
    /// beaten once.
    ///
    /// An error if the broker cannot be reached or refuses: a real base does not try again either.
    pub async fn start(options: BaseOptions) -> Result<Self> {
        let now = Instant::now();
        let mut slot = Slot::new(options.clone(), now);
        slot.boot(now);
        let client_id = format!("{}@@@{}", options.client_prefix, slot.identity);
        let base = Self { engine: Engine::new(options, client_id, vec![slot]) };
        base.run().await?;
        Ok(base)
    }

    async fn run(&self) -> Result<()> {
        let filters = self.see(|slot| {
            let below = format!("koupleless_{}/{}", slot.options.env_in_topics(), slot.identity);
            let baseline = (slot.options.generation > Generation::V2_1_5).then(|| format!("{below}/base/baseline"));
            std::iter::once(format!("{below}/+")).chain(baseline).collect()
        });
        self.engine.connect(filters).await.with_context(|| format!("simulated base {}", self.identity()))?;
        let before = self.counters();
        self.change(Slot::connected);
        let spoken = |slot: &Slot| {
            (slot.counters.heartbeats + slot.counters.lost > before.heartbeats + before.lost).then_some(())
        };
        self.engine.wait_for(0, Duration::from_secs(5), spoken).await
    }

    fn see<T: Default>(&self, look: impl FnOnce(&Slot) -> T) -> T {
        self.engine.look(0, look).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Slot, Instant)) {
        self.engine.with(0, change);
    }

    /// Its identity; the oldest generations have another one after each restart.
    pub fn identity(&self) -> String {
        self.see(|slot| slot.identity.clone())
    }

    /// Its modules, sorted by name and version.
    pub fn modules(&self) -> Vec<ModuleState> {
        self.see(|slot| listed(slot.arklet.modules()))
    }

    /// The state of one module.
    pub fn state_of(&self, name: &str, version: &str) -> Option<BizState> {
        self.modules().into_iter().find(|known| known.0 == name && known.1 == version).map(|known| known.2)
    }

    /// Every command received since it was made, oldest first.
    pub fn commands(&self) -> Vec<ReceivedCommand> {
        self.see(|slot| slot.commands.clone())
    }

    /// The commands but for the first `known`.
    pub fn commands_after(&self, known: usize) -> Vec<ReceivedCommand> {
        self.see(|slot| slot.commands.iter().skip(known).cloned().collect())
    }

    /// How often it received a command.
    pub fn received(&self, command: &str) -> usize {
        self.see(|slot| slot.counters.received.get(command).copied().unwrap_or(0))
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        self.see(|slot| slot.counters.clone())
    }

    /// Whether it is connected and subscribed.
    pub fn connected(&self) -> bool {
        self.engine.connected()
    }

    /// Waits for the first command of that name since it was made; returns at once if it came already.
    pub async fn wait_for_command(&self, command: &str, limit: Duration) -> Result<ReceivedCommand> {
        self.wait_for_commands(command, 1, limit).await
    }

    /// Waits until a command has come `count` times; returns the one that completed the number.
    pub async fn wait_for_commands(&self, command: &str, count: usize, limit: Duration) -> Result<ReceivedCommand> {
        let find = |slot: &Slot| {
            let mut all = slot.commands.iter().filter(|received| received.command == command);
            all.nth(count.saturating_sub(1)).cloned()
        };
        let waited = self.engine.wait_for(0, limit, find).await;
        waited.with_context(|| format!("{command} number {count} at {}", self.identity()))
    }

    /// Waits until a module is in a state; `None` means not listed.
    pub async fn wait_for_state(
        &self,
        name: &str,
        version: &str,
        state: Option<BizState>,
        limit: Duration,
    ) -> Result<()> {
        let find = |slot: &Slot| {
            let found = slot.arklet.modules().iter().find(|module| module.is(name, version)).map(Module::state);
            (found == state).then_some(())
        };
        let waited = self.engine.wait_for(0, limit, find).await;
        waited.with_context(|| format!("{name}:{version} at {} to be {state:?}", self.identity()))
    }

    /// `kill -9`: the TCP connection ends without a DISCONNECT, all modules are gone.
    pub fn kill(&self) {
        self.engine.disconnect();
        self.change(Slot::die);
    }

    /// A fresh JVM (killed before if it still runs): no modules, asks for its baseline, beats.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.run().await
    }

    /// The JVM stands still: connected, but nothing is answered and no heart beats.
    pub fn hang(&self) {
        self.change(|slot, _| slot.hang());
    }

    /// Goes on, and first answers what came while it hung.
    pub fn resume(&self) {
        self.change(Slot::resume);
    }

    /// The heart stops for good, as after a beat that fell into an outage; questions are answered.
    pub fn stop_beating(&self) {
        self.change(|slot, _| slot.stop_beating());
    }

    /// Says that it goes away, beats no more, and is there all the same.
    pub fn say_goodbye(&self) {
        self.change(Slot::say_goodbye);
    }

    /// Claims another address from now on, and says so with a beat.
    pub fn set_ip(&self, ip: &str) {
        self.change(|slot, now| {
            ip.clone_into(&mut slot.options.ip);
            slot.beat_now(now);
        });
    }

    /// Claims another address after its next start.
    pub fn set_ip_silently(&self, ip: &str) {
        self.change(|slot, _| ip.clone_into(&mut slot.options.ip));
    }

    /// Uses so many bytes of its metaspace from now on, whatever its modules are.
    pub fn use_metaspace(&self, bytes: u64) {
        self.change(|slot, _| slot.options.used_metaspace = Some(bytes));
    }

    /// What every uninstall fails with (an exception with its message); none: they work again.
    pub fn fail_uninstalls(&self, exception: Option<&str>) {
        self.change(|slot, _| slot.arklet.stuck = exception.map(str::to_owned));
    }

    /// Cuts the connection; the client is back after its first back-off.
    pub fn drop_connection(&self) {
        self.drop_connection_for(Duration::ZERO);
    }

    /// Cuts the connection; attempts to connect fail for that long.
    pub fn drop_connection_for(&self, time: Duration) {
        self.engine.cut(time);
    }

    /// The next `count` answers are never published.
    pub fn mute_next_reply(&self, count: usize) {
        self.change(|slot, _| slot.mute = count);
    }

    /// Whether each answer is published twice.
    pub fn duplicate_replies(&self, on: bool) {
        self.change(|slot, _| slot.duplicate = on);
    }

    /// Publishes answers that much later than they are ready.
    pub fn delay_replies(&self, delay: Duration) {
        self.change(|slot, _| slot.delay = delay);
    }

    /// Puts a listed module into another state, without any message.
    pub fn set_module_state(&self, name: &str, version: &str, state: BizState) {
        self.change(|slot, now| slot.arklet.set_state(name, version, state, now));
    }

    /// A module that somebody else installed and activated.
    pub fn install_by_hand(&self, name: &str, version: &str) {
        self.set_module_state(name, version, BizState::Activated);
    }

    /// A module that somebody else removed; false if it was not there.
    pub fn remove_by_hand(&self, name: &str, version: &str) -> bool {
        self.engine.with(0, |slot, _| slot.arklet.remove(name, version)).unwrap_or(false)
    }

    /// Chooses what the URLs that contain `pattern` lead to; the latest choice counts.
    pub fn set_url_behaviour(&self, pattern: &str, behaviour: UrlBehaviour) {
        self.change(|slot, _| slot.arklet.set_url(pattern, behaviour));
    }
}
