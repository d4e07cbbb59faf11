//! Records messages, to see who said what and how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS, SubscribeReasonCode};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::BrokerAddress;
use crate::wait::eventually;

/// One message that went over the broker.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What was said.
    pub payload: Bytes,
    /// With which guarantee it reached the spy, who asks for at most 1.
    pub qos: QoS,
    /// Whether the broker had kept it from before.
    pub retained: bool,
    /// When it reached the spy.
    pub at: Instant,
}

impl Message {
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON, `Null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

/// Subscribes and records until it is dropped; comes back after an outage of the broker.
#[derive(Debug)]
pub struct Spy {
    client: AsyncClient,
    messages: Arc<Mutex<Vec<Message>>>,
    heard: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Spy {
    /// Subscribes to a filter (`#` for everything) with `QoS` 1, and returns when that is in force.
    pub async fn start(broker: &BrokerAddress, filter: &str) -> Result<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("spy-{}-{count}", std::process::id());
        let (client, mut events) = broker.connect(&id);
        let messages = Arc::<Mutex<Vec<Message>>>::default();
        let (hear, heard) = watch::channel(());
        let recorder = Recorder { messages: Arc::clone(&messages), hear };
        let subscribed = recorder.subscribe(&client, &mut events, filter);
        let subscribed = tokio::time::timeout(Duration::from_secs(10), subscribed).await;
        subscribed.context("the broker does not answer")??;
        let task = tokio::spawn(recorder.run(client.clone(), events, filter.to_owned(), broker.clone()));
        Ok(Self { client, messages, heard, task })
    }

    /// Says something itself, with `QoS` 1, not retained.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        Ok(self.client.publish(topic, QoS::AtLeastOnce, false, payload).await?)
    }

    /// The same, retained.
    pub async fn publish_retained(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        Ok(self.client.publish(topic, QoS::AtLeastOnce, true, payload).await?)
    }

    /// What was recorded so far.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.messages).clone()
    }

    /// How many of the recorded messages satisfy a condition.
    pub fn count(&self, condition: impl Fn(&Message) -> bool) -> usize {
        lock(&self.messages).iter().filter(|message| condition(message)).count()
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        lock(&self.messages).clear();
    }

    /// Waits until `condition`, given all that was recorded so far, yields something.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&[Message]) -> Option<T>,
    ) -> Result<T> {
        let mut heard = self.heard.clone();
        let found = async {
            loop {
                heard.mark_unchanged();
                if let Some(value) = condition(&lock(&self.messages)) {
                    return Ok(value);
                }
                heard.changed().await.context("the spy has ended")?;
            }
        };
        let Ok(found) = tokio::time::timeout(deadline, found).await else {
            let messages = lock(&self.messages);
            let topics = messages.iter().rev().take(10).map(|message| message.topic.as_str());
            let topics = topics.collect::<Vec<_>>().join(", ");
            bail!("{what}: not within {deadline:?}; {} messages, last: {topics}", messages.len());
        };
        found
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Recorder {
    messages: Arc<Mutex<Vec<Message>>>,
    hear: watch::Sender<()>,
}

impl Recorder {
    /// Polls until the subscription is acknowledged.
    async fn subscribe(&self, client: &AsyncClient, events: &mut EventLoop, filter: &str) -> Result<()> {
        loop {
            let event = events.poll().await?;
            match &event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    client.subscribe(filter, QoS::AtLeastOnce).await?;
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                        bail!("the broker refuses a subscription to {filter}");
                    }
                    return Ok(());
                }
                _ => self.record(event),
            }
        }
    }

    async fn run(self, client: AsyncClient, mut events: EventLoop, filter: String, broker: BrokerAddress) {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // Only fails when the event loop is gone, and we are it.
                    let _ = client.subscribe(filter.as_str(), QoS::AtLeastOnce).await;
                }
                Ok(event) => self.record(event),
                Err(error) => {
                    tracing::debug!(%error, "the spy lost the broker");
                    // Until somebody listens there again; the next poll connects.
                    let _ = eventually("the broker", Duration::from_mins(10), async || {
                        TcpStream::connect((broker.host.as_str(), broker.port)).await.is_ok()
                    })
                    .await;
                }
            }
        }
    }

    fn record(&self, event: Event) {
        let Event::Incoming(Packet::Publish(publish)) = event else {
            return;
        };
        lock(&self.messages).push(Message {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retained: publish.retain,
            at: Instant::now(),
        });
        self.hear.send_replace(());
    }
}

fn lock(messages: &Mutex<Vec<Message>>) -> MutexGuard<'_, Vec<Message>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}
