//! Where nobody of our environment is heard: who beats in others?
//!
//! A stock base says `default`, modulet has `dev`, and then nothing appears anywhere, and nobody knows why. So it is
//! looked for a moment, over a connection of its own: what a broker does to one who asks for what it may not have, and
//! whatever comes, is not ours to suffer. Nothing of it reaches the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rumqttc::{MqttOptions, Packet, QoS, SubscribeReasonCode};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use super::{
    Topics,
    broker::{answer, client, granted},
    traffic::Books,
};
use crate::{
    domain::{Backoff, printable},
    metrics::Metrics,
};

/// Nobody is heard for so long before it is looked.
const SILENCE: Duration = Duration::from_secs(30);
/// Each look takes so long: a base beats every 10 s.
const LISTENS: Duration = Duration::from_secs(12);
/// Between looks.
const AGAIN: Backoff = Backoff { initial: Duration::from_secs(300), max: Duration::from_secs(3600) };
/// Connecting and subscribing take no longer.
const SUBSCRIBES_WITHIN: Duration = Duration::from_secs(10);
/// All heartbeats there are.
const FILTER: &str = "+/+/base/heart";
/// A larger packet ends the look.
const PACKET_MAX: usize = 64 * 1024;
/// More messages end it, too.
const MESSAGES_MAX: usize = 2000;
/// Environments that are told.
const ENVIRONMENTS_MAX: usize = 8;
/// Bases of one that are counted.
const BASES_MAX: usize = 1000;
/// Characters of an environment's name, or of an identity.
const NAME_MAX: usize = 100;

/// What is remembered of looks, over connections.
#[derive(Debug, Default)]
pub(super) struct Looks {
    count: u32,
    said: Option<String>,
}

/// Looks for others.
pub(super) struct Elsewhere<'t> {
    pub(super) topics: &'t Topics,
    pub(super) metrics: &'t Metrics,
    pub(super) books: &'t Books,
    /// How our own connection is made.
    pub(super) options: MqttOptions,
    pub(super) looks: &'t mut Looks,
}

impl Elsewhere<'_> {
    /// Until somebody of our own environment is heard.
    pub(super) async fn look(self) {
        let mut pause = SILENCE;
        loop {
            sleep(pause).await;
            let mut found = Found::default();
            let listened = if self.books.heard() { Ok(()) } else { self.listen(&mut found).await };
            if self.books.heard() {
                self.metrics.environments_elsewhere.set(0);
                return;
            }
            self.metrics.environments_elsewhere.set(i64::try_from(found.0.len()).unwrap_or(i64::MAX));
            self.looks.count = self.looks.count.saturating_add(1);
            let text = found.text(listened.err());
            if self.looks.said.as_ref() != Some(&text) {
                let environment = self.topics.env();
                warn!(
                    environment,
                    others = text,
                    "no base of this environment is heard: is ENV the one the bases have?"
                );
                self.looks.said = Some(text);
            }
            pause = AGAIN.delay(self.looks.count);
        }
    }

    /// Connects, listens, and goes, which ends the subscription.
    pub(super) async fn listen(&self, found: &mut Found) -> Result<(), String> {
        let mut options = self.options.clone();
        options.set_client_id(format!("{}-elsewhere", options.client_id()));
        options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
        let (client, mut eventloop) = client(options);
        client.try_subscribe(FILTER, QoS::AtMostOnce).map_err(|error| error.to_string())?;
        let granted = timeout(SUBSCRIBES_WITHIN, answer(&mut eventloop, granted)).await;
        let granted = granted.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        if granted.contains(&SubscribeReasonCode::Failure) {
            return Err(format!("the broker refuses the subscription to {FILTER}"));
        }
        let until = Instant::now() + LISTENS;
        for _ in 0..MESSAGES_MAX {
            match timeout_at(until, eventloop.poll()).await {
                Ok(Ok(rumqttc::Event::Incoming(Packet::Publish(message)))) if !message.retain => {
                    found.note(&message.topic);
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        if client.try_disconnect().is_ok() {
            let _ = timeout(LISTENS, eventloop.poll()).await;
        }
        Ok(())
    }
}

/// Environments, and the identities of their bases.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<String, BTreeSet<String>>);

impl Found {
    fn note(&mut self, topic: &str) {
        let mut levels = topic.split('/');
        let (Some(root), Some(identity)) = (levels.next(), levels.next()) else { return };
        let Some(environment) = root.strip_prefix("koupleless_") else { return };
        let environment = printable(environment, NAME_MAX);
        if !self.0.contains_key(&*environment) && self.0.len() >= ENVIRONMENTS_MAX {
            return;
        }
        let bases = self.0.entry(environment.into_owned()).or_default();
        if bases.len() < BASES_MAX {
            bases.insert(identity.chars().take(NAME_MAX).collect());
        }
    }

    /// For people.
    pub(super) fn text(&self, failure: Option<String>) -> String {
        let each = self.0.iter().map(|(environment, bases)| match bases.len() {
            1 => format!("{environment} (1 base)"),
            BASES_MAX => format!("{environment} ({BASES_MAX} bases or more)"),
            count => format!("{environment} ({count} bases)"),
        });
        let text = each.collect::<Vec<_>>().join(", ");
        match failure {
            Some(why) => format!("not known: {why}"),
            None if text.is_empty() => "none is heard either".to_owned(),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_and_their_bases_are_counted() {
        let mut found = Found::default();
        assert_eq!(found.text(None), "none is heard either");
        assert_eq!(found.text(Some("refused".to_owned())), "not known: refused");
        for topic in [
            "koupleless_default/base-1/base/heart",
            "koupleless_default/base-2/base/heart",
            "koupleless_default/base-1/base/heart",
            "koupleless_test/base-1/base/heart",
            "other/base-1/base/heart",
            "koupleless_",
            "",
        ] {
            found.note(topic);
        }
        assert_eq!(found.text(None), "default (2 bases), test (1 base)");
    }

    #[test]
    fn however_many_there_are_little_is_kept_and_nothing_acts_on_a_terminal() {
        let mut found = Found::default();
        let long = "x".repeat(10_000);
        for number in 0..100_000 {
            found.note(&format!("koupleless_\u{1b}[2J{}{long}/{number}{long}/base/heart", number % 100));
        }
        let text = found.text(None);
        assert!(text.len() < 4096 && !text.chars().any(char::is_control), "{text}");
        assert_eq!(found.0.len(), ENVIRONMENTS_MAX);
        assert!(found.0.values().all(|bases| bases.len() <= BASES_MAX));
        assert!(found.0.values().flatten().all(|identity| identity.len() <= NAME_MAX));
    }
}
