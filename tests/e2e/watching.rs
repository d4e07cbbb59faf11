//! The chart's alerts and dashboard, run by Prometheus' own engine against what a real modulet says.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use modulet_testkit::{
    promql::{Answer, Question, Scrape, ask},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, module_pod};

/// It is scraped each minute for so many seconds.
const LASTS: u64 = 900;

fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A Pod that no base can run.
fn foreign(stage: &Stage) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "agent" },
        "spec": {
            "nodeName": stage.node_name("base-1"),
            "containers": [{ "name": "agent", "image": "registry.example.com/agent:1" }],
            "tolerations": [{ "operator": "Exists" }],
        },
    })
}

/// The text of a modulet with one Pod that is Ready, one that has failed and one that is no module.
async fn metrics(stage: &Stage) -> Result<String> {
    let _base = stage.base(stage.base_options("base-1")).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    let mut broken = module_pod(&stage.name, "biz2", &[("biz2", "1")]);
    broken["spec"]["containers"][0]["image"] = json!("https://modules.example.com/biz2-broken-1-ark-biz.jar");
    stage.create_pod(broken).await?;
    stage.create_pod(foreign(stage)).await?;
    let controller = &stage.controller;
    eventually("all three counted for what they are", SOON, async || {
        for (name, label, value) in [
            ("modulet_pods_by_reason", "Ready", 1.0),
            ("modulet_pods_by_reason", "InstallFailed", 1.0),
            ("modulet_pods_by_reason", "NotAModule", 1.0),
            ("modulet_oldest_wait_seconds", "Ready", 0.0),
            ("modulet_oldest_wait_seconds", "NotAModule", 0.0),
        ] {
            let is = controller.metric(name, &[("reason", label)]).await?;
            ensure!((is - value).abs() < f64::EPSILON, "{name} {label} is {is}");
        }
        let wait = controller.metric("modulet_oldest_wait_seconds", &[("reason", "InstallFailed")]).await?;
        ensure!(wait > 0.5 && wait < SOON.as_secs_f64(), "it waits for {wait} s");
        ensure!((controller.metric("modulet_foreign_pods", &[]).await? - 1.0).abs() < f64::EPSILON, "foreign Pods");
        Ok(())
    })
    .await?;
    for (name, most) in [("modulet_oldest_list_seconds", 25.0), ("modulet_oldest_lease_renewal_seconds", 20.0)] {
        let age = controller.metric(name, &[]).await?;
        assert!(age > 0.0 && age < most, "{name} is {age}");
    }
    controller.metrics().await
}

/// Scraped as it is for so long, and then as it has `changed_to`.
fn scrapes(text: &str, changed_to: &str) -> Vec<Scrape> {
    let at = |at: u64| {
        let text = if at < LASTS - 120 { text } else { changed_to };
        let labels = [("namespace", "modulet-system"), ("job", "modulet"), ("pod", "modulet-1")].into();
        Scrape { at, text: text.to_owned(), labels }
    };
    (0..=LASTS / 60).map(|minute| at(minute * 60)).collect()
}

/// All expressions of the dashboard, as Grafana sends them.
fn of_dashboard(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |text: &str| text.replace("$namespace", ".*").replace("$job", ".*").replace("$__rate_interval", "5m");
    targets.filter_map(|target| target["expr"].as_str().map(filled)).collect()
}

/// The text with other values of the series that begin so; all of them.
fn with(text: &str, changes: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (series, value) in changes {
        let mut found = false;
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((head, _)) if head.starts_with(series) && !line.starts_with('#') => {
                found = true;
                format!("{head} {value}\n")
            }
            _ => format!("{line}\n"),
        };
        let changed: String = text.lines().map(line).collect();
        assert!(found, "there is no {series}");
        text = changed;
    }
    text
}

fn firing(answers: &[Answer]) -> BTreeSet<&str> {
    answers.iter().filter(|a| !a.result.is_empty()).map(|a| a.alert.as_str()).collect()
}

/// What has to be said for each of the alerts to be true, and for no other.
const CAUSES: [(&str, &[(&str, &str)]); 18] = [
    ("ModuletNoLeader", &[("modulet_leads", "0")]),
    ("ModuletSeveralLeaders", &[("modulet_leads", "2")]),
    ("ModuletBrokerAway", &[("modulet_broker_connected", "0")]),
    ("ModuletLeasesOld", &[("modulet_oldest_lease_renewal_seconds", "31")]),
    ("ModuletListsOld", &[("modulet_oldest_list_seconds", "301")]),
    ("ModuletBasesUnreachable", &[("modulet_bases{name=\"unreachable\"}", "1")]),
    ("ModuletBasesSuspected", &[("modulet_bases_suspected", "1")]),
    ("ModuletNobodyHeard", &[("modulet_environments_elsewhere", "1")]),
    ("ModuletOtherController", &[("modulet_other_controller", "1")]),
    ("ModuletBasesRefused", &[("modulet_bases_refused_total{reason=\"label\"}", "1")]),
    ("ModuletModulesWait", &[("modulet_oldest_wait_seconds{reason=\"Installing\"}", "901")]),
    ("ModuletWritesFail", &[("modulet_api_writes_total{kind=\"record\",result=\"unreachable\"}", "100")]),
    ("ModuletWatchesFail", &[("modulet_watch_errors_total", "30")]),
    ("ModuletQueuesFull", &[("modulet_queue_overflows_total{name=\"writes\"}", "1")]),
    ("ModuletMessagesRefused", &[("modulet_messages_refused_total{name=\"rate\"}", "5000")]),
    ("ModuletLate", &[("modulet_engine_lateness_seconds", "2")]),
    ("ModuletReportsFail", &[("modulet_reports_total{result=\"failed\"}", "1")]),
    ("ModuletNodesWithPodCIDR", &[("modulet_nodes_with_pod_cidr", "1")]),
];
/// Of the Pod that has failed and the one that is no module.
const TRUE_ANYWAY: [&str; 2] = ["ModuletForeignPods", "ModuletModulesFail"];

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_charts_alerts_and_dashboard_is_true_when_it_should_be() -> Result<()> {
    let stage = Stage::set("watching").await?;
    let text = metrics(&stage).await?;
    stage.ends_quietly().await?;
    let rules = file("charts/modulet/rules/alerts.yaml")?;
    let queries = of_dashboard(&serde_json::from_str(&file("charts/modulet/dashboards/modulet.json")?)?);
    assert!(queries.len() > 25, "{}", queries.len());
    let question = |changed_to: &str| Question {
        scrapes: scrapes(&text, changed_to),
        at: LASTS,
        queries: Vec::new(),
        rules: rules.clone(),
    };
    let as_it_is = ask(&Question { queries: queries.clone(), ..question(&text) }).await?;
    for answer in &as_it_is {
        assert_eq!(answer.error, "", "{}", answer.query);
        assert!(!answer.selectors.is_empty(), "{}", answer.query);
        for selector in &answer.selectors {
            assert!(selector.series > 0, "{} is nothing that modulet says, in {}", selector.text, answer.query);
        }
    }
    let (panels, alerts) = as_it_is.split_at(queries.len());
    // Rates of nothing have no quantiles, and what is none is not drawn where it says so.
    let drawn = |query: &&Answer| !query.query.contains("histogram_quantile") && !query.query.ends_with("> 0");
    for panel in panels.iter().filter(drawn) {
        assert!(!panel.result.is_empty(), "{} shows nothing", panel.query);
    }
    assert_eq!(firing(alerts), BTreeSet::from(TRUE_ANYWAY), "of what is really so");
    for (alert, changes) in CAUSES {
        let answers = ask(&question(&with(&text, changes))).await?;
        let expected: BTreeSet<_> = TRUE_ANYWAY.into_iter().chain([alert]).collect();
        assert_eq!(firing(&answers), expected, "{alert}");
    }
    let unasked = ask(&Question { scrapes: Vec::new(), ..question("") }).await?;
    assert_eq!(firing(&unasked), BTreeSet::from(["ModuletAbsent"]));
    all_is_documented(&text, alerts)
}

/// Each alert and each metric has its place on the page, and the page has no others.
fn all_is_documented(text: &str, alerts: &[Answer]) -> Result<()> {
    let page = file("docs/watching.md")?;
    let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### Modulet")).collect();
    let names: Vec<_> = alerts.iter().map(|alert| alert.alert.trim_start_matches("Modulet")).collect();
    assert_eq!(headings, names);
    assert_eq!(names.len(), CAUSES.len() + TRUE_ANYWAY.len() + 1, "each has its cause above");
    for alert in alerts {
        assert!(["critical", "warning", "info"].contains(&alert.labels["severity"].as_str()), "{}", alert.alert);
        let link = format!("docs/watching.md#{}", alert.alert.to_lowercase());
        assert!(alert.annotations["runbook_url"].ends_with(&link), "{}", alert.alert);
        assert!(alert.lasts != "0s", "{} would come and go", alert.alert);
    }
    let metrics: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(metrics.len() > 25, "{metrics:?}");
    for metric in metrics {
        assert!(page.contains(&format!("`{metric}`")), "{metric} is not on the page");
    }
    Ok(())
}
