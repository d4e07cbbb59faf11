//! What is shown, step by step.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use modulet_testkit::{java_base::module_url, ports, wait::eventually};
use tokio::time::Instant;

use crate::{
    Story,
    bases::{self, Base, COUNT},
    batches,
    cluster::{self, Cluster, NAMESPACE},
    controller,
    scene::{PodSeen, Scene},
    screen::Screen,
    stage::{ENV, Stage},
    way::Way,
};

const EXAMPLE: &str = "examples/module-deployment.yaml";
/// Where the example's modules are said to be.
const STORE: &str = "https://modules.example.com";
pub(crate) const OLD: &str = "0.0.1";
pub(crate) const NEW: &str = "0.0.2";
/// Long enough for a machine that has other things to do as well, and for three JVMs.
pub(crate) const SOON: Duration = Duration::from_mins(1);
pub(crate) const ROLLOUT: Duration = Duration::from_mins(3);

/// The story from its beginning to its end.
pub(crate) async fn tell(stage: &mut Stage, screen: &Screen) -> Result<()> {
    // All that can be missing is found out before anything is started.
    let (port, what, option) = match &stage.options {
        options if options.http => (options.http_port, "modulet", "--http --http-port"),
        options => (options.broker_port, "the broker", "--broker-port"),
    };
    ensure!(
        ports::is_free(port),
        "port {port} of 127.0.0.1 is taken; give {what} another one: make demo DEMO_ARGS='{option} PORT'"
    );
    let is_rollout = stage.options.story == Story::Rollout;
    ensure!(
        !(is_rollout && stage.options.real),
        "--story rollout has an error on one base, which a JVM does not make: leave out --real"
    );
    if stage.options.real {
        bases::prepare_java(screen).await?;
    }
    let binary = controller::prepare(screen).await?;
    let kubectl = cluster::prepare(screen).await?;

    start_cluster(stage, screen, kubectl).await?;
    if is_rollout {
        batches::define(stage, screen).await?;
    }
    start_modulet(stage, screen, port, &binary).await?;
    start_bases(stage, screen).await?;
    if is_rollout {
        return batches::tell(stage, screen).await;
    }
    release(stage, screen).await?;
    update(stage, screen).await?;
    clean_up(stage, screen).await?;
    count(stage, screen).await
}

async fn start_cluster(stage: &mut Stage, screen: &Screen, kubectl: std::path::PathBuf) -> Result<()> {
    if cluster::is_given() {
        screen.step("Kubernetes: the cluster of your KUBECONFIG");
    } else {
        screen.step("Kubernetes starts: etcd, API server, controller manager and scheduler, nothing else");
    }
    let start = Instant::now();
    let cluster = stage.cluster.insert(Cluster::start(kubectl).await?);
    cluster.create_namespace().await?;
    let (file, took) = (cluster.kubeconfig().display(), start.elapsed().as_secs_f64());
    if cluster.is_given() {
        screen.say(&format!(
            "The demo's namespace there is {NAMESPACE}, and the environment in its Nodes' names is {ENV}."
        ));
    } else {
        screen.say(&format!("Up after {took:.1} s, with no Node yet. Its kubeconfig: {file}"));
    }
    Ok(())
}

async fn start_modulet(stage: &mut Stage, screen: &Screen, port: u16, binary: &Path) -> Result<()> {
    let (way, place) = if stage.options.http {
        screen.step("modulet starts, and takes heartbeats over HTTP: there is no broker");
        (Way::Http { port }, format!("Heartbeats go to 127.0.0.1:{port}"))
    } else {
        screen.step("An MQTT broker starts, and modulet, which connects the two");
        (Way::mqtt(port).await?, format!("The broker is at 127.0.0.1:{port}"))
    };
    let way = stage.way.insert(way);
    let kubeconfig = stage.cluster.as_ref().context("no cluster")?.kubeconfig();
    let controller = controller::start(binary, kubeconfig, way).await?;
    screen.say(&format!("{place}, modulet's log is {}", controller.log_path().display()));
    stage.controller = Some(controller);
    Ok(())
}

async fn start_bases(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let what = if stage.options.real { "JVMs" } else { "simulated bases" };
    let way = stage.way()?.name();
    screen.step(&format!("Three {what} start and say hello over {way}: each becomes a Node"));
    screen.say("A base is a running JVM that loads and unloads modules. Here a newer version of a module serves as");
    screen.say("soon as it has started (activate.new.module=true).");
    screen.command("kubectl get nodes --watch");
    screen.status(&format!("the {what} start"));
    stage.bases = Base::start_all(stage.options.real, stage.way()?).await?;
    stage
        .watch(screen, "the Nodes", SOON, |scene| {
            let ready = scene.nodes.values().filter(|node| node.ready).count();
            lacking(ready, "Nodes are Ready")
        })
        .await?;
    stage.scene.print_nodes(screen);
    Ok(())
}

/// The example as it is, or with the place where a JVM finds the modules.
fn manifest(real: bool) -> Result<(String, Option<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if !real {
        return Ok((text, None));
    }
    let url = module_url("biz1", OLD);
    let store = url.rsplit_once('/').context("a URL without a path")?.0;
    Ok((text.replace(STORE, store), Some(format!("s#{STORE}#{store}#"))))
}

async fn release(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.step(&format!("A release: a Deployment wants module biz1 {OLD} on three bases, one Pod each"));
    let (text, sed) = manifest(stage.options.real)?;
    let said = if let Some(sed) = sed {
        screen.command(&format!("sed '{sed}' {EXAMPLE} | kubectl -n {NAMESPACE} apply -f -"));
        stage.cluster()?.apply(&text).await?
    } else {
        screen.command(&format!("kubectl -n {NAMESPACE} apply -f {EXAMPLE}"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
        stage.cluster()?.kubectl(&["apply", "-f", &path.display().to_string()]).await?
    };
    screen.output(&said);
    stage.watch(screen, &format!("biz1 {OLD}"), ROLLOUT, |scene| all_serve(scene, OLD)).await?;
    tables(&stage.scene, screen);
    Ok(())
}

async fn update(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.step(&format!("An update to biz1 {NEW}: BIZ_VERSION, version label, URL and anti-affinity change"));
    let (text, sed) = manifest(stage.options.real)?;
    let sed = sed.map(|sed| format!("{sed}; ")).unwrap_or_default();
    screen.command(&format!("sed '{sed}s/{OLD}/{NEW}/' {EXAMPLE} | kubectl -n {NAMESPACE} apply -f -"));
    screen.output(&stage.cluster()?.apply(&text.replace(OLD, NEW)).await?);
    screen.say("Base by base: the new version starts beside the old one and serves, and the old Pod is Failed with");
    screen
        .say("reason BizDeactivate. A Pod that Kubernetes makes in its place meanwhile is held: it installs nothing.");
    // Not every old Pod need be there: the Deployment deletes the ones it sees as superfluous before they are Failed.
    let superseded = |pod: &&PodSeen| pod.phase == "Failed" && pod.reason == "BizDeactivate";
    stage
        .watch(screen, &format!("biz1 {NEW}"), ROLLOUT, |scene| {
            let rest = scene.pods_of(OLD).filter(|pod| !superseded(pod) && !pod.is_going()).count();
            let left = (rest > 0).then(|| format!("{rest} other Pods of {OLD} are there"));
            all_serve(scene, NEW).or(left)
        })
        .await?;
    tables(&stage.scene, screen);
    if let Some(pod) = stage.scene.pods_of(OLD).find(superseded) {
        screen.line("");
        screen.say(&format!("An old Pod says: {}", pod.message));
    }
    Ok(())
}

async fn clean_up(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.step(&format!("The old Pods are deleted, and biz1 {OLD} is uninstalled"));
    screen.say("Left alone, the module goes after the Pods' grace period (30 s), and the Failed Pods after a minute.");
    let delete = ["delete", "pods", "--field-selector=status.phase=Failed"];
    screen.command(&format!("kubectl -n {NAMESPACE} {}", delete.join(" ")));
    stage.cluster()?.kubectl(&[delete.as_slice(), &["--wait=false"]].concat()).await?;
    stage
        .watch(screen, &format!("biz1 {OLD} to leave"), SOON, |scene| {
            let pods = scene.pods_of(OLD).count();
            let left = (pods > 0).then(|| format!("{pods} of its Pods are there"));
            left.or_else(|| lacking(scene.bases_with_only(NEW), &format!("bases run biz1 {NEW} alone")))
        })
        .await?;
    tables(&stage.scene, screen);
    Ok(())
}

async fn count(stage: &Stage, screen: &Screen) -> Result<()> {
    let Way::Mqtt { spy, .. } = stage.way()? else { return count_all(stage, screen).await };
    screen.step("What it took, counted on the wire: never more commands than the work needs");
    let heard = |id: &str, command: &str, version: &str| {
        let topic = format!("koupleless_{ENV}/{id}/{command}");
        spy.count(|message| message.topic == topic && message.json()["bizVersion"] == version)
    };
    // What a base has done already the broker may not have told everybody else.
    eventually("the last command to be heard", Duration::from_secs(5), async || {
        match bases::ids().find(|id| heard(id, "uninstallBiz", OLD) == 0) {
            None => Ok(()),
            Some(id) => bail!("nothing to {id}"),
        }
    })
    .await?;
    let columns = [("installBiz", OLD), ("uninstallBiz", OLD), ("installBiz", NEW), ("uninstallBiz", NEW)];
    let titles = columns.iter().map(|(command, version)| format!("{command} {version}"));
    let mut rows = vec![std::iter::once("BASE".to_owned()).chain(titles).collect::<Vec<_>>()];
    let mut exact = true;
    for id in bases::ids() {
        let counts = columns.map(|(command, version)| heard(&id, command, version));
        exact &= counts == [1, 1, 1, 0];
        rows.push(std::iter::once(id).chain(counts.map(|count| count.to_string())).collect());
    }
    screen.table(&rows);
    ensure!(exact, "these are not the commands the work needs");
    Ok(())
}

/// Over HTTP nobody else hears all commands: modulet's own counts, of all bases together.
async fn count_all(stage: &Stage, screen: &Screen) -> Result<()> {
    screen.step("What it took, as modulet counts: never more commands than the work needs");
    let mut rows = vec![["COMMAND", "TO ALL BASES"].map(str::to_owned).to_vec()];
    let mut exact = true;
    for (command, needed) in [("installBiz", 2 * COUNT), ("switchBiz", 0), ("uninstallBiz", COUNT)] {
        let sent = stage.controller()?.metric("modulet_commands_total", &[("name", command)]).await?;
        let sent = format!("{sent:.0}");
        exact &= sent == needed.to_string();
        rows.push(vec![command.to_owned(), sent]);
    }
    screen.table(&rows);
    ensure!(exact, "these are not the commands the work needs");
    Ok(())
}

/// The invitation; then prints what changes, for ever.
pub(crate) async fn stay(stage: &mut Stage, screen: &Screen) {
    screen.step("Now you: all of it stays up until Ctrl-C, and what changes is printed here");
    if let Ok(cluster) = stage.cluster() {
        screen.say("In another terminal:");
        screen.line("");
        if let Some(directory) = cluster.kubectl_directory() {
            screen.say(&format!("  export PATH=\"$PATH:{}\"", directory.display()));
        }
        screen.say(&format!("  export KUBECONFIG={}", cluster.kubeconfig().display()));
        screen.say(&format!("  kubectl get nodes,pods -o wide -n {NAMESPACE}"));
        screen.say(&format!("  kubectl describe pods -n {NAMESPACE}"));
        screen.say(&format!("  kubectl rollout undo deployment/biz1 -n {NAMESPACE}"));
        for url in stage.bases.iter().filter_map(Base::url) {
            screen.say(&format!("  curl {url}/biz1"));
        }
        if let Ok(controller) = stage.controller() {
            screen.say(&format!("  curl http://{}/metrics", controller.http_address()));
        }
        screen.line("");
    }
    loop {
        // Whoever plays may well stop something; it is seen when it is back.
        let _ = tokio::time::timeout(SOON, stage.look(screen)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) fn tables(scene: &Scene, screen: &Screen) {
    scene.print_pods(screen);
    scene.print_bases(screen);
}

/// What is missing until every base has a Ready Pod of this version and, where it can be asked, answers with it.
pub(crate) fn all_serve(scene: &Scene, version: &str) -> Option<String> {
    let ready = scene.pods_of(version).filter(|pod| pod.ready).count();
    let serving = scene.bases.values().filter(|base| base.serves(version)).count();
    lacking(ready, &format!("Pods of biz1 {version} are Ready"))
        .or_else(|| lacking(serving, &format!("bases serve biz1 {version}")))
}

fn lacking(count: usize, what: &str) -> Option<String> {
    (count != COUNT).then(|| format!("{count} of {COUNT} {what}"))
}
