//! Where the broker is, and how to log in. What stands in files is read for each connection, so that passwords and
//! certificates that are renewed need no restart.

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, Packet, SubscribeReasonCode, TlsConfiguration, Transport,
};

use super::{
    encode::MAX_COMMAND,
    trust::{Tls, advice},
};
use crate::tls::{TlsError, read};

/// A broker that says nothing for about twice this has hung, and the connection is made anew.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The largest packet that is read, in bytes. The client library ends the connection at a larger one, so it is far
/// above what is understood (`codec::MAX_PAYLOAD`): one such message must not keep us from all bases.
const MAX_PACKET: usize = 256 * 1024 * 1024;

/// A user name or a password; empty where there is none.
#[derive(Clone)]
pub enum Secret {
    /// As it was given.
    Text(String),
    /// The first line of this file.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Secret {
    /// What it is now.
    fn now(&self) -> Result<String, MqttError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = String::from_utf8(read(path)?).map_err(|_| MqttError::NotText { path: path.clone() })?;
                // Editors end files with a line's end, `kubectl create secret` does not.
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
        }
    }
}

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User, where the broker wants one.
    pub username: Secret,
    /// Password.
    pub password: Secret,
    /// Client id of this replica, unique on the broker.
    pub client_id: String,
    /// Client id of the connection for commands, one for each environment: only one replica can have it.
    pub commands_id: String,
    /// TLS, if so.
    pub tls: Option<Tls>,
}

/// Why the broker can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// A certificate or key, or a file with a name or password, can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A name or password that is none.
    #[error("{path} is not text (UTF-8)")]
    NotText {
        /// Which file.
        path: PathBuf,
    },
}

impl MqttConfig {
    /// The client id for commands. Who leads without an election does not take others' away.
    pub(super) fn commands_id(&self, alone: bool) -> String {
        if alone { format!("{}-commands", self.client_id) } else { self.commands_id.clone() }
    }

    /// What to connect with, as the files are now.
    ///
    /// # Errors
    /// One of them can't be used.
    pub(super) fn options(&self) -> Result<MqttOptions, MqttError> {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(true);
        options.set_max_packet_size(MAX_PACKET, MAX_COMMAND + 64 * 1024);
        options.set_inflight(1000);
        let username = self.username.now()?;
        if !username.is_empty() {
            options.set_credentials(username, self.password.now()?);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config()?.into())));
        }
        Ok(options)
    }
}

/// A client of the library, which connects when it is polled.
pub(super) fn client(options: MqttOptions) -> (AsyncClient, EventLoop) {
    let (client, mut eventloop) = AsyncClient::new(options, 256);
    // Commands are small and urgent: with Nagle's algorithm each waits 40 ms for the one before.
    let mut network = eventloop.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(5);
    eventloop.set_network_options(network);
    (client, eventloop)
}

/// Waits for what the broker answers. Until then nothing else is looked at.
pub(super) async fn answer<T>(
    eventloop: &mut EventLoop,
    answer: impl Fn(Packet) -> Option<T>,
) -> Result<T, ConnectionError> {
    loop {
        if let rumqttc::Event::Incoming(packet) = eventloop.poll().await?
            && let Some(answer) = answer(packet)
        {
            return Ok(answer);
        }
    }
}

/// What it says of each subscription that was asked for.
pub(super) fn granted(packet: Packet) -> Option<Vec<SubscribeReasonCode>> {
    if let Packet::SubAck(ack) = packet { Some(ack.return_codes) } else { None }
}

/// That it takes the connection.
pub(super) fn connected(packet: Packet) -> Option<()> {
    matches!(packet, Packet::ConnAck(_)).then_some(())
}

/// An error in words, with what to do about it where the certificates are the reason.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            if let Some(advice) = advice(tls) {
                text = format!("{text}: {advice}");
            }
            break;
        }
        // An I/O error does not count what is in it among its sources.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
    }
    text
}
