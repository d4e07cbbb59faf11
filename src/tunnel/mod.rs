//! The edge to the bases: MQTT in, MQTT out. Nothing behind it sees bytes or topics.

mod address;
mod broker;
mod budget;
mod codec;
mod elsewhere;
mod encode;
pub mod mqtt;
mod outbox;
pub mod probe;
#[cfg(test)]
mod tests;
mod topic;
mod traffic;
mod trust;

pub use address::{AddressError, AddressRanges, address};
pub use codec::{CodecError, Health, Heartbeat, Message, decode};
pub use encode::encode;
pub use topic::{IdentityError, Kind, Topics};

use crate::domain::{BaseId, Command};

/// What the tunnel tells the engine.
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
    /// A base said something.
    Message(BaseId, Message),
}
