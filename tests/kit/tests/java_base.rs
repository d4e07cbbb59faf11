//! The Java base against what real bases were recorded to say and do, and where it does better.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::broker::{Mosquitto, Spy};
use modulet_testkit::java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url};
use modulet_testkit::wait::eventually;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

const SOON: Duration = Duration::from_secs(20);
/// Two JVMs at a time: more of them would only wait for each other.
static JVMS: Semaphore = Semaphore::const_new(2);

/// A broker, and an observer of all that bases say.
struct Setting {
    spy: Spy,
    broker: Mosquitto,
    _permit: SemaphorePermit<'static>,
}

impl Setting {
    async fn new() -> Result<Self> {
        let permit = JVMS.acquire().await?;
        ensure_built(|line| eprintln!("{line}")).await?;
        let broker = Mosquitto::start().await?;
        Ok(Self { spy: Spy::start(broker.address(), "koupleless_dev/+/base/+").await?, broker, _permit: permit })
    }

    fn options(&self) -> JavaBaseOptions {
        JavaBaseOptions::new(self.broker.address(), "base-1")
    }

    fn mark(&self) -> usize {
        self.spy.messages().len()
    }

    /// All data the base sent under `kind` since `mark`.
    fn since(&self, mark: usize, kind: &str) -> Vec<Value> {
        let topic = format!("koupleless_dev/base-1/base/{kind}");
        self.spy.messages()[mark..]
            .iter()
            .filter(|message| message.topic == topic)
            .map(|message| message.json()["data"].clone())
            .collect()
    }

    async fn next(&self, mark: usize, kind: &str) -> Result<Value> {
        self.next_where(mark, kind, |_| true).await
    }

    async fn next_where(&self, mark: usize, kind: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(kind, SOON, async || self.since(mark, kind).into_iter().find(&wanted)).await
    }

    async fn send(&self, command: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        let topic = format!("koupleless_dev/base-1/{command}");
        self.spy.publish(&topic, payload).await
    }

    /// Sends a command and waits for the reply to it.
    async fn call(&self, command: &str, content: Value) -> Result<Value> {
        let mark = self.mark();
        self.send(command, content.to_string()).await?;
        let name = content["bizName"].clone();
        let version = content["bizVersion"].clone();
        let reply = self
            .next_where(mark, "bizOperation", |reply| reply["bizName"] == name && reply["bizVersion"] == version)
            .await?;
        assert_eq!(reply["command"], command);
        Ok(reply["response"].clone())
    }

    async fn install(&self, name: &str, version: &str) -> Result<Value> {
        self.call("installBiz", element(name, version)).await
    }

    async fn replace(&self, name: &str, version: &str) -> Result<Value> {
        let mut content = element(name, version);
        content["installStrategy"] = json!("uninstallThenInstall");
        self.call("installBiz", content).await
    }

    async fn uninstall(&self, name: &str, version: &str) -> Result<Value> {
        let content = json!({"bizName": name, "bizVersion": version});
        self.call("uninstallBiz", content).await
    }

    async fn baseline(&self, content: Value) -> Result<Value> {
        let mark = self.mark();
        self.send("base/baseline", content.to_string()).await?;
        let reply = self.next(mark, "batchInstallBizResponse").await?;
        assert_eq!(reply["command"], "batchInstallBiz");
        Ok(reply["response"].clone())
    }

    /// `name:version state` of all modules, sorted.
    async fn list(&self) -> Result<Vec<String>> {
        let mark = self.mark();
        self.send("queryAllBiz", "{}").await?;
        let list = self.next(mark, "simpleBiz").await?;
        let mut lines: Vec<String> = list
            .as_array()
            .context("no array")?
            .iter()
            .map(|biz| {
                let text = |key: &str| biz[key].as_str().unwrap_or("?").to_owned();
                format!("{}:{} {}", text("name"), text("version"), text("state"))
            })
            .collect();
        lines.sort();
        Ok(lines)
    }
}

fn element(name: &str, version: &str) -> Value {
    json!({"bizName": name, "bizVersion": version, "bizUrl": module_url(name, version)})
}

fn slow(name: &str, version: &str, millis: u32) -> Value {
    let mut content = element(name, version);
    content["args"] = json!([format!("--sleep={millis}")]);
    content
}

/// (`response.code`, `response.data.code`).
fn codes(response: &Value) -> (&str, &str) {
    (response["code"].as_str().unwrap_or("-"), response["data"]["code"].as_str().unwrap_or("-"))
}

const DONE: (&str, &str) = ("SUCCESS", "SUCCESS");
const FAILED: (&str, &str) = ("FAILED", "FAILED");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_and_answer_what_was_recorded() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(setting.options()).await?;

    // Said before Spring reported the start.
    let me = json!({"identity": "base-1", "name": "java-base", "version": "1.0.0", "clusterName": "default"});
    assert_eq!(setting.next(0, "queryBaseline").await?, me);
    let heart = setting.next(0, "heart").await?;
    assert_eq!(heart["baseMetadata"], me);
    assert_eq!(heart["state"], "activated");
    assert_eq!(heart["localIP"], "127.0.0.1");
    assert_eq!(heart["port"], 0);
    assert!(heart["localHostName"].is_string());

    assert!(setting.list().await?.is_empty());
    let mark = setting.mark();
    setting.send("health", "{}").await?;
    let health = setting.next(mark, "health").await?;
    assert_eq!(health["code"], "SUCCESS");
    let health = &health["data"]["healthData"];
    assert!(health["jvm"]["java max metaspace"].is_i64(), "{health}");
    assert_eq!(health["masterBizInfo"]["bizName"], "java-base");
    assert_eq!(health["bizListInfo"][0]["bizState"], "ACTIVATED");
    // Asked many times at once there may be nothing to measure: null then, never "NaN".
    let mark = setting.mark();
    for _ in 0..20 {
        setting.send("health", "{}").await?;
    }
    eventually("twenty answers", SOON, async || setting.since(mark, "health").len() == 20).await?;
    for health in setting.since(mark, "health") {
        let share = &health["data"]["healthData"]["cpu"]["user used (%)"];
        assert!(share.is_null() || share.is_number(), "{share}");
    }

    // Install, and the same again.
    assert_eq!(base.ask("biz1").await?, None);
    let response = setting.install("biz1", "0.0.1").await?;
    assert_eq!(codes(&response), DONE);
    assert!(response.get("message").is_none());
    assert_eq!(response["data"]["bizInfos"][0]["bizState"], "ACTIVATED");
    assert_eq!(setting.list().await?, ["biz1:0.0.1 activated"]);
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on base-1"));
    let response = setting.install("biz1", "0.0.1").await?;
    assert_eq!(codes(&response), ("FAILED", "REPEAT_BIZ"));
    assert_eq!(codes(&setting.replace("biz1", "0.0.1").await?), DONE);
    assert_eq!(setting.list().await?, ["biz1:0.0.1 activated"]);

    // A second version starts and does not serve, not even when the first is gone.
    let response = setting.install("biz1", "0.0.2").await?;
    assert_eq!(codes(&response), DONE);
    assert_eq!(response["data"]["bizInfos"][0]["bizState"], "DEACTIVATED");
    let both = ["biz1:0.0.1 activated", "biz1:0.0.2 deactivated"];
    assert_eq!(setting.list().await?, both);
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on base-1"));
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.1").await?), DONE);
    assert_eq!(setting.list().await?, ["biz1:0.0.2 deactivated"]);
    assert_eq!(base.ask("biz1").await?, None);
    let response = setting.replace("biz1", "0.0.2").await?;
    assert_eq!(response["data"]["bizInfos"][0]["bizState"], "ACTIVATED");
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.2 on base-1"));
    assert_eq!(codes(&setting.replace("biz1", "0.0.3").await?), DONE);
    assert_eq!(setting.list().await?, ["biz1:0.0.3 activated"]);

    // What is not there.
    let not_found = ("FAILED", "NOT_FOUND_BIZ");
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.1").await?), not_found);
    assert_eq!(codes(&setting.uninstall("nope", "9.9.9").await?), not_found);

    // What cannot start, beside and instead of what runs.
    for (name, version) in [("bizbroken", "0.0.1"), ("biz1", "0.0.4")] {
        let response = setting.install(name, version).await?;
        assert_eq!(codes(&response), FAILED);
        let cause = "java.lang.IllegalStateException: broken on purpose";
        assert_eq!(response["message"], cause);
        assert_eq!(setting.list().await?, ["biz1:0.0.3 activated"]);
    }
    for url in
        [module_url("biz1", "7.7.7"), "http://127.0.0.1:9/nothing.jar".to_owned(), "gopher://nowhere/x.jar".to_owned()]
    {
        let content = json!({"bizName": "biz7", "bizVersion": "7.7.7", "bizUrl": url});
        let response = setting.call("installBiz", content).await?;
        assert_eq!(codes(&response), FAILED, "{url}");
        assert!(response["message"].is_string());
    }
    assert_eq!(setting.list().await?, ["biz1:0.0.3 activated"]);
    assert_eq!(codes(&setting.replace("biz1", "0.0.4").await?), FAILED);
    assert!(setting.list().await?.is_empty());
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);
    assert_eq!(codes(&setting.replace("biz1", "7.7.7").await?), FAILED);
    assert!(setting.list().await?.is_empty());

    // The jar's own name counts.
    let content = json!({"bizName": "biz9", "bizVersion": "9.9.9", "bizUrl": module_url("biz1", "0.0.1")});
    let response = setting.call("installBiz", content).await?;
    assert_eq!(codes(&response), DONE);
    assert_eq!(response["data"]["bizInfos"][0]["bizName"], "biz1");
    assert_eq!(setting.list().await?, ["biz1:0.0.1 activated"]);
    assert_eq!(codes(&setting.uninstall("biz9", "9.9.9").await?), not_found);
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.1").await?), DONE);
    assert_eq!(base.ask("biz1").await?, None);
    let log = base.log()?;
    assert!(log.contains("module biz1 0.0.1 started") && log.contains("module biz1 0.0.1 stopped"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_payloads_and_baselines() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(setting.options()).await?;

    // No reply: not even to the last of them when the question after it has been answered.
    let mark = setting.mark();
    for command in ["installBiz", "uninstallBiz", "queryAllBiz", "health", "base/baseline"] {
        for payload in ["{\"bizName\":", "plain text", "\"x\"", "7"] {
            setting.send(command, payload).await?;
        }
    }
    for command in ["installBiz", "uninstallBiz"] {
        for payload in ["", "[1]", "null"] {
            setting.send(command, payload).await?;
        }
    }
    for command in ["queryAllBiz", "health"] {
        setting.send(command, "[1]").await?;
    }
    for command in ["switchBiz", "batchInstallBiz", "installbiz"] {
        setting.send(command, "{}").await?;
    }
    setting.send("base/baseline", "{\"data\":[]}").await?;
    assert!(setting.list().await?.is_empty());
    assert_eq!(setting.since(mark, "bizOperation").len(), 0);
    assert_eq!(setting.since(mark, "batchInstallBizResponse").len(), 0);
    assert_eq!(setting.since(mark, "simpleBiz").len(), 1);
    assert_eq!(setting.since(mark, "health").len(), 0);
    // But these are as good as {}.
    for payload in ["", "null"] {
        for (command, kind) in [("queryAllBiz", "simpleBiz"), ("health", "health")] {
            let mark = setting.mark();
            setting.send(command, payload).await?;
            setting.next(mark, kind).await?;
        }
    }

    // Incomplete commands.
    let content = json!({"bizName": "biz1", "bizVersion": "0.0.1"});
    assert_eq!(setting.call("installBiz", content).await?["code"], "FAILED");
    let mark = setting.mark();
    let content = json!({"bizUrl": module_url("biz1", "0.0.1"), "unknown": 1});
    setting.send("installBiz", content.to_string()).await?;
    let reply = setting.next(mark, "bizOperation").await?;
    assert_eq!(codes(&reply["response"]), DONE);
    assert!(reply.get("bizName").is_none());
    assert_eq!(setting.list().await?, ["biz1:0.0.1 activated"]);
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.1").await?), DONE);

    // Baselines.
    for odd in [json!(null), json!([1]), json!([{"bizName": "biz1"}])] {
        assert_eq!(setting.baseline(odd).await?["code"], "FAILED");
    }
    let mark = setting.mark();
    setting.send("base/baseline", "").await?;
    let reply = setting.next(mark, "batchInstallBizResponse").await?;
    assert_eq!(reply["response"]["code"], "FAILED");
    let response = setting.baseline(json!([])).await?;
    assert_eq!(codes(&response), DONE);
    assert_eq!(response["data"]["bizUrlToResponse"], json!({}));

    let good = json!([element("biz1", "0.0.1"), element("biz2", "0.0.1")]);
    let response = setting.baseline(good.clone()).await?;
    assert_eq!(codes(&response), DONE);
    let one = &response["data"]["bizUrlToResponse"][module_url("biz2", "0.0.1")];
    assert_eq!(one["code"], "SUCCESS");
    assert_eq!(one["bizInfos"][0]["bizState"], "ACTIVATED");
    let both = ["biz1:0.0.1 activated", "biz2:0.0.1 activated"];
    assert_eq!(setting.list().await?, both);
    let response = setting.baseline(good).await?;
    assert_eq!(codes(&response), FAILED);
    let one = &response["data"]["bizUrlToResponse"][module_url("biz1", "0.0.1")];
    assert_eq!(one["code"], "REPEAT_BIZ");
    for name in ["biz1", "biz2"] {
        assert_eq!(codes(&setting.uninstall(name, "0.0.1").await?), DONE);
    }

    // Two versions of one module, in their order, and elements that fail: the others are installed.
    let response = setting
        .baseline(json!([
            element("biz1", "0.0.1"),
            element("biz1", "0.0.2"),
            element("bizbroken", "0.0.1"),
            element("biz7", "7.7.7"),
        ]))
        .await?;
    assert_eq!(codes(&response), FAILED);
    let by_url = &response["data"]["bizUrlToResponse"];
    let one = &by_url[module_url("bizbroken", "0.0.1")];
    assert_eq!(one["message"], "java.lang.IllegalStateException: broken on purpose");
    assert_eq!(by_url[module_url("biz7", "7.7.7")]["code"], "FAILED");
    assert_eq!(by_url[module_url("biz1", "0.0.2")]["code"], "SUCCESS");
    let both = ["biz1:0.0.1 activated", "biz1:0.0.2 deactivated"];
    assert_eq!(setting.list().await?, both);
    drop(base);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_modules_hold_up_nobody_but_themselves() -> Result<()> {
    let setting = Setting::new().await?;
    let _base = JavaBase::start(setting.options()).await?;

    // While a module starts it is "resolved"; a second command for it fails at once.
    let mark = setting.mark();
    let content = slow("biz1", "0.0.1", 3000);
    setting.send("installBiz", content.to_string()).await?;
    eventually("a slow start", SOON, async || -> Result<()> {
        ensure!(setting.list().await? == ["biz1:0.0.1 resolved"]);
        Ok(())
    })
    .await?;
    let conflict = setting.install("biz1", "0.0.1").await?;
    assert_eq!(conflict["code"], "FAILED");
    assert!(conflict.get("data").is_none(), "{conflict}");
    let text = conflict["message"].as_str().unwrap_or_default();
    assert!(text.contains("conflict, exist unfinished command"), "{text}");
    // Another version of it is no conflict.
    assert_eq!(codes(&setting.install("biz1", "0.0.2").await?), DONE);
    let reply = setting
        .next_where(mark, "bizOperation", |reply| {
            reply["response"]["data"]["code"] == "SUCCESS" && reply["bizVersion"] == "0.0.1"
        })
        .await?;
    let state = &reply["response"]["data"]["bizInfos"][0]["bizState"];
    assert_eq!(state, "DEACTIVATED");
    let both = ["biz1:0.0.1 deactivated", "biz1:0.0.2 activated"];
    assert_eq!(setting.list().await?, both);

    // Five workers: the sixth install waits, the questions do not.
    for version in ["0.0.1", "0.0.2"] {
        assert_eq!(codes(&setting.uninstall("biz1", version).await?), DONE);
    }
    let mark = setting.mark();
    let busy = [
        slow("biz1", "0.0.1", 4000),
        slow("biz1", "0.0.2", 4000),
        slow("biz1", "0.0.3", 4000),
        slow("biz2", "0.0.1", 4000),
        slow("bizslow", "0.0.1", 4000),
    ];
    for content in busy {
        setting.send("installBiz", content.to_string()).await?;
    }
    let sixth = json!({"bizName": "nope", "bizVersion": "1"});
    setting.send("uninstallBiz", sixth.to_string()).await?;
    eventually("five slow starts", SOON, async || -> Result<()> {
        let list = setting.list().await?;
        ensure!(list.len() == 5 && list.iter().all(|line| line.ends_with("resolved")));
        Ok(())
    })
    .await?;
    let asked = setting.mark();
    setting.send("health", "{}").await?;
    setting.next(asked, "health").await?;
    assert_eq!(setting.since(mark, "bizOperation").len(), 0);
    eventually("all six", SOON, async || setting.since(mark, "bizOperation").len() == 6).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_flags_the_newest_serves_and_the_broken_stay() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(JavaBaseOptions {
        activate_new_module: true,
        keep_broken: true,
        name: "shop".to_owned(),
        ..setting.options()
    })
    .await?;
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);

    // Requests all the while: each is answered, by the old version up to some moment, then by the new.
    let watching = async {
        let mut answers = Vec::new();
        loop {
            let answer = base.ask("biz1").await?.unwrap_or_default();
            let done = answer == "biz1 0.0.2 on base-1";
            answers.push(answer);
            if done {
                return anyhow::Ok(answers);
            }
        }
    };
    let content = slow("biz1", "0.0.2", 500);
    let (response, answers) = tokio::join!(setting.call("installBiz", content), tokio::time::timeout(SOON, watching));
    let response = response?;
    assert_eq!(response["data"]["bizInfos"][0]["bizState"], "ACTIVATED");
    let mut answers = answers??;
    eprintln!("{} requests during the switch", answers.len());
    let gaps = answers.iter().filter(|answer| answer.is_empty()).count();
    assert_eq!(gaps, 0, "of {}", answers.len());
    answers.dedup();
    assert_eq!(answers, ["biz1 0.0.1 on base-1", "biz1 0.0.2 on base-1"]);
    let both = ["biz1:0.0.1 deactivated", "biz1:0.0.2 activated"];
    assert_eq!(setting.list().await?, both);
    // Uninstalling the newer one does not bring the older one back.
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.2").await?), DONE);
    assert_eq!(setting.list().await?, ["biz1:0.0.1 deactivated"]);
    assert_eq!(base.ask("biz1").await?, None);

    assert_eq!(codes(&setting.uninstall("biz1", "0.0.1").await?), DONE);
    assert_eq!(codes(&setting.install("bizbroken", "0.0.1").await?), FAILED);
    assert_eq!(setting.list().await?, ["bizbroken:0.0.1 broken"]);
    let response = setting.install("bizbroken", "0.0.1").await?;
    assert_eq!(codes(&response), ("FAILED", "REPEAT_BIZ"));
    assert_eq!(codes(&setting.uninstall("bizbroken", "0.0.1").await?), DONE);
    assert!(setting.list().await?.is_empty());
    Ok(())
}

/// SOFAArk deactivates the old version before it activates the new one: a moment that is found in one
/// of some twenty switches on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_falls_between_two_versions() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(JavaBaseOptions { activate_new_module: true, ..setting.options() }).await?;
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);
    let switches = async {
        for (old, new) in [("0.0.1", "0.0.2"), ("0.0.2", "0.0.3"), ("0.0.3", "0.0.1")].repeat(10) {
            assert_eq!(codes(&setting.install("biz1", new).await?), DONE);
            assert_eq!(codes(&setting.uninstall("biz1", old).await?), DONE);
        }
        anyhow::Ok(())
    };
    let done = AtomicBool::new(false);
    let calls = async || {
        let mut calls = 0;
        while !done.load(Ordering::Relaxed) {
            calls += 1;
            ensure!(base.ask("biz1").await?.is_some(), "no answer to call {calls}");
        }
        Ok(calls)
    };
    let watched = async {
        let result = switches.await;
        done.store(true, Ordering::Relaxed);
        result
    };
    let ((), one, two) = tokio::try_join!(watched, calls(), calls())?;
    eprintln!("{} calls during 30 switches", one + two);

    // Nothing is held for ever: a version that takes its time beside one that is deactivated.
    assert_eq!(codes(&setting.install("biz1", "0.0.2").await?), DONE);
    assert_eq!(codes(&setting.uninstall("biz1", "0.0.2").await?), DONE);
    assert_eq!(setting.list().await?, ["biz1:0.0.1 deactivated"]);
    setting.send("installBiz", slow("biz1", "0.0.3", 3000).to_string()).await?;
    let both = ["biz1:0.0.1 deactivated", "biz1:0.0.3 resolved"];
    eventually("a slow start", SOON, async || setting.list().await.is_ok_and(|list| list == both)).await?;
    assert_eq!(base.ask("biz1").await?, None);
    assert_eq!(setting.list().await?, both, "answered before it had started");
    eventually("the slow one", SOON, async || base.ask("biz1").await.is_ok_and(|answer| answer.is_some())).await?;
    Ok(())
}

/// The stock way of SOFAArk: one Tomcat, a context for each web module. What is deactivated has its context
/// all the same, so a second version cannot start, whatever the settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_of_a_web_module_cannot_be_loaded() -> Result<()> {
    for activate_new_module in [false, true] {
        let setting = Setting::new().await?;
        let base = JavaBase::start(JavaBaseOptions { web: true, activate_new_module, ..setting.options() }).await?;
        let asked = async || base.ask("webbiz/version").await;
        assert_eq!(asked().await?, None);
        assert_eq!(codes(&setting.install("webbiz", "0.0.1").await?), DONE);
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.1 on base-1"));
        assert_eq!(base.ask("").await?.as_deref(), Some("webbiz:0.0.1 activated"));

        let response = setting.install("webbiz", "0.0.2").await?;
        assert_eq!(codes(&response), FAILED);
        let message = response["message"].as_str().unwrap_or_default();
        assert_eq!(message, "java.lang.IllegalArgumentException: Child name [webbiz] is not unique");
        assert_eq!(setting.list().await?, ["webbiz:0.0.1 activated"]);
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.1 on base-1"), "it serves on");

        // One after the other they can.
        assert_eq!(codes(&setting.uninstall("webbiz", "0.0.1").await?), DONE);
        assert_eq!(asked().await?, None);
        assert_eq!(codes(&setting.install("webbiz", "0.0.2").await?), DONE);
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.2 on base-1"));
        assert_eq!(codes(&setting.replace("webbiz", "0.0.3").await?), DONE);
        assert_eq!(setting.list().await?, ["webbiz:0.0.3 activated"]);
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.3 on base-1"));

        // Replaced by what cannot start, nothing serves until a version that can is installed.
        let response = setting.replace("webbiz", "0.0.4").await?;
        assert_eq!(codes(&response), FAILED);
        assert_eq!(response["message"], "java.lang.IllegalStateException: broken on purpose");
        assert_eq!(asked().await?, None);
        assert_eq!(codes(&setting.install("webbiz", "0.0.3").await?), DONE);
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.3 on base-1"));

        // With a context path for each version both are there, and both serve, whatever their states.
        let mut content = element("webbiz", "0.0.2");
        content["args"] = json!(["--server.servlet.context-path=/webbiz-v2"]);
        assert_eq!(codes(&setting.call("installBiz", content).await?), DONE);
        let states = if activate_new_module {
            ["webbiz:0.0.2 activated", "webbiz:0.0.3 deactivated"]
        } else {
            ["webbiz:0.0.2 deactivated", "webbiz:0.0.3 activated"]
        };
        assert_eq!(setting.list().await?, states);
        assert_eq!(base.ask("webbiz-v2/version").await?.as_deref(), Some("webbiz 0.0.2 on base-1"));
        assert_eq!(asked().await?.as_deref(), Some("webbiz 0.0.3 on base-1"));
    }
    Ok(())
}

/// Waits until a base has written a line that often. When the broker comes up right after
/// "next attempt in 2000 ms" (or another "00 ms", the pauses of a second and more), the observer is
/// back before the base.
async fn logged(base: &JavaBase, line: &str, times: usize) -> Result<()> {
    eventually(line, Duration::from_mins(1), async || -> Result<()> {
        let count = base.log()?.matches(line).count();
        ensure!(count >= times, "{count} times");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_outage_loses_nothing() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(JavaBaseOptions { heart_seconds: 2, ..setting.options() }).await?;
    setting.next(0, "queryBaseline").await?;

    // An install ends while the broker is away for some 18 s, with several heartbeats due.
    let mark = setting.mark();
    let content = slow("bizslow", "0.0.1", 2000);
    setting.send("installBiz", content.to_string()).await?;
    logged(&base, "takes 2000 ms", 1).await?;
    setting.broker.stop().await?;
    logged(&base, "installBiz bizslow 0.0.1: SUCCESS", 1).await?;
    logged(&base, "next attempt in 5000 ms", 3).await?;
    assert_eq!(setting.since(mark, "bizOperation").len(), 0);
    setting.broker.start_again().await?;
    let reply = setting.next(mark, "bizOperation").await?;
    assert_eq!(codes(&reply["response"]), DONE);
    // Nobody answered the first one.
    setting.next(mark, "queryBaseline").await?;
    let mark = setting.mark();
    eventually("heartbeats to go on", SOON, async || setting.since(mark, "heart").len() >= 3).await?;
    assert_eq!(setting.list().await?, ["bizslow:0.0.1 activated"]);
    assert_eq!(setting.since(mark, "bizOperation").len(), 0);

    // Answered, it is not asked again.
    assert_eq!(codes(&setting.baseline(json!([])).await?), DONE);
    let before = base.log()?.matches("00 ms").count();
    setting.broker.stop().await?;
    logged(&base, "00 ms", before + 2).await?;
    let mark = setting.mark();
    setting.broker.start_again().await?;
    eventually("heartbeats", SOON, async || setting.since(mark, "heart").len() >= 2).await?;
    assert_eq!(setting.since(mark, "queryBaseline").len(), 0);

    // Down at the start: the base starts all the same and comes when the broker does.
    drop(base);
    setting.broker.stop().await?;
    let base = JavaBase::start(setting.options()).await?;
    logged(&base, "next attempt in 2000 ms", 1).await?;
    let mark = setting.mark();
    setting.broker.start_again().await?;
    setting.next(mark, "queryBaseline").await?;
    setting.next(mark, "heart").await?;
    assert!(setting.list().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_freezes_or_refuses_is_tried_again() -> Result<()> {
    let setting = Setting::new().await?;
    let base = JavaBase::start(JavaBaseOptions { heart_seconds: 2, ..setting.options() }).await?;
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);
    // The connection stays open and nobody acknowledges anything.
    setting.broker.pause().await?;
    logged(&base, "no connection to", 1).await?;
    setting.broker.resume().await?;
    logged(&base, "connected to", 2).await?;
    let mark = setting.mark();
    eventually("heartbeats to go on", SOON, async || setting.since(mark, "heart").len() >= 2).await?;
    assert_eq!(setting.list().await?, ["biz1:0.0.1 activated"]);
    drop(base);

    let mut broker = setting.broker.address().clone();
    "wrong".clone_into(&mut broker.password);
    let base = JavaBase::start(JavaBaseOptions::new(&broker, "base-1")).await?;
    logged(&base, "Not authorized", 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_goes_away_says_so() -> Result<()> {
    let setting = Setting::new().await?;
    let directory = tempfile::tempdir()?;
    let mut base =
        JavaBase::start(JavaBaseOptions { directory: Some(PathBuf::from(directory.path())), ..setting.options() })
            .await?;
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);
    let gone = |heart: &Value| heart["state"] == "deactivated";

    let mark = setting.mark();
    base.kill9().await?;
    let will = setting.next_where(mark, "heart", gone).await?;
    assert_eq!(will["baseMetadata"]["identity"], "base-1");

    let mark = setting.mark();
    base.restart().await?;
    setting.next(mark, "queryBaseline").await?;
    assert!(setting.list().await?.is_empty());
    assert_eq!(codes(&setting.install("biz1", "0.0.1").await?), DONE);

    let mark = setting.mark();
    base.terminate().await?;
    setting.next_where(mark, "heart", gone).await?;
    let states = setting.since(mark, "heart");
    assert_eq!(states.iter().filter(|heart| gone(heart)).count(), 1);
    assert!(base.log()?.contains("module biz1 0.0.1 stopped"));
    base.restart().await?;
    base.restart().await?;
    Ok(())
}
