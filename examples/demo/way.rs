//! How modulet and the bases reach each other.

use anyhow::Result;
use modulet_testkit::broker::{EmbeddedBroker, Spy};

use crate::stage::ENV;

/// What both are told at their start.
pub(crate) enum Way {
    /// A broker, and who hears the commands there, to count them.
    Mqtt { broker: EmbeddedBroker, spy: Spy },
    /// The port at which modulet takes heartbeats; there is no broker.
    Http { port: u16 },
}

impl Way {
    /// Starts a broker at that port of this machine.
    pub(crate) async fn mqtt(port: u16) -> Result<Self> {
        let broker = EmbeddedBroker::start(port).await?;
        let spy = Spy::start(broker.address(), &format!("koupleless_{ENV}/+/+")).await?;
        Ok(Self::Mqtt { broker, spy })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Mqtt { .. } => "MQTT",
            Self::Http { .. } => "HTTP",
        }
    }
}
