//! Several replicas of one controller: one leads, and whatever happens to it, nothing is lost or done twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use modulet_testkit::{
    audit::AuditLog,
    base::{Activation, BizState, HttpBase, HttpOptions},
    control_plane::{ControlPlane, ControlPlaneOptions},
    controller::{Controller, ControllerOptions},
    ports::free_port,
    proxy::Proxy,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    faults_help::bound,
    replicas_help::{Before, FOLLOWED, conditions, fleet, followed, holder, leads, leases, pod_of, replica},
    stage::{SOON, Stage},
    workloads::{bases, deployment, ready_pods, rolled_out},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_stop_hands_over_at_once() -> Result<()> {
    let mut stage = Stage::set("replicas-stop").await?;
    let second = replica(&stage, "second", |o| o).await?;
    let fleet = fleet(&stage, 20).await?;
    let before = Before::of(&stage, &fleet).await?;
    let (ended, followed) =
        tokio::join!(stage.controller.terminate(), async { followed(&[&second], Duration::from_secs(5)).await });
    ensure!(ended?.success());
    let (_, after) = followed?;
    assert!(after < Duration::from_secs(3), "{after:?}");
    stage.create_pod(bound(&stage, &fleet.identities()[3], "late", "1")).await?;
    stage.pod_ready("late").await?;
    before.holds(&stage, &fleet, 1, 0).await?;
    assert!(second.log_text().contains("leading: the one before gave it up"), "{}", second.log_text());
    // People see it where they look who leads.
    let lease = format!("modulet-{}", stage.name);
    eventually("an Event of the Lease", SOON, async || {
        let told = stage.kubectl(&["describe", "lease", &lease, "--namespace", "default"]).await?;
        let events = told.split_once("Events:").context("no Events")?.1;
        let is_told = |line: &str| {
            line.contains("LeaderElection")
                && line.contains("second_")
                && line.ends_with("became leader: the one before gave it up")
        };
        ensure!(events.lines().filter(|line| is_told(line)).count() == 1, "{told}");
        Ok(())
    })
    .await?;
    stage.controller.restart().await?;
    stage.ends_quietly().await
}

/// It stands still with a lead in its hands, and wakes up when another has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_for_a_minute_does_nothing_when_it_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let audit = AuditLog::of(directory.path(), &["default:first", "default:second"])?;
    let cluster = ControlPlane::start_own(audit.control_plane()).await?;
    let [first, second] = ["first", "second"].map(|name| cluster.kubeconfig_for_administrator(name));
    let (first, second) = (first.await?.display().to_string(), second.await?.display().to_string());
    let mut stage = Stage::set_on(cluster, "replicas-frozen", |o| o.env("KUBECONFIG", first)).await?;
    let second = replica(&stage, "second", |o| o.env("KUBECONFIG", second)).await?;
    let written_by = |who: &str, since: Timestamp| -> Result<Vec<String>> {
        let lines = audit.lines()?.into_iter().filter(|line| line.is_write_of_a_leader() && line.who() == who);
        let later = lines.filter(|line| line.request_received_timestamp.0 >= since);
        Ok(later.map(|line| format!("{} {}", line.verb, line.uri)).collect())
    };
    let fleet = fleet(&stage, 20).await?;
    let ordered = fleet.received("installBiz");
    stage.controller.process()?.pause()?;
    let paused = Instant::now();
    followed(&[&second], FOLLOWED).await?;
    let taken_over = Timestamp::now();
    ensure!(!written_by("first", Timestamp::MIN)?.is_empty(), "the audit log does not see the first");
    // What the frozen one does not know: these come and go.
    let base = &fleet.identities()[0];
    stage.create_pod(bound(&stage, base, "new", "1")).await?;
    stage.pod_ready("new").await?;
    stage.delete_pod(&pod_of(base)).await?;
    sleep(Duration::from_secs(60).saturating_sub(paused.elapsed())).await; // as long as it is to stand still
    let (installs, uninstalls) = (fleet.received("installBiz"), fleet.received("uninstallBiz"));
    assert_eq!((installs, uninstalls), (ordered + 1, 1));
    stage.controller.process()?.resume()?;
    let renewed_by = async || -> Result<Vec<String>> {
        let all = leases(&stage, "kube-node-lease").list(&ListParams::default()).await?;
        let ours =
            all.items.into_iter().filter(|l| l.metadata.name.as_deref().is_some_and(|n| n.ends_with(&*stage.name)));
        Ok(ours.filter_map(|lease| lease.spec?.holder_identity).collect())
    };
    // It ends, as who lost the lead does; until then and after nobody else renews a Node, or commands.
    eventually("the old leader ends", Duration::from_secs(10), async || {
        let holders = renewed_by().await?;
        ensure!(holders.len() == 20, "{}", holders.len());
        assert!(holders.iter().all(|holder| holder == "second"), "{holders:?}");
        stage.controller.process()?.exit().context("it runs")
    })
    .await?;
    assert!(stage.controller.log_text().contains("another replica leads"), "{}", stage.controller.log_text());
    sleep(Duration::from_secs(5)).await; // in which nothing may happen
    assert!(renewed_by().await?.iter().all(|holder| holder == "second"));
    assert_eq!((fleet.received("installBiz"), fleet.received("uninstallBiz")), (installs, uninstalls));
    assert_eq!(written_by("first", taken_over)?, [""; 0], "by the word of the API server");
    assert!(!written_by("second", taken_over)?.is_empty());
    assert!(leads(&second).await?);
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_of_the_controller_in_the_midst_of_a_release_is_seen_by_nobody() -> Result<()> {
    const BASES: usize = 6;
    let mut stage = Stage::set("replicas-update").await?;
    let mut second = replica(&stage, "second", |o| o).await?;
    let bases = bases(&stage, BASES, Activation::ActivateNew).await?;
    let limits = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    for name in ["still", "moves"] {
        stage.apply(&deployment(&stage, name, BASES, "1", &limits)).await?;
        rolled_out(&stage, &format!("deployment/{name}")).await?;
    }
    let still = conditions_of(&stage, "still").await?;
    stage.apply(&deployment(&stage, "moves", BASES, "2", &limits)).await?;
    // As a Deployment does it: one more comes, then an old one goes.
    let third = replica(&stage, "third", |o| o).await?;
    stage.controller.terminate().await?;
    let fourth = replica(&stage, "fourth", |o| o).await?;
    second.terminate().await?;
    rolled_out(&stage, "deployment/moves").await?;
    ready_pods(&stage, "2", BASES).await?;
    assert_eq!(conditions_of(&stage, "still").await?, still);
    for base in bases.iter() {
        let installs = base.commands().iter().filter(|c| c.command == "installBiz").count();
        assert_eq!(installs, 3, "one for each version on each base: {:?}", base.commands());
        let active = base.modules().iter().filter(|m| m.2 == BizState::Activated).count();
        assert_eq!(active, 2);
    }
    ensure!(leads(&third).await? != leads(&fourth).await?);
    stage.controller.restart().await?;
    stage.ends_quietly().await
}

async fn conditions_of(stage: &Stage, name: &str) -> Result<Vec<(String, Vec<(String, String, String)>)>> {
    Ok(conditions(stage).await?.into_iter().filter(|(key, _)| key.starts_with(name)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_loses_the_broker_hands_over_to_a_standby_that_has_it() -> Result<()> {
    let stage = Stage::set("replicas-broker").await?;
    // The leader is to be the one behind a proxy, so the stage's own waits.
    let proxy = Proxy::start(0, &format!("127.0.0.1:{}", stage.broker.address().port)).await?;
    let port = proxy.port().to_string();
    let mut stage = stage;
    let behind = replica(&stage, "behind", |o| o.env("MQTT_PORT", port)).await?;
    stage.controller.terminate().await?;
    followed(&[&behind], Duration::from_secs(5)).await?;
    stage.controller.restart().await?;
    let fleet = fleet(&stage, 10).await?;
    let before = Before::of(&stage, &fleet).await?;
    proxy.cut(true);
    let (_, after) = followed(&[&stage.controller], Duration::from_secs(20)).await?;
    assert!(after < Duration::from_secs(10), "{after:?}");
    let base = &fleet.identities()[2];
    stage.create_pod(bound(&stage, base, "late", "1")).await?;
    stage.pod_ready("late").await?;
    before.holds(&stage, &fleet, 1, 0).await?;
    eventually("the one without a broker ends, to stand by", SOON, async || {
        behind.process()?.exit().context("it runs")
    })
    .await?;
    stage.ends_quietly().await
}

/// A kubeconfig that goes through a proxy.
async fn through_proxy(kubeconfig: &std::path::Path) -> Result<(Proxy, tempfile::NamedTempFile)> {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    let server = &mut config["clusters"][0]["cluster"]["server"];
    let address = server.as_str().context("no server")?.trim_start_matches("https://").to_owned();
    let proxy = Proxy::start(0, &address).await?;
    let file = tempfile::NamedTempFile::new()?;
    *server = json!(format!("https://127.0.0.1:{}", proxy.port()));
    std::fs::write(file.path(), config.to_string())?;
    Ok((proxy, file))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_loses_the_api_server_is_followed_and_commands_nothing_after() -> Result<()> {
    let mut stage = Stage::set("replicas-api").await?;
    let (proxy, kubeconfig) = through_proxy(stage.cluster.kubeconfig()).await?;
    let path = kubeconfig.path().display().to_string();
    let behind = replica(&stage, "behind", |o| o.env("KUBECONFIG", path)).await?;
    stage.controller.terminate().await?;
    followed(&[&behind], Duration::from_secs(5)).await?;
    stage.controller.restart().await?;
    let fleet = fleet(&stage, 10).await?;
    let mut before = Before::of(&stage, &fleet).await?;
    proxy.cut(true);
    followed(&[&stage.controller], FOLLOWED).await?;
    // What a leader that sees nothing any more would do wrong: its Pod goes and comes on another base.
    let (old, new) = (&fleet.identities()[0], &fleet.identities()[1]);
    stage.delete_pod(&pod_of(old)).await?;
    stage.create_pod(bound(&stage, new, "late", "1")).await?;
    stage.pod_ready("late").await?;
    fleet.restart(0); // it asks for its baseline: the old one would have it install what nobody wants any more
    sleep(Duration::from_secs(12)).await; // in which the old one would answer
    assert_eq!(fleet.modules(0), [], "the old leader commands");
    for moved in [pod_of(old), stage.node_name(old)] {
        before.conditions.remove(&moved).context(moved)?;
    }
    before.holds(&stage, &fleet, 1, 1).await?;
    proxy.cut(false);
    eventually("it learns of it and ends", SOON, async || behind.process()?.exit().context("it runs")).await?;
    stage.ends_quietly().await
}

/// Nobody can take over, so the leader goes on with what needs no record.
#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_has_the_api_server_the_leader_stays_and_is_whole_at_once_when_it_is_back() -> Result<()> {
    let cluster = ControlPlane::start_own(ControlPlaneOptions::default()).await?;
    let stage = Stage::set_on(cluster, "replicas-nobody", |o| o).await?;
    let second = replica(&stage, "second", |o| o).await?;
    let fleet = fleet(&stage, 10).await?;
    let memory = resident(&stage.controller)?;
    cluster.stop_api_server().await?;
    let beats = stage.controller.metric("modulet_messages_total", &[]).await?;
    // Longer than a Lease lasts, four times; or as long as somebody wants to know.
    let seconds = std::env::var("MODULET_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(45);
    sleep(Duration::from_secs(seconds)).await;
    fleet.restart(0);
    eventually("a base that restarts has its module", SOON, async || {
        let active = fleet.modules(0).iter().filter(|m| m.2 == BizState::Activated).count();
        ensure!(active == 1, "{:?}", fleet.modules(0));
        Ok(())
    })
    .await?;
    ensure!(stage.controller.metric("modulet_messages_total", &[]).await? > beats, "it hears nobody");
    cluster.start_api_server().await?;
    let back = Instant::now();
    stage.create_pod(bound(&stage, &fleet.identities()[1], "late", "1")).await?;
    stage.pod_ready("late").await?;
    let whole = back.elapsed();
    assert!(whole < Duration::from_secs(15), "{whole:?}");
    ensure!(leads(&stage.controller).await? && !leads(&second).await?, "the lead moved though nobody died");
    let grown = resident(&stage.controller)?.saturating_sub(memory);
    println!("whole {whole:?} after the API server's return, {grown} bytes more than before");
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
    stage.ends_quietly().await
}

/// Bytes in memory.
fn resident(controller: &Controller) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", controller.process()?.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_person_deletes_is_made_anew_and_nobody_fights() -> Result<()> {
    let stage = Stage::set("replicas-deleted").await?;
    let second = replica(&stage, "second", |o| o).await?;
    let fleet = fleet(&stage, 3).await?;
    let ordered = fleet.received("installBiz");
    let name = format!("modulet-{}", stage.name);
    for _ in 0..3 {
        leases(&stage, "default").delete(&name, &DeleteParams::default()).await?;
        eventually("a Lease", Duration::from_secs(5), async || holder(&stage).await.map(drop)).await?;
        assert_eq!(holder(&stage).await?, "modulet-under-test");
    }
    ensure!(leads(&stage.controller).await? && !leads(&second).await?);
    let text = stage.kubectl(&["get", "lease", "-n", "default", &name]).await?;
    ensure!(text.contains("modulet-under-test_"), "{text}");
    assert_eq!(fleet.received("installBiz"), ordered);
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_in_one_namespace_have_nothing_to_do_with_each_other() -> Result<()> {
    let (one, two) = (Stage::set("replicas-one").await?, Stage::set("replicas-two").await?);
    ensure!(leads(&one.controller).await? && leads(&two.controller).await?);
    let (_first, _second) = (fleet(&one, 2).await?, fleet(&two, 2).await?);
    ensure!(leads(&one.controller).await? && leads(&two.controller).await?);
    one.ends_quietly().await?;
    two.ends_quietly().await
}

/// A base over HTTP posts to one replica: the Service has to find the one that leads.
#[tokio::test(flavor = "multi_thread")]
async fn the_pod_of_the_leader_has_a_label_for_the_service_of_bases_over_http() -> Result<()> {
    let (first_port, second_port) = (free_port()?, free_port()?);
    let options = |port: u16| {
        move |o: ControllerOptions| {
            o.env("ENABLE_HTTP_TUNNEL", "true")
                .env("ENABLE_MQTT_TUNNEL", "false")
                .env("HTTP_TUNNEL_LISTEN_PORT", port.to_string())
        }
    };
    let mut stage = Stage::set_with("replicas-http", |o| options(first_port)(o.env("CLIENT_ID", "http-one"))).await?;
    let second = replica(&stage, "http-two", options(second_port)).await?;
    // A kubelet would have made them.
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "default");
    for name in ["http-one", "http-two"] {
        let pod = json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "modulet", "image": "modulet" }] } });
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    }
    let labelled = async || -> Result<Vec<String>> {
        let found = pods.list(&ListParams::default().labels("modulet.koupleless.io/leader=true")).await?;
        Ok(found
            .items
            .into_iter()
            .filter_map(|pod| pod.metadata.name)
            .filter(|name| name.starts_with("http-"))
            .collect())
    };
    // It led before its Pod could be labelled; a container that starts anew finds it.
    stage.controller.kill9().await?;
    stage.controller.restart().await?;
    let has = async |name: &str| {
        eventually("the label", SOON, async || {
            let found = labelled().await?;
            ensure!(found == [name], "{found:?}");
            Ok(())
        })
        .await
    };
    has("http-one").await?;
    // Where the Service leads.
    let service = Proxy::start(0, &format!("127.0.0.1:{first_port}")).await?;
    let at = service.port();
    let _base = HttpBase::start(stage.base_options("base-1"), HttpOptions::new(at)).await?;
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    stage.create_pod(bound(&stage, "base-1", "biz1", "1")).await?;
    stage.pod_ready("biz1").await?;
    let ready = conditions(&stage).await?;

    stage.controller.kill9().await?;
    followed(&[&second], FOLLOWED).await?;
    has("http-two").await?;
    drop(service);
    let to = format!("127.0.0.1:{second_port}");
    let _service = eventually("the Service's port", SOON, async || Proxy::start(at, &to).await).await?;
    stage.create_pod(bound(&stage, "base-1", "biz2", "1")).await?;
    stage.pod_ready("biz2").await?;
    let now = conditions(&stage).await?;
    ready.iter().for_each(|(name, was)| assert_eq!(now.get(name), Some(was), "{name}"));
    for name in ["http-one", "http-two"] {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    }
    stage.controller.restart().await?;
    stage.ends_quietly().await
}
