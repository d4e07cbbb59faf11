//! A look at the broker that leaves it as it was: whether modulet could log in, hear bases and be heard by them.
//!
//! Traps that shape it: Mosquitto's access list grants every subscription and then keeps the messages back, so only a
//! message proves that one hears; and before MQTT 5 a publish that is refused is acknowledged like any other, so what
//! may be published is asked over a second connection that speaks it.

use std::{collections::BTreeSet, time::Duration};

use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Packet, QoS, SubscribeFilter, v5};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Topics,
    broker::{MqttConfig, answer, connected},
};
use crate::domain::printable;

/// Reaching the broker, logging in, subscribing, publishing: each takes no longer.
const STEP: Duration = Duration::from_secs(10);
/// What a broker has kept comes at once after the subscription; this long nothing: there is no more.
const KEPT_WITHIN: Duration = Duration::from_secs(1);
/// And no longer than this, however much it is.
const KEPT_AT_MOST: Duration = Duration::from_secs(5);
/// A goodbye is on its way by then, whether the broker answers it or not.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);
/// Kept commands that are counted.
const KEPT_MAX: usize = 10_000;
/// Characters of what a broker or its certificate says.
const TEXT_MAX: usize = 300;

/// What was seen of a broker.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Host and port.
    pub broker: String,
    /// Over TLS.
    pub tls: bool,
    /// Logged in; or why not.
    pub connected: Result<(), Refusal>,
    /// Filters whose subscription the broker refuses.
    pub not_heard: Vec<String>,
    /// Topics that the broker does not let be published to; none: it can't be told, for this reason.
    pub not_said: Result<Vec<String>, String>,
    /// A base of the environment that was heard.
    pub heard: Option<String>,
    /// Environments of bases that were heard, if none of ours was.
    pub others: BTreeSet<String>,
    /// Topics at which the broker keeps a command for bases that connect; none: the broker refuses to show them.
    pub kept: Option<BTreeSet<String>>,
}

/// What ended it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A file of the TLS configuration.
    #[error("{0}")]
    File(String),
    /// No connection at all.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No TLS between us.
    #[error("no TLS handshake: {0}")]
    Tls(String),
    /// User, password or client id.
    #[error("refuses the login: {0}")]
    Login(String),
    /// It answers, but not as a broker.
    #[error("accepts the connection and does not answer as an MQTT broker: {0}")]
    Odd(String),
}

/// Looks at the broker. `listens`: how long to wait for a base to be heard.
pub async fn probe(config: &MqttConfig, topics: &Topics, listens: Duration) -> Probe {
    let mut seen = Probe {
        broker: format!("{}:{}", config.host, config.port),
        tls: config.tls.is_some(),
        connected: Ok(()),
        not_heard: Vec::new(),
        not_said: Err("there is no connection".to_owned()),
        heard: None,
        others: BTreeSet::new(),
        kept: None,
    };
    if let Err(refusal) = hear(config, topics, listens, &mut seen).await {
        seen.connected = Err(refusal);
        return seen;
    }
    seen.not_said = match timeout(STEP, say(config, topics)).await {
        Ok(said) => said,
        Err(_) => Err(format!("no answer over MQTT 5 within {STEP:?}")),
    };
    seen
}

async fn hear(config: &MqttConfig, topics: &Topics, listens: Duration, seen: &mut Probe) -> Result<(), Refusal> {
    let options = config.options().map_err(|error| Refusal::File(error.to_string()))?;
    let unreachable = |why: &dyn std::fmt::Display| Refusal::Unreachable(text(why));
    let reached = timeout(STEP, TcpStream::connect((config.host.as_str(), config.port))).await;
    drop(reached.map_err(|_| unreachable(&format!("no answer within {STEP:?}")))?.map_err(|e| unreachable(&e))?);

    let (client, mut eventloop) = AsyncClient::new(options, 16);
    timeout(STEP, answer(&mut eventloop, connected))
        .await
        .map_err(|_| Refusal::Odd(format!("no answer within {STEP:?}")))?
        .map_err(|error| refusal(error, seen.tls))?;

    let needed = topics.needed();
    let granted = subscribe(&client, &mut eventloop, needed.clone(), topics, seen).await?;
    seen.not_heard =
        needed.into_iter().zip(granted).filter(|(_, granted)| !granted).map(|(filter, _)| filter).collect();
    seen.kept = Some(BTreeSet::new());
    let granted = subscribe(&client, &mut eventloop, topics.commands_to("+"), topics, seen).await?;
    if granted.contains(&false) {
        seen.kept = None;
    }
    let (until, mut quiet) = (Instant::now() + KEPT_AT_MOST, Instant::now() + KEPT_WITHIN);
    while let Ok(event) = timeout_at(quiet.min(until), eventloop.poll()).await {
        let event = event.map_err(|error| refusal(error, seen.tls))?;
        if note(&event, topics, seen) {
            quiet = Instant::now() + KEPT_WITHIN;
        }
    }
    // Bases of other environments, should none of ours speak. It is no fault where that is refused.
    let _ = subscribe(&client, &mut eventloop, vec!["+/+/base/heart".to_owned()], topics, seen).await?;
    let until = Instant::now() + listens;
    while seen.heard.is_none() {
        match timeout_at(until, eventloop.poll()).await {
            Ok(Ok(event)) => drop(note(&event, topics, seen)),
            Ok(Err(error)) => return Err(refusal(error, seen.tls)),
            Err(_) => break,
        }
    }
    let _ = client.try_disconnect();
    let _ = timeout(LEAVES_WITHIN, async { while eventloop.poll().await.is_ok() {} }).await;
    Ok(())
}

/// Returns for each filter whether it was granted.
async fn subscribe(
    client: &AsyncClient,
    eventloop: &mut EventLoop,
    filters: Vec<String>,
    topics: &Topics,
    seen: &mut Probe,
) -> Result<Vec<bool>, Refusal> {
    let asked = filters.into_iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
    client.try_subscribe_many(asked).map_err(|error| Refusal::Odd(text(&error)))?;
    let until = Instant::now() + STEP;
    loop {
        match timeout_at(until, eventloop.poll()).await {
            Ok(Ok(rumqttc::Event::Incoming(Packet::SubAck(ack)))) => {
                let granted = |code: &_| *code != rumqttc::SubscribeReasonCode::Failure;
                return Ok(ack.return_codes.iter().map(granted).collect());
            }
            Ok(Ok(event)) => drop(note(&event, topics, seen)),
            Ok(Err(error)) => return Err(refusal(error, seen.tls)),
            Err(_) => return Err(Refusal::Odd(format!("no answer to a subscription within {STEP:?}"))),
        }
    }
}

/// What a message tells. Returns whether it is one that the broker has kept.
fn note(event: &rumqttc::Event, topics: &Topics, seen: &mut Probe) -> bool {
    let rumqttc::Event::Incoming(Packet::Publish(message)) = event else { return false };
    if message.retain {
        let command = topics.parse(&message.topic).is_none() && !message.topic.ends_with("/base/heart");
        if let Some(kept) = seen.kept.as_mut().filter(|kept| command && kept.len() < KEPT_MAX) {
            kept.insert(text(&message.topic));
        }
        return true;
    }
    match topics.parse(&message.topic) {
        Some((identity, _)) => seen.heard = Some(text(&identity)),
        None => {
            let env = message.topic.strip_prefix("koupleless_").and_then(|rest| rest.split('/').next());
            if let Some(env) = env.filter(|_| message.topic.ends_with("/base/heart") && seen.others.len() < 20) {
                seen.others.insert(text(&env));
            }
        }
    }
    false
}

/// Publishes an empty command of each kind to a base that is not there, and returns the topics that are refused.
async fn say(config: &MqttConfig, topics: &Topics) -> Result<Vec<String>, String> {
    let plain = config.options().map_err(|error| error.to_string())?;
    let mut options = v5::MqttOptions::new(format!("{}-5", plain.client_id()), &config.host, config.port);
    options.set_transport(plain.transport());
    options.set_keep_alive(Duration::from_secs(10));
    if let Some(login) = plain.credentials() {
        options.set_credentials(login.username, login.password);
    }
    let (client, mut eventloop) = v5::AsyncClient::new(options, 16);
    let asked = topics.commands_to(&format!("modulet-check-{}", std::process::id()));
    for topic in &asked {
        // Not retained, and nobody listens there.
        let publish = client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, "{}");
        publish.map_err(|error| text(&error))?;
    }
    let mut refused = Vec::new();
    // Packet ids go up from 1 in the order of publishing (client library).
    let mut waiting: BTreeSet<_> = (1..=asked.len()).collect();
    while !waiting.is_empty() {
        let event = eventloop.poll().await.map_err(|error| format!("it does not speak MQTT 5 ({})", text(&error)))?;
        if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::PubAck(ack)) = event {
            let number = usize::from(ack.pkid);
            waiting.remove(&number);
            if ack.reason == v5::mqttbytes::v5::PubAckReason::NotAuthorized {
                refused.extend(number.checked_sub(1).and_then(|index| asked.get(index)).cloned());
            }
        }
    }
    let _ = client.try_disconnect();
    let _ = timeout(LEAVES_WITHIN, async { while eventloop.poll().await.is_ok() {} }).await;
    Ok(refused)
}

fn refusal(error: ConnectionError, tls: bool) -> Refusal {
    match error {
        ConnectionError::Tls(error) => Refusal::Tls(text(&error)),
        ConnectionError::Io(error) if tls => Refusal::Tls(text(&error)),
        ConnectionError::ConnectionRefused(code) => Refusal::Login(match code {
            ConnectReturnCode::BadUserNamePassword => "user name or password is wrong".to_owned(),
            ConnectReturnCode::NotAuthorized => {
                "not authorized: user name or password is wrong, or has no right to connect".to_owned()
            }
            ConnectReturnCode::BadClientId => "it does not take the client id".to_owned(),
            other => format!("{other:?}"),
        }),
        // With TLS 1.3 a client certificate that is missing or refused shows in what is read first.
        other if tls && other.to_string().contains("received fatal alert") => Refusal::Tls(text(&other)),
        other => Refusal::Odd(text(&other)),
    }
}

fn text(said: &dyn std::fmt::Display) -> String {
    printable(&said.to_string(), TEXT_MAX).into_owned()
}
