//! A broker inside this process, for the demo on machines without Mosquitto.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::{BrokerAddress, LARGEST_PACKET};
use crate::ports::is_free;
use crate::wait::eventually;

/// rumqttd on threads of its own. It cannot be stopped and ends with the process; tests that need a
/// broker to go away use [`super::Mosquitto`].
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: BrokerAddress,
}

impl EmbeddedBroker {
    /// Starts one on this port of 127.0.0.1 and waits until it takes clients.
    pub async fn start(port: u16) -> Result<Self> {
        // The library only logs it when it cannot listen.
        if !is_free(port) {
            bail!("port {port} of 127.0.0.1 is taken by another program");
        }
        let address = BrokerAddress::local(port);
        let mut broker = Broker::new(config(&address));
        std::thread::Builder::new().name("broker".to_owned()).spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "the embedded broker ended");
            }
        })?;
        let patience = Duration::from_secs(10);
        eventually("the embedded broker", patience, async || address.probe().await).await?;
        Ok(Self { address })
    }

    /// Where it is and how to log in.
    pub fn address(&self) -> &BrokerAddress {
        &self.address
    }
}

fn config(address: &BrokerAddress) -> Config {
    let login = HashMap::from([(address.username.clone(), address.password.clone())]);
    let server = ServerSettings {
        name: "modulet".to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, address.port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: LARGEST_PACKET,
            max_inflight_count: 1000,
            auth: Some(login),
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        router: RouterConfig {
            max_connections: 10_000,
            max_outgoing_packet_count: 1000,
            // What it holds per topic filter, in memory, for subscribers that lag behind.
            max_segment_size: 4 * 1024 * 1024,
            max_segment_count: 8,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("modulet".to_owned(), server)])),
        ..Config::default()
    }
}
