//! MQTT brokers: a real Mosquitto for tests, an embedded one for machines that have none, and a spy
//! that records what goes over either.

mod embedded;
mod mosquitto;
mod spy;

use std::time::Duration;

use anyhow::{Result, bail};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet};

pub use self::embedded::EmbeddedBroker;
pub use self::mosquitto::{Clients, Mosquitto, Tls};
pub use self::spy::{Message, Spy};

/// The largest packet of a client made here. Replies of bases that list all their modules are far
/// larger than the 10 kB rumqttc would take.
const LARGEST_PACKET: usize = 16 * 1024 * 1024;

/// Where a broker is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl BrokerAddress {
    fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, username: "modulet".to_owned(), password: "a password".to_owned() }
    }

    /// A client of rumqttc for it; nothing happens until the event loop is polled.
    pub fn connect(&self, client_id: &str) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(client_id, &self.host, self.port);
        options.set_credentials(&self.username, &self.password);
        options.set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
        options.set_keep_alive(Duration::from_secs(20));
        AsyncClient::new(options, 1000)
    }

    /// Whether it takes clients: connects once, and leaves.
    async fn probe(&self) -> Result<()> {
        let (client, mut events) = self.connect(&format!("probe-{}", std::process::id()));
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {}
            Ok(other) => bail!("answered {other:?}"),
            Err(ConnectionError::ConnectionRefused(code)) => bail!("refused: {code:?}"),
            Err(error) => return Err(error.into()),
        }
        client.disconnect().await?;
        while events.poll().await.is_ok() {}
        Ok(())
    }
}
