//! How many tests are at work at a time.

use std::{collections::BTreeSet, sync::Mutex};

use anyhow::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::workloads::lock;

/// Tests that have a stage at a time. Threads are more: one whose test waits for this, or for a JVM, keeps no other test waiting.
static TURNS: Semaphore = Semaphore::const_new(7);
/// The threads of tests that have theirs: a test's second stage needs none.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// That it is a test's turn.
pub(crate) struct Turn {
    thread: String,
    _permit: SemaphorePermit<'static>,
}

impl Turn {
    /// None: it is this test's turn already.
    pub(crate) async fn wait() -> Result<Option<Self>> {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        if !lock(&TAKEN).insert(thread.clone()) {
            return Ok(None);
        }
        Ok(Some(Self { thread, _permit: TURNS.acquire().await? }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.thread);
    }
}
