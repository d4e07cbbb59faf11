//! Who and where a base says that it is, and how often it may say something else.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::{
    domain::{Base, BaseInfo, Later},
    planning::Pace,
    tunnel::AddressError,
};

/// A base may say something else of itself so often at once,
const CHANGES: u32 = 10;
/// and then once in this time: each change is written to its Node and to all its Pods.
const CHANGES_EVERY: Duration = Duration::from_secs(30);

/// A base that beats over both tunnels has its port for so long after a beat over HTTP (each 12 s): its Node is not
/// written for each of them.
const HAS_ITS_PORT: Duration = Duration::from_secs(28);

/// What a base said of itself beyond what is believed.
#[derive(Debug)]
pub(in crate::engine) struct Registration {
    pace: Pace,
    /// The address that was refused last.
    refused: Option<AddressError>,
    /// When it beat over HTTP last.
    over_http: Option<Instant>,
    /// What its Node's Events are still to tell.
    pub(in crate::engine) unreported: Option<AddressError>,
}

impl Default for Registration {
    fn default() -> Self {
        Self { pace: Pace::new(CHANGES, CHANGES_EVERY), refused: None, over_http: None, unreported: None }
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
        match info.tunnel_port {
            Some(_) => self.over_http = Some(now),
            None if self.over_http.is_some_and(|beat| beat.later(HAS_ITS_PORT) > now) => {
                info.tunnel_port = base.info.as_ref().and_then(|known| known.tunnel_port);
            }
            None => {}
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{BaseId, Settings};

    #[test]
    fn the_port_goes_with_the_beats_over_http_and_not_with_each_beat_over_both_tunnels() {
        let start = Instant::now();
        let mut base = Base::new(BaseId::new("base-1"), Arc::new(Settings::default()), start);
        let (mut registration, mut changes) = (Registration::default(), 0);
        let mut beat = |port: Option<u16>, after: u64| {
            let info = BaseInfo { name: "app".into(), tunnel_port: port, ..BaseInfo::default() };
            let now = start + Duration::from_secs(after);
            changes += usize::from(registration.registers(&mut base, info, None, now));
            (base.info.as_ref().and_then(|info| info.tunnel_port), changes)
        };
        assert_eq!(beat(Some(1238), 0), (Some(1238), 1));
        for second in 0..100 {
            assert_eq!(beat(None, second), (Some(1238), 1));
            assert_eq!(beat(Some(1238), second), (Some(1238), 1));
        }
        assert_eq!(beat(Some(1239), 100), (Some(1239), 2), "another port");
        assert_eq!(beat(None, 127), (Some(1239), 2));
        assert_eq!(beat(None, 128), (None, 3), "it has moved");
        assert_eq!(beat(Some(1238), 129), (Some(1238), 4));
    }
}
