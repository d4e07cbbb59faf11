//! Being told to end.

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, `kill`, and the terminal's window being closed.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one, and returns its number.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }

    /// Waits for somebody who has lost patience with the end in order. What comes within a second is
    /// the first signal still: programs like `make` and `timeout` pass on what the terminal sent to all.
    pub(crate) async fn insisted(&mut self) -> u8 {
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                self.next().await;
            }
        })
        .await;
        self.next().await
    }
}
