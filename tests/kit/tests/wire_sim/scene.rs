//! An observer and sender at the broker, for one scenario.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use modulet_testkit::base::BaseOptions;
use modulet_testkit::broker::BrokerAddress;
use rumqttc::{AsyncClient, Event, Packet, QoS};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::normal::normal;
use super::recording::Line;

/// How many times faster than recorded the scenarios are played.
pub(crate) const SPEED: u32 = 8;

type Inbox = Arc<Mutex<Vec<(String, Value)>>>;

/// One scenario at the broker.
pub(crate) struct Scene {
    client: AsyncClient,
    task: JoinHandle<()>,
    inbox: Inbox,
    prefix: String,
    recorded_identity: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scene {
    /// Subscribes to everything of the scenario's environment.
    pub(crate) async fn open(broker: &BrokerAddress, name: &str, options: &BaseOptions) -> Result<Self> {
        let (client, mut event_loop) = broker.connect(&format!("scene-{name}"));
        let inbox = Inbox::default();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let recorded_identity = if options.id == "+" { "base-1".to_owned() } else { options.id.clone() };
        let below = format!("koupleless_{}/{}/", options.env_in_topics(), options.id);
        let (keep, to) = (below, Arc::clone(&inbox));
        let task = tokio::spawn(async move {
            while let Ok(event) = event_loop.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        let _ = ready.take().map(|ready| ready.send(()));
                    }
                    Event::Incoming(Packet::Publish(message)) => {
                        let Some(tail) = message.topic.strip_prefix(&keep) else {
                            continue;
                        };
                        if tail.starts_with("base/") && tail != "base/baseline" {
                            let payload = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
                            let mut inbox = to.lock().unwrap_or_else(PoisonError::into_inner);
                            inbox.push((tail.to_owned(), normal(tail, &payload)));
                        }
                    }
                    _ => {}
                }
            }
        });
        client.subscribe(format!("koupleless_{}/#", options.env_in_topics()), QoS::ExactlyOnce).await?;
        is_ready.await.context("the observer could not subscribe")?;
        let prefix = format!("koupleless_{}/", options.env_in_topics());
        Ok(Self { client, task, inbox, prefix, recorded_identity })
    }

    fn answers(&self) -> Vec<(String, Value)> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.retain(|(tail, _)| tail != "base/heart");
        inbox.clone()
    }

    /// Sends what was sent to the real base; all answers before must have been expected ones.
    pub(crate) async fn send(&self, line: &Line) -> Result<()> {
        let early = self.answers();
        if !early.is_empty() {
            bail!("before {:?} came, unlike the recording: {}", line.step, tell(&early));
        }
        let (_, rest) = line.topic.split_once('/').context("topic")?;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(line.qos)];
        self.client.publish(format!("{}{rest}", self.prefix), qos, line.retain, faster(line)).await?;
        Ok(())
    }

    /// Waits for the answer that the real base gave.
    pub(crate) async fn expect(&mut self, line: &Line) -> Result<()> {
        let (_, rest) = line.topic.split_once('/').context("topic")?;
        let tail = rest.strip_prefix(&format!("{}/", self.recorded_identity)).context("identity")?;
        if tail == "base/heart" && line.t_ms > 7000 {
            return Ok(());
        }
        let wanted = (tail.to_owned(), normal(tail, &line.payload));
        // With six installs and five workers it is left to chance whether a waiting question is
        // answered before the others' ends and the sixth's beginning: only that it is answered counts.
        // The same goes for two retained commands that come at once.
        let loose = line.step.ends_with("while five installs run") && self.prefix.contains("six-slow")
            || line.step.starts_with("retained query");
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = inbox.iter().position(|message| *message == wanted || loose && message.0 == wanted.0)
                {
                    inbox.remove(at);
                    return Ok(());
                }
                if tokio::time::Instant::now() > limit {
                    bail!("{:?}: no such answer:\n{}but{}", line.step, tell(&[wanted]), tell(&inbox));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing but heartbeats may come after the last recorded message.
    pub(crate) async fn close(&mut self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let more = self.answers();
        if !more.is_empty() {
            bail!("more than recorded: {}", tell(&more));
        }
        Ok(())
    }
}

/// The payload, with sleeping times of modules shortened.
fn faster(line: &Line) -> Vec<u8> {
    let bytes = line.bytes();
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return bytes;
    };
    let Some((before, after)) = text.split_once("--sleep=") else {
        return bytes;
    };
    let digits = after.find(|mark: char| !mark.is_ascii_digit()).unwrap_or(after.len());
    let Ok(ms) = after[..digits].parse::<u32>() else {
        return bytes;
    };
    let rest = &after[digits..];
    // A baseline of two slow modules says so twice.
    let rest = rest.replace(&format!("--sleep={ms}"), &format!("--sleep={}", ms / SPEED));
    format!("{before}--sleep={}{rest}", ms / SPEED).into_bytes()
}

fn tell(messages: &[(String, Value)]) -> String {
    let mut text = String::new();
    for (tail, payload) in messages {
        text.push_str("\n  ");
        text.push_str(tail);
        text.push(' ');
        text.push_str(&payload.to_string());
    }
    text
}
