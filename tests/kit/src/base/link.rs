//! A base's connection to the broker, with the reconnecting habits of the recorded client.

use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::options::BaseOptions;

/// Payloads of install answers are 10 kB and more; nothing here should ever hit a limit.
const PACKET_LIMIT: usize = 16 * 1024 * 1024;

/// What happens on a connection.
pub(super) enum LinkEvent {
    /// The broker has accepted us; subscriptions are to be made anew.
    Connected(AsyncClient),
    /// One subscription is in force.
    Subscribed,
    Message {
        topic: String,
        payload: Vec<u8>,
    },
    Down(String),
}

/// A running connection; dropping it cuts the TCP connection without a DISCONNECT.
#[derive(Debug)]
pub(super) struct Link {
    task: JoinHandle<()>,
    cut: watch::Sender<Option<Instant>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Starts connecting; events carry `epoch`, so that those of an earlier link can be told.
    pub(super) fn start(
        options: &BaseOptions,
        client_id: String,
        epoch: u64,
        events: mpsc::UnboundedSender<(u64, LinkEvent)>,
    ) -> Self {
        let (cut, cuts) = watch::channel(None);
        let settings = settings(options, client_id);
        let runner = Runner { settings, first_wait: options.reconnect, epoch, events, cuts };
        Self { task: tokio::spawn(runner.run()), cut }
    }

    /// Cuts the connection and lets none come up for that long.
    pub(super) fn cut(&self, time: Duration) {
        self.cut.send_replace(Some(Instant::now() + time));
    }
}

fn settings(options: &BaseOptions, client_id: String) -> MqttOptions {
    let mut settings = MqttOptions::new(client_id, options.host.clone(), options.port);
    settings.set_keep_alive(Duration::from_mins(1));
    settings.set_clean_session(true);
    settings.set_max_packet_size(PACKET_LIMIT, PACKET_LIMIT);
    settings.set_inflight(1000);
    if !options.username.is_empty() {
        settings.set_credentials(options.username.clone(), options.password.clone());
    }
    settings
}

struct Runner {
    settings: MqttOptions,
    first_wait: Duration,
    epoch: u64,
    events: mpsc::UnboundedSender<(u64, LinkEvent)>,
    cuts: watch::Receiver<Option<Instant>>,
}

impl Runner {
    async fn run(mut self) {
        let mut wait = self.first_wait;
        loop {
            let cut = self.cuts.borrow_and_update().is_some_and(|until| until > Instant::now());
            let reason = if cut {
                "cut".to_owned()
            } else {
                // A new client for each connection: nothing may be carried over from the lost one.
                let (client, mut event_loop) = AsyncClient::new(self.settings.clone(), 1024);
                let mut network = NetworkOptions::new();
                network.set_tcp_nodelay(true);
                event_loop.set_network_options(network);
                self.serve(client, event_loop, &mut wait).await
            };
            if self.events.send((self.epoch, LinkEvent::Down(reason))).is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.first_wait * 128);
        }
    }

    /// Polls one connection to its end; only forwards, since a publish from here would dead-lock.
    async fn serve(&mut self, client: AsyncClient, mut event_loop: EventLoop, wait: &mut Duration) -> String {
        loop {
            let polled = tokio::select! {
                polled = event_loop.poll() => polled,
                _ = self.cuts.changed() => return "cut".to_owned(),
            };
            let event = match polled {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    *wait = self.first_wait;
                    LinkEvent::Connected(client.clone())
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => LinkEvent::Subscribed,
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    LinkEvent::Message { topic: message.topic, payload: message.payload.to_vec() }
                }
                Ok(_) => continue,
                Err(error) => return describe(&error),
            };
            if self.events.send((self.epoch, event)).is_err() {
                return "closed".to_owned();
            }
        }
    }
}

fn describe(error: &ConnectionError) -> String {
    format!("no connection to the broker: {error}")
}
