//! The edge to the bases, over MQTT and HTTP. Nothing behind it sees bytes, topics or addresses.

mod address;
mod broker;
mod budget;
mod codec;
mod elsewhere;
mod encode;
pub mod http;
pub mod mqtt;
mod outbox;
pub mod probe;
#[cfg(test)]
mod tests;
mod topic;
mod traffic;
mod trust;

pub use address::{AddressError, AddressRanges, address};
pub use codec::{CodecError, Health, Heartbeat, Message, Posted, decode, exchanged, posted};
pub use encode::encode;
pub use topic::{IdentityError, Kind, Topics};

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::domain::{BaseId, Command};

/// A way to bases. A base belongs to the one that it was last heard on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// A broker between us, which may be the silent one.
    #[default]
    Mqtt,
    /// Nothing between us but the network.
    Http,
}

/// What a tunnel tells the engine.
#[derive(Debug)]
pub enum Event {
    /// The broker is there and our subscriptions are acknowledged.
    Connected,
    /// The broker is gone.
    Disconnected,
    /// Something arrived from the broker: it lives, and so does the link.
    Alive,
    /// This command can't be sent.
    Undeliverable {
        /// To whom.
        base: BaseId,
        /// What.
        command: Command,
        /// For people.
        why: String,
    },
    /// A command to this base got no answer, and may never have arrived: the list tells.
    Uncertain(BaseId),
    /// A base said something.
    Message(Via, BaseId, Message),
}

/// Commands waiting to be sent. Full: the engine takes them as perhaps lost and asks again.
const QUEUE: usize = 16 * 1024;

/// The sending half of a tunnel, as the engine has it.
#[derive(Clone, Debug)]
pub struct Sender(mpsc::Sender<(BaseId, Command)>);

impl Sender {
    /// A sender, and the end at which its commands come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<(BaseId, Command)>) {
        let (sender, commands) = mpsc::channel(QUEUE);
        (Self(sender), commands)
    }

    /// Hands a command over; false if there is no room, and the command is lost.
    pub fn send(&self, base: BaseId, command: Command) -> bool {
        self.0.try_send((base, command)).is_ok()
    }

    /// Commands waiting.
    pub fn depth(&self) -> usize {
        QUEUE - self.0.capacity()
    }
}

/// What several tasks keep; one that panicked while it had it leaves it as it was.
fn open<T>(book: &Mutex<T>) -> MutexGuard<'_, T> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
