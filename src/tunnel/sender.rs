//! The sending half of a tunnel, as the engine has it.

use tokio::sync::mpsc;

use crate::domain::{BaseId, Command};

/// Commands waiting to be sent. Full: the engine takes them as perhaps lost and asks again.
const QUEUE: usize = 16 * 1024;

/// The sending half.
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
