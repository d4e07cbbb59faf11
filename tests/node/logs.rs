//! `kubectl logs` and `port-forward` of a module whose base is a Pod: through the API server, modulet, the API server again and the machine's kubelet.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use modulet_testkit::{http, node::ADDRESS, proxy::Proxy, wait::eventually};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use crate::{
    base, office,
    people::{self, EVERYWHERE},
    stage::{KUBELET_PORT, MODULES, SOON, Stage},
};

const FOLLOWED: &str = "followed";

/// A module's Pod on a base whose Node begins like this, and the Node.
async fn module_on(stage: &Stage, begins: &str) -> Result<(String, String)> {
    let pods = stage.pods(MODULES).list(&ListParams::default().labels(EVERYWHERE)).await?.items;
    let on = pods.into_iter().filter_map(|pod| Some((pod.metadata.name?, pod.spec?.node_name?)));
    let mut found = on.filter(|(_, node)| node.starts_with(begins));
    found.next().with_context(|| format!("no module on a Node {begins}…"))
}

pub(crate) async fn read(stage: &Stage) -> Result<()> {
    // What a Service does, where there is one: to a replica that does not lead, for all serve it.
    let leader = office::leader(stage).await?;
    let standby = office::pods(stage).await?.into_iter().find(|pod| pod.metadata.name.as_deref() != Some(&leader));
    let standby = standby.and_then(|pod| pod.status?.pod_ip).context("no standby")?;
    let service = format!("{ADDRESS}:{KUBELET_PORT}").parse()?;
    let _service = Proxy::start_at(service, &format!("{standby}:{KUBELET_PORT}")).await?;

    let (module, node) = module_on(stage, "vnode.bases-").await?;
    let own = node.trim_start_matches("vnode.").trim_end_matches(".dev").to_owned();
    let logs = async |args: &[&str]| stage.kubectl(&[&["--namespace", MODULES, "logs"], args].concat()).await;
    let (all, of_base) = (logs(&[&module]).await?, logs(&[&own]).await?);
    // The base goes on writing meanwhile.
    ensure!(of_base.starts_with(&all) && all.starts_with("started\n"), "the module: {all}\nits base: {of_base}");
    let tail = logs(&[&module, "--tail=1"]).await?;
    ensure!(tail.lines().count() == 1 && !tail.starts_with("started"), "--tail=1: {tail}");
    let since = logs(&[&module, "--since=1h"]).await?;
    let later = logs(&[&module, "--since-time=2200-01-01T00:00:00Z"]).await?;
    ensure!(since.starts_with(&all) && later.is_empty(), "--since: {since}, --since-time: {later}");
    let timed = logs(&[&module, "--timestamps"]).await?;
    ensure!(timed.starts_with("20") && timed.lines().next().is_some_and(|line| line.ends_with("Z started")), "{timed}");
    let before = logs(&[&module, "--previous"]).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(before.contains("previous terminated container"), "--previous: {before}");
    follow(stage, &module, &node).await?;
    forward(stage, &module, &own).await?;

    let refused = async |args: &[&str]| match stage.kubectl(&[&["--namespace", MODULES], args].concat()).await {
        Ok(text) => text,
        Err(error) => format!("{error:#}"),
    };
    let told = refused(&["exec", &module, "--", "ls"]).await;
    ensure!(told.contains(&format!("kubectl -n {MODULES} exec -it {own} -c base -- sh")), "{told}");
    let (outside, _) = module_on(stage, "vnode.outside-").await?;
    let told = refused(&["logs", &outside]).await;
    ensure!(told.contains("on host base-host at address 192.0.2.10"), "{told}");
    let list: Value =
        serde_json::from_str(&stage.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/pods")]).await?)?;
    let listed = list["items"].as_array().into_iter().flatten();
    ensure!(listed.clone().any(|pod| pod["metadata"]["name"] == *module), "{list}");
    Ok(())
}

/// Who asks at a module's port asks its base.
async fn forward(stage: &Stage, module: &str, own: &str) -> Result<()> {
    let ports = format!(":{}", base::PORT);
    let mut kubectl =
        stage.kubectl_runs(&["--namespace", MODULES, "port-forward", module, &ports, "--address=127.0.0.1"]).await?;
    let mut lines = BufReader::new(kubectl.stdout.take().context("no output")?).lines();
    let line = timeout(SOON, lines.next_line()).await??.context("it ended")?;
    let at = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next()).context("no address")?;
    for _ in 0..3 {
        let (status, answer) = http::get(at, "/").await?;
        ensure!((status, answer.as_str()) == (200, format!("this is {own}").as_str()), "{status} {answer}");
    }
    kubectl.kill().await?;
    Ok(())
}

/// What the base writes later comes when it comes.
async fn follow(stage: &Stage, module: &str, node: &str) -> Result<()> {
    let args = ["--namespace", MODULES, "logs", module, "--follow", "--tail=1"];
    let mut kubectl = stage.kubectl_runs(&args).await?;
    let mut lines = BufReader::new(kubectl.stdout.take().context("no output")?).lines();
    timeout(SOON, lines.next_line()).await??.context("it ended")?;
    stage.apply(&people::on_node(node, FOLLOWED)).await?;
    let listed = async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with(base::LISTS) && line.contains(FOLLOWED) {
                return Ok(());
            }
        }
        anyhow::bail!("it ended")
    };
    timeout(SOON, listed).await??;
    kubectl.kill().await?;
    let pods = stage.pods(MODULES);
    pods.delete(FOLLOWED, &DeleteParams::default()).await?;
    eventually("the Pod gone", SOON, async || anyhow::Ok(pods.get_opt(FOLLOWED).await?.is_none())).await?;
    Ok(())
}
