//! Who and where a base says that it is, and how often it may say something else.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{super::state::State, BaseState};
use crate::{
    api::{Note, Subject},
    domain::{BaseId, BaseInfo},
    planning::{Effect, Pace},
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
    untold: Option<AddressError>,
}

impl Default for Registration {
    fn default() -> Self {
        Self { pace: Pace::new(CHANGES, CHANGES_EVERY), refused: None, untold: None }
    }
}

impl Registration {
    /// One more change, if there may be one now. What is not taken comes again with the next heartbeat.
    fn changes(&mut self, now: Instant) -> bool {
        let may = self.pace.next(now) <= now;
        if may {
            self.pace.take(now);
        }
        may
    }
}

impl BaseState {
    /// A heartbeat says this. Returns whether something is another than before.
    pub(in crate::engine) fn registers(
        &mut self,
        mut info: BaseInfo,
        no_address: Option<AddressError>,
        now: Instant,
    ) -> bool {
        let id = &self.base.id;
        if no_address.is_some() {
            // What runs goes on with the address that it had.
            info.ip = self.base.info.as_ref().and_then(|known| known.ip.clone());
        }
        if no_address != self.registration.refused && (no_address.is_none() || self.registration.changes(now)) {
            if let Some(why) = &no_address {
                let known = info.ip.as_deref().unwrap_or("none");
                warn!(base = %id, %why, known, "the address of the base is refused");
            }
            self.registration.refused.clone_from(&no_address);
            self.registration.untold = no_address;
        }
        if self.base.info.as_ref() == Some(&info) || !self.registration.changes(now) {
            return false;
        }
        info!(base = %id, name = info.name, version = info.version, ip = info.ip, "base registered");
        self.base.info = Some(info);
        true
    }
}

impl State {
    /// Tells on the Node, once it is there, that the base says an address that is none.
    pub(super) fn tell_refused_address(&mut self, id: &BaseId, out: &mut Vec<Effect>) {
        let Some(state) = self.bases.get_mut(id).filter(|state| state.node.object.exists()) else { return };
        let Some(why) = state.registration.untold.take() else { return };
        let message = match state.base.info.as_ref().and_then(|info| info.ip.as_deref()) {
            Some(known) => format!("{why}; its address stays {known}"),
            None => format!("{why}; it has no address"),
        };
        let subject = Subject::Node(state.node.name.clone());
        out.push(Effect::Note(Note { subject, warning: true, reason: "AddressRefused", message }));
    }
}
