//! Who and where a base says that it is, and how often it may say something else.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::{
    domain::{Base, BaseInfo},
    planning::Pace,
    tunnel::AddressError,
};

/// A base may say something else of itself so often at once,
const CHANGES: u32 = 10;
/// and then once in this time: each change is written to its Node and to all its Pods.
const CHANGES_EVERY: Duration = Duration::from_secs(30);

/// What a base said of itself beyond what is believed.
#[derive(Debug)]
pub(in crate::engine) struct Registration {
    pace: Pace,
    /// The address that was refused last.
    refused: Option<AddressError>,
    /// What its Node's Events are still to tell.
    pub(in crate::engine) unreported: Option<AddressError>,
}

impl Default for Registration {
    fn default() -> Self {
        Self { pace: Pace::new(CHANGES, CHANGES_EVERY), refused: None, unreported: None }
    }
}

impl Registration {
    /// A heartbeat says this of the base. Returns whether something is another than before. What is not taken now
    /// comes again with the next heartbeat.
    pub(in crate::engine) fn registers(
        &mut self,
        base: &mut Base,
        mut info: BaseInfo,
        no_address: Option<AddressError>,
        now: Instant,
    ) -> bool {
        let id = &base.id;
        if no_address.is_some() {
            // What runs goes on with the address that it had.
            info.ip = base.info.as_ref().and_then(|known| known.ip.clone());
        }
        if no_address != self.refused && (no_address.is_none() || self.pace.try_take(now)) {
            if let Some(why) = &no_address {
                let known = info.ip.as_deref().unwrap_or("none");
                warn!(base = %id, %why, known, "the address of the base is refused");
            }
            self.refused.clone_from(&no_address);
            self.unreported = no_address;
        }
        if base.info.as_ref() == Some(&info) || !self.pace.try_take(now) {
            return false;
        }
        info!(base = %id, name = info.name, version = info.version, ip = info.ip, "base registered");
        base.info = Some(info);
        true
    }
}
