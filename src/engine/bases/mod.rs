//! One base: what is known of it, and the plans for it.

mod decide;
mod index;
mod lease;
mod metaspace;
mod neighbours;
mod node;
mod pods;
mod registration;
mod state;
mod statuses;
mod story;

pub(in crate::engine) use index::PodIndex;
pub(in crate::engine) use state::{BaseState, PodState};

use std::time::Duration;

use crate::domain::BaseId;

/// Up to a second, always the same for one base: bases that came together do not stay in step.
fn spread(id: &BaseId) -> Duration {
    let sum = id.as_str().bytes().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    Duration::from_millis(sum % 1000)
}
