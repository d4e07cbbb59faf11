//! Options and variables: what there is, what is refused, what can be seen from outside.

use std::{collections::BTreeMap, net::TcpListener, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use modulet::go_controller;
use modulet_testkit::{
    base::SimulatedBase,
    broker::Mosquitto,
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    wait::eventually,
};
use serde_json::Value;

use crate::stage::{SOON, Stage, module_pod};

const BINARY: &str = env!("CARGO_BIN_EXE_modulet");

/// Runs modulet with nothing but these arguments and variables; it must end by itself.
async fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = tokio::process::Command::new(BINARY);
    command.env_clear().args(args).envs(variables.iter().copied()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(10), command.output()).await;
    Ok(ended.with_context(|| format!("{args:?} {variables:?}: it runs"))??)
}

/// Each option of the help text, with its variable.
fn options_of(help: &str) -> BTreeMap<String, String> {
    let (mut options, mut last) = (BTreeMap::new(), String::new());
    for line in help.lines().map(str::trim) {
        if let Some(at) = line.find("--").filter(|at| *at == 0 || line.starts_with("-h") || line.starts_with("-V")) {
            line[at..].split([' ', '=']).next().unwrap_or_default().trim_end_matches(',').clone_into(&mut last);
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            let variable = rest.split(['=', ']']).next().unwrap_or_default();
            options.insert(last.clone(), variable.to_owned());
        }
    }
    options
}

/// The same of the table in the documents.
fn documented() -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"))?;
    let cells = text.lines().filter(|line| line.starts_with("| `--")).map(|line| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        Some((cells.next()?, cells.next()?))
    });
    cells.collect::<Option<_>>().context("a row without cells")
}

/// Whatever a manifest of the Go controller has, the documents speak of it.
#[test]
fn the_variables_of_the_go_controller_are_documented() -> Result<()> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"))?;
    let section = text.split("## Variables of the Go controller").nth(1).context("no such section")?;
    for name in go_controller::SUPPORTED {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    for (name, advice) in go_controller::OTHERS {
        let row = section.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).context(name)?;
        assert_eq!(row.replace('`', ""), format!("| {name} | {advice} |"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_every_option_and_its_variable_as_the_documents_do() -> Result<()> {
    let output = run(&["--help"], &[]).await?;
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout)?;
    let (options, documented) = (options_of(&text), documented()?);
    assert!(options.len() > 20, "{options:?}");
    assert_eq!(options, documented, "left: --help, right: docs/configuration.md");
    for (option, variable) in [
        ("--kubeconfig", "KUBECONFIG"),
        ("--env", "ENV"),
        ("--client-id", "CLIENT_ID"),
        ("--namespace", "NAMESPACE"),
        ("--leader-election", "MODULET_LEADER_ELECTION"),
        ("--pod-name", "POD_NAME"),
        ("--enable-mqtt-tunnel", "ENABLE_MQTT_TUNNEL"),
        ("--mqtt-broker", "MQTT_BROKER"),
        ("--mqtt-port", "MQTT_PORT"),
        ("--mqtt-username", "MQTT_USERNAME"),
        ("--mqtt-password", "MQTT_PASSWORD"),
        ("--mqtt-client-prefix", "MQTT_CLIENT_PREFIX"),
        ("--mqtt-ca-path", "MQTT_CA_PATH"),
        ("--mqtt-client-crt-path", "MQTT_CLIENT_CRT_PATH"),
        ("--mqtt-client-key-path", "MQTT_CLIENT_KEY_PATH"),
        ("--http-address", "MODULET_HTTP_ADDRESS"),
        ("--log", "MODULET_LOG"),
        ("--log-format", "MODULET_LOG_FORMAT"),
        ("--max-pods", "MODULET_MAX_PODS"),
        ("--zone-per-base", "MODULET_ZONE_PER_BASE"),
        ("--env-taint", "MODULET_ENV_TAINT"),
        ("--unreachable-after", "MODULET_UNREACHABLE_AFTER"),
        ("--dead-after", "MODULET_DEAD_AFTER"),
        ("--superseded-ttl", "MODULET_SUPERSEDED_TTL"),
        ("--list-every", "MODULET_LIST_EVERY"),
        ("--module-urls", "MODULET_MODULE_URLS"),
        ("--base-addresses", "MODULET_BASE_ADDRESSES"),
        ("--shared-module-names", "MODULET_SHARED_MODULE_NAMES"),
        ("--metaspace-low", "MODULET_METASPACE_LOW"),
        ("--metaspace-wait", "MODULET_METASPACE_WAIT"),
        ("--metrics-per-base", "MODULET_METRICS_PER_BASE"),
        ("--probes", "MODULET_PROBES"),
        ("--probe-hosts", "MODULET_PROBE_HOSTS"),
    ] {
        assert!(text.contains(&format!(" {option} ")), "{option} is not in:\n{text}");
        let named = [format!("[env: {variable}="), format!("[env: {variable}]")];
        assert!(named.iter().any(|n| text.contains(n)), "{variable} is not in:\n{text}");
    }
    let secret = run(&["--help"], &[("MQTT_PASSWORD", "do not show")]).await?;
    assert!(!String::from_utf8(secret.stdout)?.contains("do not show"), "help shows the password");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_work_are_refused_by_name() -> Result<()> {
    for (args, variables, words) in [
        (&["--mqtt-port", "0"][..], &[][..], &["'0'", "--mqtt-port"][..]),
        (&[], &[("MQTT_PORT", "mqtt")], &["'mqtt'", "--mqtt-port"]),
        (&[], &[("MQTT_PORT", "70000")], &["'70000'", "--mqtt-port"]),
        (&[], &[("MQTT_BROKER", "tcp://broker:1883")], &["'tcp://broker:1883'", "without scheme or port"]),
        (&[], &[("ENV", "a.b")], &["'a.b'", "--env"]),
        (&[], &[("ENABLE_MQTT_TUNNEL", "perhaps")], &["'perhaps'", "--enable-mqtt-tunnel"]),
        (&[], &[("MODULET_LOG_FORMAT", "xml")], &["'xml'", "--log-format", "json"]),
        (&[], &[("MODULET_HTTP_ADDRESS", "8080")], &["'8080'", "--http-address"]),
        (&["--mqtt-host", "x"], &[], &["'--mqtt-host'", "unexpected"]),
        (&[], &[("MQTT_CA_PATH", "/ca"), ("MQTT_CLIENT_CRT_PATH", "/crt")], &["--mqtt-client-key-path"]),
        (&[], &[("MQTT_CA_PATH", "/ca"), ("MQTT_CLIENT_KEY_PATH", "/key")], &["--mqtt-client-crt-path"]),
        (&[], &[("MQTT_PASSWORD", "x"), ("MQTT_PASSWORD_FILE", "/password")], &["--mqtt-password-file"]),
        (&[], &[("MQTT_PORT", "tcp://10.96.0.7:1883")], &["enableServiceLinks", "--mqtt-port"]),
    ] {
        let output = run(args, variables).await?;
        assert_eq!(output.status.code(), Some(2), "{args:?} {variables:?}");
        let text = String::from_utf8(output.stderr)?;
        assert!(text.starts_with("error: "), "{text}");
        for word in words {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_told_in_one_line() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let good = cluster.kubeconfig().display().to_string();
    let directory = tempfile::tempdir()?;
    let malformed = directory.path().join("malformed");
    std::fs::write(&malformed, "clusters: [")?;
    let malformed = malformed.display().to_string();
    let missing = directory.path().join("missing").display().to_string();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let taken = listener.local_addr()?.to_string();
    let free = "127.0.0.1:0";

    for (variables, words) in [
        ([("KUBECONFIG", &*missing), ("MODULET_HTTP_ADDRESS", free)], [&*missing, "No such file"]),
        ([("KUBECONFIG", &malformed), ("MODULET_HTTP_ADDRESS", free)], [&malformed, "line 1"]),
        ([("KUBECONFIG", "/"), ("MODULET_HTTP_ADDRESS", free)], ["kubeconfig /", "Is a directory"]),
        ([("KUBECONFIG", &good), ("MODULET_HTTP_ADDRESS", &taken)], [&taken, "in use"]),
    ] {
        one_line(&variables, &words).await?;
    }
    let tls = [("KUBECONFIG", &*good), ("MODULET_HTTP_ADDRESS", free), ("MQTT_CA_PATH", &*missing)];
    one_line(&tls, &[&missing, "No such file"]).await?;
    let proxy = [("KUBECONFIG", &*good), ("MODULET_HTTP_ADDRESS", free), ("HTTPS_PROXY", "http://me:a secret@proxy")];
    one_line(&proxy, &["proxy url"]).await?;
    let password = [("KUBECONFIG", &*good), ("MODULET_HTTP_ADDRESS", free), ("MQTT_PASSWORD_FILE", "/dev/zero")];
    one_line(&[&password[..], &[("MQTT_USERNAME", "me")]].concat(), &["/dev/zero", "not a regular file"]).await?;
    one_line(&[("MODULET_HTTP_ADDRESS", free)], &["no cluster", "KUBECONFIG"]).await?;
    one_line(&[("MODULET_LOG", "modulet=loud")], &["modulet=loud"]).await
}

async fn one_line(variables: &[(&str, &str)], words: &[&str]) -> Result<()> {
    let output = run(&[], variables).await?;
    assert_eq!(output.status.code(), Some(1), "{variables:?}");
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("modulet: ") && !text.contains("a secret"), "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_counts_as_not_set() -> Result<()> {
    let stage = Stage::set_with("config-empty", |mut options| {
        for name in ["CLIENT_ID", "NAMESPACE", "MQTT_CA_PATH", "MQTT_CLIENT_CRT_PATH", "MODULET_MAX_PODS"] {
            options = options.env(name, "");
        }
        options
    })
    .await?;
    stage.base(stage.base_options("base-1")).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_where_asked_for_and_metrics_tell_what_happened() -> Result<()> {
    let stage = Stage::set_with("config-json", |options| options.env("MODULET_LOG_FORMAT", "json")).await?;
    let _base = stage.base(stage.base_options("base-1")).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "0.0.1")])).await?;
    stage.pod_ready("biz1").await?;

    let controller = &stage.controller;
    eventually("one base online and one Pod", SOON, async || {
        let bases = controller.metric("modulet_bases", &[("name", "online")]).await?;
        let pods = controller.metric("modulet_pods", &[]).await?;
        ensure!((bases, pods) == (1.0, 1.0), "{bases} bases, {pods} Pods");
        Ok(())
    })
    .await?;
    for (name, labels, value) in [
        ("modulet_commands_total", &[("name", "installBiz")][..], 1.0),
        ("modulet_commands_total", &[("name", "uninstallBiz")], 0.0),
        ("modulet_messages_total", &[("name", "bizOperation")], 1.0),
        ("modulet_messages_refused_total", &[], 0.0),
        ("modulet_bound_to_command_seconds_count", &[], 1.0),
        ("modulet_broker_connected", &[], 1.0),
        ("modulet_queue_overflows_total", &[], 0.0),
    ] {
        let is = controller.metric(name, labels).await?;
        assert!((is - value).abs() < f64::EPSILON, "{name} {labels:?} is {is}");
    }
    let text = controller.metrics().await?;
    for series in [
        "modulet_messages_total{name=\"heart\"}",
        "modulet_reply_to_status_seconds_bucket",
        "modulet_step_seconds_bucket",
        "modulet_queue_depth{name=\"commands\"}",
        "modulet_queue_depth{name=\"writes\"}",
        "modulet_bases{name=\"unreachable\"}",
    ] {
        assert!(text.contains(series), "{series} is not in:\n{text}");
    }

    let log = controller.log_text();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "message", "target"] {
            assert!(entry[field].is_string(), "no {field} in {line}");
        }
    }
    assert!(log.lines().any(|line| line.contains("\"module\":\"biz1:0.0.1\"")), "{log}");
    stage.ends_quietly().await
}

/// On one broker, in one cluster, with bases of the same identity.
#[tokio::test(flavor = "multi_thread")]
async fn controllers_of_two_environments_leave_each_others_nodes_alone() -> Result<()> {
    let stage = Stage::set_with("config-one", quick_death).await?;
    let address = stage.broker.address();
    let options = ControllerOptions::new(BINARY, stage.cluster.kubeconfig(), address);
    let mut second =
        Controller::start(quick_death(options.env("ENV", "CONFIG-TWO").env("CLIENT_ID", "the-second"))).await?;
    let one = stage.base(stage.base_options("base-1")).await?;
    let options = modulet_testkit::base::BaseOptions { env: "Config-Two".into(), ..stage.base_options("base-1") };
    let two = SimulatedBase::start(options.clone()).await?;
    // A controller that hears nobody at all gives nobody up.
    let _witness = SimulatedBase::start(modulet_testkit::base::BaseOptions { id: "base-2".into(), ..options }).await?;
    stage.node_ready("vnode.base-1.config-two", "True").await?;
    for (controller, expected) in [(&stage.controller, 1.0), (&second, 2.0)] {
        eventually("its own bases", SOON, async || {
            let bases = controller.metric("modulet_bases", &[("name", "online")]).await?;
            ensure!((bases - expected).abs() < f64::EPSILON, "{bases} bases");
            Ok(())
        })
        .await?;
    }

    // The second one's Node is deleted neither when its controller goes nor when its base dies.
    second.terminate().await?;
    two.kill();
    one.kill();
    stage.node_gone("vnode.base-1.config-one").await?;
    stage.nodes().get("vnode.base-1.config-two").await?;
    second.restart().await?;
    stage.node_gone("vnode.base-1.config-two").await?;
    stage.ends_quietly().await
}

fn quick_death(options: ControllerOptions) -> ControllerOptions {
    options.env("MODULET_UNREACHABLE_AFTER", "5").env("MODULET_DEAD_AFTER", "2")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tunnel_it_lives_and_is_not_ready_and_says_why() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = Mosquitto::start().await?;
    let options = ControllerOptions::new(BINARY, cluster.kubeconfig(), broker.address());
    let options = options.env("ENABLE_MQTT_TUNNEL", "false").env("ENV", "config-no-tunnel");
    let controller = Controller::start_unready(options)?;
    eventually("the answer of /readyz", SOON, async || {
        controller.get("/healthz").await?;
        let error = controller.get("/readyz").await.err().context("it is ready")?.to_string();
        ensure!(error.contains("503") && !error.contains("API server"), "{error}");
        ensure!(error.contains("a tunnel to the bases") && error.contains("ENABLE_MQTT_TUNNEL=false"), "{error}");
        Ok(())
    })
    .await?;
    assert!(controller.log_text().contains("ENABLE_MQTT_TUNNEL"), "{}", controller.log_text());
    Ok(())
}
