//! Chaos: whatever is killed, frozen, cut off or delayed, the promises hold all the time, and all is well soon after.
//!
//! A real control plane, a real broker, twenty simulated bases and two replicas of modulet. [`releases`] is a person who
//! releases modules all the time, [`faults`] is what goes wrong, both chosen by a seed. [`checker`] holds the promises; it
//! knows nothing of modulet's inside, only what [`watch`] shows it: Pods, bases, the broker's log, the API server's audit log.

mod checker;
mod event;
mod faults;
mod heal;
mod logs;
mod options;
mod releases;
mod report;
mod run;
mod seen;
mod strike;
mod watch;
mod workload;
mod world;

use std::time::Duration;

use anyhow::Result;

use options::Options;

/// One round with a seed that never changes, as one of the end-to-end tests.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_the_promises_hold_and_all_is_well_soon_after() -> Result<()> {
    let options = Options { seed: 20, length: Duration::from_secs(20), round: Duration::from_secs(20) };
    run::run(&options).await
}

/// As long as one likes: `make chaos MINUTES=10 SEED=1`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as one likes: `make chaos`"]
async fn for_minutes() -> Result<()> {
    run::run(&Options::from_environment()?).await
}
