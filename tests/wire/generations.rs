//! Bases of all generations are understood, though the older ones say less and say it otherwise.

use std::time::Duration;

use anyhow::{Result, bail};
use modulet::tunnel::Topics;
use modulet_testkit::{
    base::{BaseOptions, Generation, SimulatedBase},
    broker::{Message, Mosquitto, Spy},
    schema,
};
use serde_json::json;

use crate::recording::{describe, receive};

const SOON: Duration = Duration::from_secs(10);

/// Everything that a base of a generation says, in its order, while it starts and does what it is told.
async fn conversation(broker: &Mosquitto, generation: Generation) -> Result<Vec<String>> {
    let spy = Spy::start(broker.address(), "koupleless_dev/#").await?;
    let options = BaseOptions {
        username: broker.address().username.clone(),
        password: broker.address().password.clone(),
        workers: 1,
        metaspace: 268_435_456,
        ..BaseOptions::new("base-1", broker.address().port)
    };
    let base = SimulatedBase::start(options.of_generation(generation)).await?;
    let id = base.identity();
    let element = |name: &str, version: &str| {
        json!({
            "bizName": name, "bizVersion": version,
            "bizUrl": format!("http://modules.example.com/{name}-{version}-ark-biz.jar"),
        })
    };
    let commands = [
        ("queryAllBiz", json!({})),
        ("installBiz", element("biz1", "0.0.1")),
        ("installBiz", element("biz1", "0.0.1")),
        ("installBiz", element("biz1", "0.0.2")),
        ("installBiz", element("bizbroken", "0.0.1")),
        ("installBiz", element("missing", "0.0.1")),
        ("uninstallBiz", json!({ "bizName": "biz1", "bizVersion": "0.0.1" })),
        ("uninstallBiz", json!({ "bizName": "nope", "bizVersion": "0.0.1" })),
        ("base/baseline", json!([element("biz2", "0.0.1")])),
        ("queryAllBiz", json!({})),
    ];
    for (round, (command, payload)) in commands.iter().enumerate() {
        spy.publish(&format!("koupleless_dev/{id}/{command}"), payload.to_string()).await?;
        // With one worker everything said to the command is said before this is answered.
        spy.publish(&format!("koupleless_dev/{id}/health"), "{}").await?;
        let answered = |all: &[Message]| {
            let healths = all.iter().filter(|m| m.topic.ends_with("/base/health")).count();
            (healths > round).then_some(())
        };
        spy.wait_for(command, SOON, answered).await?;
    }

    let topics = Topics::new("dev");
    let mut said = Vec::new();
    for message in spy.messages() {
        if let Err(fault) = schema::validate(&message.topic, &message.payload) {
            bail!("{generation:?}: {fault}");
        }
        if schema::is_from_base(&message.topic) == Some(true) && !message.topic.ends_with("/base/health") {
            match receive(&topics, &message.topic, &message.payload) {
                Ok(message) => said.push(describe(&message)),
                Err(refusal) => bail!("{generation:?}, {}: {refusal}", message.topic),
            }
        }
    }
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bases_of_every_generation_say_is_understood() -> Result<()> {
    let broker = Mosquitto::start().await?;
    let fails = "failed: java.lang.IllegalStateException: broken on purpose";
    let missing = "failed: java.io.FileNotFoundException: http://modules.example.com/missing-0.0.1-ark-biz.jar";
    let inactive = "biz1:0.0.2 deactivated (start but is deactivated)";

    // Nothing but lists: what was refused, failed or was no command it knows leaves no other trace.
    assert_eq!(
        conversation(&broker, Generation::V2_1_5).await?,
        [
            "heart testbase 1.0.0 - 192.0.2.10 base-host",
            "[]",
            "[biz1:0.0.1 activated]",
            "[biz1:0.0.1 activated]",
            &format!("[biz1:0.0.1 activated, {inactive}]"),
            &format!("[{inactive}]"),
            &format!("[{inactive}]"),
            &format!("[{inactive}]"),
        ]
    );
    // Lists, and refusals that do not say of what.
    assert_eq!(
        conversation(&broker, Generation::V2_1_6).await?,
        [
            "baseline? testbase 1.0.0 -",
            "heart testbase 1.0.0 - 192.0.2.10 base-host",
            "[]",
            "[biz1:0.0.1 activated]",
            "installBiz - repeat",
            &format!("[biz1:0.0.1 activated, {inactive}]"),
            &format!("[{inactive}]"),
            "uninstallBiz - notfound",
            &format!("[{inactive}]"),
        ]
    );
    // A reply and a list after each success.
    assert_eq!(
        conversation(&broker, Generation::V2_1_7).await?,
        [
            "baseline? testbase 1.0.0 -",
            "heart testbase 1.0.0 - 192.0.2.10 base-host",
            "[]",
            "installBiz biz1:0.0.1 done: it is biz1:0.0.1",
            "[biz1:0.0.1 activated]",
            "installBiz biz1:0.0.1 repeat",
            "installBiz biz1:0.0.2 done: it is biz1:0.0.2",
            &format!("[biz1:0.0.1 activated, {inactive}]"),
            &format!("installBiz - {fails}"),
            &format!("installBiz - {missing}"),
            "uninstallBiz biz1:0.0.1 done",
            &format!("[{inactive}]"),
            "uninstallBiz nope:0.0.1 notfound",
            &format!("[{inactive}, biz2:0.0.1 activated]"),
            &format!("[{inactive}, biz2:0.0.1 activated]"),
        ]
    );
    for (generation, baseline) in [(Generation::V2_1_9, None), (Generation::V2_1_11, Some("baseline - done"))] {
        let mut expected = vec![
            "baseline? testbase 1.0.0 default".to_owned(),
            "heart testbase 1.0.0 default 192.0.2.10 base-host".to_owned(),
            "[]".to_owned(),
            "installBiz biz1:0.0.1 done: it is biz1:0.0.1".to_owned(),
            "installBiz biz1:0.0.1 repeat".to_owned(),
            "installBiz biz1:0.0.2 done: it is biz1:0.0.2".to_owned(),
            format!("installBiz bizbroken:0.0.1 {fails}"),
            format!("installBiz missing:0.0.1 {missing}"),
            "uninstallBiz biz1:0.0.1 done".to_owned(),
            "uninstallBiz nope:0.0.1 notfound".to_owned(),
        ];
        expected.extend(baseline.map(str::to_owned));
        expected.push(format!("[{inactive}, biz2:0.0.1 activated]"));
        assert_eq!(conversation(&broker, generation).await?, expected, "{generation:?}");
    }
    Ok(())
}
