//! Both brokers do what bases need, and outages can be made.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::time::Duration;

use futures::future::try_join_all;
use modulet_testkit::broker::{BrokerAddress, EmbeddedBroker, Mosquitto, Spy};
use modulet_testkit::ports::free_port;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};

const SECONDS: Duration = Duration::from_secs(10);

/// Connects, and then polls for ever in the background.
async fn connected(mut events: EventLoop) -> Result<tokio::task::JoinHandle<()>, String> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(tokio::spawn(async move { while events.poll().await.is_ok() {} }))
}

async fn does_what_bases_need(broker: &BrokerAddress) {
    let spy = Spy::start(broker, "#").await.unwrap();

    // Two hundred at once, of which each says something large.
    let clients = (0..200).map(|number| {
        let (client, events) = broker.connect(&format!("base-{number}"));
        async move { connected(events).await.map(|task| (number, client, task)) }
    });
    let clients = try_join_all(clients).await.unwrap();
    for (number, client, _) in &clients {
        let payload = vec![b'x'; 80_000];
        let topic = format!("koupleless/base-{number}/base/biz");
        client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }
    spy.wait_for("200 large messages", SECONDS, |messages| (messages.len() == 200).then_some(())).await.unwrap();
    assert_eq!(spy.count(|message| message.payload.len() == 80_000), 200);
    assert_eq!(spy.count(|message| message.qos == QoS::AtLeastOnce && !message.retained), 200);
    for (_, client, task) in clients {
        client.disconnect().await.unwrap();
        task.await.unwrap();
    }

    // A will, when the connection breaks.
    spy.clear();
    let mut options = MqttOptions::new("mortal", &broker.host, broker.port);
    options.set_credentials(&broker.username, &broker.password);
    options.set_last_will(LastWill::new("wills/mortal", "gone", QoS::AtLeastOnce, false));
    let (_client, events) = AsyncClient::new(options, 10);
    let task = connected(events).await.unwrap();
    task.abort();
    let will = spy.wait_for("the will", SECONDS, |messages| messages.first().cloned()).await.unwrap();
    assert_eq!((will.topic.as_str(), will.text().as_str()), ("wills/mortal", "gone"));

    // Nobody without the password.
    let stranger = BrokerAddress { password: "guessed".to_owned(), ..broker.clone() };
    Spy::start(&stranger, "#").await.unwrap_err();
}

#[tokio::test]
async fn mosquitto_does_what_bases_need() {
    let broker = Mosquitto::start().await.unwrap();
    does_what_bases_need(broker.address()).await;
}

#[tokio::test]
async fn the_embedded_broker_does_what_bases_need() {
    let broker = EmbeddedBroker::start(free_port().unwrap()).await.unwrap();
    does_what_bases_need(broker.address()).await;
}

#[tokio::test]
async fn mosquitto_comes_back_on_its_port_and_the_spy_with_it() {
    let broker = Mosquitto::start().await.unwrap();
    let spy = Spy::start(broker.address(), "a/#").await.unwrap();
    spy.publish("a/before", "1").await.unwrap();
    spy.wait_for("the first", SECONDS, |messages| messages.first().cloned()).await.unwrap();

    broker.stop().await.unwrap();
    Spy::start(broker.address(), "#").await.unwrap_err();
    broker.start_again().await.unwrap();

    // The spy comes back by itself; what is said before that, it cannot hear.
    let other = Spy::start(broker.address(), "b/#").await.unwrap();
    modulet_testkit::wait::eventually("the spy to hear again", SECONDS, async || {
        other.publish("a/after", "2").await.unwrap();
        spy.messages().into_iter().find(|message| message.topic == "a/after")
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = EmbeddedBroker::start(port).await.unwrap_err().to_string();
    assert_eq!(error, format!("port {port} of 127.0.0.1 is taken by another program"));
}

/// Everything that waits can be waited for in a spawned task.
#[test]
fn futures_can_be_spawned() {
    fn spawnable<T: Send>(_: &T) {}
    spawnable(&Mosquitto::start());
    spawnable(&EmbeddedBroker::start(1));
    spawnable(&modulet_testkit::control_plane::ControlPlane::shared());
}
