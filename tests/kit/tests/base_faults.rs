//! Faults and older generations of the simulated base, in times short enough for a test.

use std::time::Duration;

use anyhow::Result;
use modulet_testkit::base::{BaseOptions, BizState, Fleet, Generation, SimulatedBase};
use modulet_testkit::broker::{Message, Mosquitto, Spy};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

fn options(broker: &Mosquitto, id: &str) -> BaseOptions {
    let address = broker.address().clone();
    BaseOptions {
        username: address.username,
        password: address.password,
        heartbeat: Duration::from_millis(400),
        reconnect: Duration::from_millis(50),
        ..BaseOptions::new(id, address.port)
    }
}

fn install(name: &str, version: &str, file: &str) -> String {
    json!({"bizName": name, "bizVersion": version, "bizUrl": format!("http://modules/{file}")}).to_string()
}

/// Waits for the first message on a topic since the spy was cleared.
async fn answer(spy: &Spy, topic: &str) -> Result<Value> {
    let wanted = |message: &Message| (message.topic == topic).then(|| message.json());
    let limit = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(found) = spy.messages().iter().find_map(wanted) {
            return Ok(found);
        }
        anyhow::ensure!(tokio::time::Instant::now() < limit, "nothing on {topic}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_heartbeat_in_an_outage_is_the_last_one() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let base = SimulatedBase::start(options(&broker, "base-1")).await?;
    let spy = Spy::start(broker.address(), "#").await?;
    base.drop_connection_for(Duration::from_millis(900));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!base.connected());
    while !base.connected() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    spy.clear();
    spy.publish("koupleless_dev/base-1/queryAllBiz", "{}").await?;
    assert_eq!(answer(&spy, "koupleless_dev/base-1/base/simpleBiz").await?["data"], json!([]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(spy.count(|message| message.topic.ends_with("/base/heart")), 0);
    assert_eq!(base.counters().baseline_questions, 1, "a reconnect asks for no baseline");
    base.restart().await?;
    answer(&spy, "koupleless_dev/base-1/base/queryBaseline").await?;
    answer(&spy, "koupleless_dev/base-1/base/heart").await?;
    Ok(())
}

#[tokio::test]
async fn a_short_outage_leaves_the_heartbeat_alone() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let mut options = options(&broker, "base-1");
    options.heartbeat = Duration::from_secs(1);
    let base = SimulatedBase::start(options).await?;
    base.drop_connection();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(base.connected());
    assert!(base.counters().heartbeats >= 3, "{:?}", base.counters());
    Ok(())
}

#[tokio::test]
async fn an_answer_that_finds_no_connection_is_lost() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let base = SimulatedBase::start(options(&broker, "base-1")).await?;
    let spy = Spy::start(broker.address(), "#").await?;
    let slow = install("biz1", "0.0.1", "biz1-slow-300-0.0.1-ark-biz.jar");
    spy.publish("koupleless_dev/base-1/installBiz", slow).await?;
    base.wait_for_state("biz1", "0.0.1", Some(BizState::Resolved), LIMIT).await?;
    base.drop_connection_for(Duration::from_millis(600));
    base.wait_for_state("biz1", "0.0.1", Some(BizState::Activated), LIMIT).await?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(base.connected());
    assert_eq!(spy.count(|message| message.topic.ends_with("/base/bizOperation")), 0);
    Ok(())
}

#[tokio::test]
async fn replies_can_be_muted_doubled_and_held() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let base = SimulatedBase::start(options(&broker, "base-1")).await?;
    let spy = Spy::start(broker.address(), "#").await?;
    let lists = || spy.count(|message| message.topic.ends_with("/base/simpleBiz"));
    base.mute_next_reply(1);
    spy.publish("koupleless_dev/base-1/queryAllBiz", "{}").await?;
    base.wait_for_command("queryAllBiz", LIMIT).await?;
    base.duplicate_replies(true);
    spy.publish("koupleless_dev/base-1/queryAllBiz", "{}").await?;
    base.wait_for_commands("queryAllBiz", 2, LIMIT).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lists(), 2);
    base.duplicate_replies(false);
    base.hang();
    spy.publish("koupleless_dev/base-1/queryAllBiz", "{}").await?;
    base.wait_for_commands("queryAllBiz", 3, LIMIT).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lists(), 2);
    base.resume();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lists(), 3);
    base.kill();
    assert!(base.modules().is_empty() && !base.connected());
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_an_error() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let mut options = options(&broker, "base-1");
    options.password = "wrong".to_owned();
    assert!(SimulatedBase::start(options).await.is_err());
    Ok(())
}

/// Topics and data of what an older base says to an install of a good and of a broken module.
async fn story(generation: Generation) -> Result<Vec<String>> {
    let broker = Mosquitto::start().await?;
    let spy = Spy::start(broker.address(), "#").await?;
    let base = SimulatedBase::start(options(&broker, "base-1").of_generation(generation)).await?;
    let below = format!("koupleless_dev/{}/", base.identity());
    for (name, file) in [("biz1", "biz1-0.0.1-ark-biz.jar"), ("biz2", "broken.jar"), ("biz1", "biz1-0.0.1-ark-biz.jar")]
    {
        spy.publish(&format!("{below}installBiz"), install(name, "0.0.1", file)).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    spy.publish(&format!("{below}queryAllBiz"), "{}").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let said = spy.messages().into_iter().filter_map(|message| {
        let tail = message.topic.strip_prefix(&below)?.strip_prefix("base/")?.to_owned();
        let data = message.json()["data"].take();
        let name = data["bizName"].as_str().unwrap_or_default();
        let code = data["response"]["code"].as_str().unwrap_or_default();
        Some(format!("{tail} {name} {code}").trim_end().to_owned())
    });
    Ok(said.collect())
}

#[tokio::test]
async fn older_generations() -> Result<()> {
    assert_eq!(story(Generation::V2_1_5).await?, ["heart", "biz", "biz", "biz"]);
    assert_eq!(story(Generation::V2_1_6).await?, ["queryBaseline", "heart", "biz", "bizOperation  FAILED", "biz"]);
    assert_eq!(
        story(Generation::V2_1_7).await?,
        [
            "queryBaseline",
            "heart",
            "bizOperation biz1 SUCCESS",
            "simpleBiz",
            "bizOperation  FAILED",
            "bizOperation biz1 FAILED",
            "simpleBiz"
        ]
    );
    assert_eq!(
        story(Generation::V2_1_9).await?,
        [
            "queryBaseline",
            "heart",
            "bizOperation biz1 SUCCESS",
            "bizOperation biz2 FAILED",
            "bizOperation biz1 FAILED",
            "simpleBiz"
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_shares_one_connection() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let spy = Spy::start(broker.address(), "koupleless_dev/+/base/bizOperation").await?;
    let mut options = options(&broker, "many");
    options.heartbeat = Duration::from_secs(10);
    let fleet = Fleet::start(options, 500).await?;
    for identity in fleet.identities() {
        let topic = format!("koupleless_dev/{identity}/installBiz");
        spy.publish(&topic, install("biz1", "0.0.1", "biz1-0.0.1-ark-biz.jar")).await?;
    }
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while spy.count(|_| true) < 500 {
        anyhow::ensure!(tokio::time::Instant::now() < limit, "{} answers only", spy.count(|_| true));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fleet.count_in_state("biz1", "0.0.1", BizState::Activated), 500);
    fleet.kill(7);
    assert!(fleet.modules(7).is_empty());
    assert_eq!(fleet.received("installBiz"), 500);
    Ok(())
}
