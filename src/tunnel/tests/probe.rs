//! The look at a broker, at such as no real one on a test's machine is.

use std::time::Duration;

use tokio::net::TcpListener;

use super::{
    super::{
        Topics,
        probe::{Refusal, probe},
    },
    broker::{Broker, Rules},
    config,
};

#[tokio::test]
async fn a_broker_that_refuses_subscriptions_and_speaks_no_mqtt_5() {
    let broker = Broker::start(Rules { refuses: true, ..Rules::default() }).await.unwrap();
    let topics = Topics::new("dev");
    let seen = probe(&config(broker.port), &topics, Duration::ZERO).await;
    assert_eq!(seen.connected, Ok(()));
    assert_eq!(seen.not_heard, topics.needed());
    assert_eq!(seen.kept, None);
    assert!(seen.not_said.unwrap_err().contains("MQTT 5"));
    assert_eq!(broker.look(|seen| seen.published.len()), 0, "nothing is said to a broker that could not refuse it");
}

#[tokio::test]
async fn a_broker_that_grants_all_and_keeps_nothing() {
    let broker = Broker::start(Rules::default()).await.unwrap();
    let seen = probe(&config(broker.port), &Topics::new("dev"), Duration::ZERO).await;
    assert!(seen.not_heard.is_empty() && seen.kept.is_some_and(|kept| kept.is_empty()) && seen.heard.is_none());
}

#[tokio::test]
async fn what_is_no_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closes = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let seen = probe(&config(port), &Topics::new("dev"), Duration::ZERO).await;
    assert!(matches!(seen.connected, Err(Refusal::Odd(_))), "{seen:?}");
    closes.abort();
    let _ = closes.await;
    let seen = probe(&config(port), &Topics::new("dev"), Duration::ZERO).await;
    assert!(matches!(seen.connected, Err(Refusal::Unreachable(_))), "{seen:?}");
}
