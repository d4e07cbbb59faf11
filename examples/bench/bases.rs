//! The bases, over one of the tunnels.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use modulet_testkit::base::{BaseOptions, Fleet, HttpBase, HttpOptions, ModuleState, ReceivedCommand};

/// Which way bases are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tunnel {
    /// All bases share one connection to a broker.
    Mqtt,
    /// Each has a port of its own, and each message is a connection.
    Http,
}

/// Many bases.
pub(crate) enum Bases {
    Mqtt(Fleet),
    Http(Vec<HttpBase>),
}

impl Bases {
    /// Starts `count` bases at once that beat at that port.
    pub(crate) async fn over_http(options: &BaseOptions, port: u16, count: usize) -> Result<Self> {
        let start = |number: usize| {
            let own = BaseOptions { id: format!("{}-{number}", options.id), ..options.clone() };
            HttpBase::start(own, HttpOptions { heartbeat: between_beats(number, count), ..HttpOptions::new(port) })
        };
        Ok(Self::Http(try_join_all((0..count).map(start)).await.context("bases over HTTP")?))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Mqtt(fleet) => fleet.len(),
            Self::Http(bases) => bases.len(),
        }
    }

    /// The modules of one base.
    pub(crate) fn modules(&self, number: usize) -> Vec<ModuleState> {
        match self {
            Self::Mqtt(fleet) => fleet.modules(number),
            Self::Http(bases) => bases.get(number).map(HttpBase::modules).unwrap_or_default(),
        }
    }

    /// When one base first received a command of which this is true.
    pub(crate) fn received_at(&self, number: usize, is: impl Fn(&ReceivedCommand) -> bool) -> Option<Instant> {
        let all = match self {
            Self::Mqtt(fleet) => fleet.commands(number),
            Self::Http(bases) => bases.get(number).map(HttpBase::orders).unwrap_or_default(),
        };
        all.into_iter().find(is).map(|received| received.at)
    }

    /// How often a command was received by all bases together.
    pub(crate) fn received(&self, command: &str) -> usize {
        match self {
            Self::Mqtt(fleet) => fleet.received(command),
            Self::Http(bases) => bases.iter().map(|base| base.received(command)).sum(),
        }
    }
}

/// They start together and must not beat together for ever, as real ones do not. None is later than real ones are (12 s):
/// a base that is late is asked how it is.
fn between_beats(number: usize, count: usize) -> Duration {
    let (number, count) = (u32::try_from(number).unwrap_or(u32::MAX), u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    Duration::from_millis(10_600) + Duration::from_millis(1_400) * number / count
}
