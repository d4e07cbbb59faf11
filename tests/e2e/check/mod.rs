//! `modulet check`: what it says of a real cluster and a real broker, and that it changes nothing there.

mod broker;
mod cluster;

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::{Api, api::PostParams};
use modulet_testkit::{
    audit::AuditLog,
    broker::{BrokerAddress, Spy},
    control_plane::ControlPlane,
    helm::helm_install,
};
use serde_json::{Value, json};

use crate::stage::Stage;

const BINARY: &str = env!("CARGO_BIN_EXE_modulet");

/// What a check said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    code: i32,
    text: String,
}

impl Said {
    /// There is a line with all these words in it.
    #[track_caller]
    pub(crate) fn has(&self, words: &[&str]) -> &Self {
        let found = self.text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} is in no line of:\n{}", self.text);
        self
    }

    /// No line has this in it.
    #[track_caller]
    pub(crate) fn has_not(&self, word: &str) -> &Self {
        assert!(!self.text.contains(word), "{word} is in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) {
        assert_eq!(self.code, code, "{}", self.text);
    }
}

/// Runs a check in the environment `env`, with further arguments and variables.
pub(crate) async fn check(
    kubeconfig: &Path,
    broker: &BrokerAddress,
    env: &str,
    args: &[&str],
    more: &[(&str, &str)],
) -> Result<Said> {
    let port = broker.port.to_string();
    let mut command = tokio::process::Command::new(BINARY);
    command
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .envs([("ENV", env), ("CLIENT_ID", "modulet-under-test"), ("MQTT_BROKER", &broker.host), ("MQTT_PORT", &port)])
        .envs([("MQTT_USERNAME", broker.username.as_str()), ("MQTT_PASSWORD", &broker.password)])
        .envs(more.iter().copied())
        .arg("check")
        .args(args)
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("the check runs")??;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(error.is_empty(), "it also says {error}");
    Ok(Said { code: output.status.code().context("killed")?, text })
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// All that the chart's account asked the API server for.
fn asked(audit: &AuditLog) -> Result<BTreeSet<String>> {
    Ok(audit.lines()?.iter().map(|line| format!("{} {}", line.verb, line.object().resource)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_well_is_called_well_with_the_charts_rights_and_nothing_is_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let audit = AuditLog::of(directory.path(), &["modulet-system:modulet"])?;
    let cluster = ControlPlane::start_own(audit.control_plane()).await?;
    let stage = Stage::set_on(cluster, "checked", |options| options).await?;
    let address = stage.broker.address().clone();
    let values = json!({ "environment": "checked", "mqtt": { "host": address.host, "port": address.port } });
    helm_install(cluster.kubeconfig(), "modulet-system", &values).await?;
    let account = cluster.kubeconfig_for_service_account("modulet-system", "modulet").await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    stage.ends_quietly().await?;
    let spy = Spy::start(&address, "#").await?;
    let before = writes(&stage).await?;

    let own_namespace = [("NAMESPACE", "modulet-system")];
    let said = check(&account, &address, "checked", &["--strict"], &own_namespace).await?;
    said.has(&["[ok]", "v1."])
        .has(&["[ok] system:serviceaccount:modulet-system:modulet has all"])
        .has(&["[ok] none of 0 puts Pods on bases"])
        .has(&["[cannot look] needs the right to list leases.coordination.k8s.io in kube-node-lease"])
        .has(&["[cannot look] needs the right to list limitranges"])
        .has(&["[ok]", "logged in"])
        .has(&["[ok] grants the subscriptions"])
        .has(&["[ok] lets commands be published"])
        .has(&["[ok] base base-1 of environment checked was heard"])
        .has(&["All well"])
        .ends_with(0);
    // One who sees all sees who holds the bases, and can ask for the account.
    let whole = ["--service-account", "modulet-system/modulet", "--output", "json"];
    let said = check(cluster.kubeconfig(), &address, "checked", &whole, &own_namespace).await?;
    let report: Value = serde_json::from_str(&said.text)?;
    assert_eq!((said.code, &report["exitCode"]), (0, &json!(0)), "{report}");
    let findings = report["findings"].to_string();
    assert!(!findings.contains("cannotLook") && findings.contains("modulet-under-test holds"), "{findings}");
    assert!(findings.contains("system:serviceaccount:modulet-system:modulet has all"), "{findings}");

    // It asked, and wrote nothing: reviews are not stored.
    let asked = asked(&audit)?;
    let written: Vec<_> = asked.iter().filter(|what| !what.starts_with("get ") && !what.starts_with("list ")).collect();
    assert_eq!(written, ["create selfsubjectaccessreviews", "create selfsubjectreviews"], "{asked:?}");
    assert_eq!(writes(&stage).await?, before);
    let strangers = |m: &modulet_testkit::broker::Message| m.topic.contains("modulet-check-");
    assert_eq!(spy.count(strangers), 10, "five commands to nobody, twice");
    assert_eq!(spy.count(|m| strangers(m) && m.payload != "{}"), 0);
    let kept = Spy::start(&address, "#").await?;
    assert_eq!(kept.count(|m| m.retained), 0);
    // The running controller kept its session.
    assert!(stage.controller.metric("modulet_broker_errors_total", &[]).await?.abs() < f64::EPSILON);
    stage.ends_quietly().await
}

/// How often the controller wrote, Leases aside.
async fn writes(stage: &Stage) -> Result<Vec<String>> {
    let metrics = stage.controller.metrics().await?;
    let ours = metrics.lines().filter(|l| l.starts_with("modulet_api_writes_total") && !l.contains("kind=\"lease\""));
    Ok(ours.map(str::to_owned).collect())
}
