//! Plans for one base: what it is told, what is written of it, what its Events say.

mod decide;
mod events;
mod lease;
mod neighbours;
mod node;
mod probes;
mod silence;
mod statuses;

use std::time::Duration;

use crate::domain::BaseId;

/// Up to a second, always the same for one base: bases that came together do not stay in step.
fn jitter(id: &BaseId) -> Duration {
    let sum = id.as_str().bytes().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    Duration::from_millis(sum % 1000)
}
