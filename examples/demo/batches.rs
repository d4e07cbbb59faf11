//! The other story: a release in three batches, with an error in the second, and the way back.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use modulet::k8s::rollout::Phase;
use modulet_testkit::{base::UrlBehaviour, wait::eventually};

use crate::{
    bases,
    cluster::{self, NAMESPACE},
    screen::Screen,
    stage::{ENV, Stage},
    story::{NEW, OLD, ROLLOUT, SOON, all_serve, tables},
    way::Way,
};

const EXAMPLE: &str = "examples/strategies/batch-update.yaml";
const DEFINITION: &str = "charts/modulet/definitions/modulerollouts.yaml";
/// The example is for many bases, and people who look at them for a while: `sed` in these words.
const FOR_THREE_BASES: [(&str, &str); 3] = [
    ("replicas: 30%", "replicas: 2"),
    ("durationSeconds: 600", "durationSeconds: 5"),
    ("minReadySeconds: 10", "minReadySeconds: 3"),
];

/// The kind has to be there; whoever has a cluster may have it from the chart.
pub(crate) async fn define(stage: &Stage, screen: &Screen) -> Result<()> {
    if cluster::is_given() {
        let found = stage.cluster()?.kubectl(&["get", "modulerollouts"]).await;
        found.with_context(|| {
            format!("the cluster has no ModuleRollouts: kubectl apply --server-side -f {DEFINITION}")
        })?;
        return Ok(());
    }
    screen.command(&format!("kubectl apply --server-side -f {DEFINITION}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFINITION);
    screen.output(&stage.cluster()?.kubectl(&["apply", "--server-side", "-f", &path.display().to_string()]).await?);
    // `kubectl apply` of such an object is refused before.
    eventually("the kind ModuleRollout", SOON, async || {
        stage.cluster()?.kubectl(&["get", "modulerollouts"]).await.map(drop)
    })
    .await
}

/// From the first release to the way back.
pub(crate) async fn tell(stage: &mut Stage, screen: &Screen) -> Result<()> {
    first_release(stage, screen).await?;
    let revision = first_batch(stage, screen).await?;
    let failing = second_batch(stage, screen, &revision).await?;
    back(stage, screen).await?;
    count(stage, screen, &failing)
}

fn manifest(version: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = FOR_THREE_BASES.iter().fold(text, |text, (many, few)| text.replace(many, few));
    Ok(text.replace(OLD, version))
}

async fn apply(stage: &Stage, screen: &Screen, version: &str) -> Result<()> {
    let mut sed: Vec<_> = FOR_THREE_BASES.iter().map(|(many, few)| format!("s/{many}/{few}/")).collect();
    if version != OLD {
        sed.push(format!("s/{OLD}/{version}/"));
    }
    screen.command(&format!("sed '{}' {EXAMPLE} | kubectl -n {NAMESPACE} apply -f -", sed.join("; ")));
    screen.output(&stage.cluster()?.apply(&manifest(version)?).await?);
    Ok(())
}

async fn first_release(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.step(&format!(
        "A Deployment wants biz1 {OLD} on every base, and a ModuleRollout says how later versions come"
    ));
    screen.say(
        "One base, then somebody confirms; one more, and five seconds; then all. The first version waits for nobody.",
    );
    apply(stage, screen, OLD).await?;
    stage.watch(screen, &format!("biz1 {OLD}"), ROLLOUT, |scene| all_serve(scene, OLD)).await?;
    stage.watch(screen, "the ModuleRollout", SOON, |scene| scene.is_in(Phase::Idle, 0)).await?;
    tables(&stage.scene, screen);
    Ok(())
}

async fn rollouts(stage: &Stage, screen: &Screen) -> Result<()> {
    screen.command(&format!("kubectl -n {NAMESPACE} get mro"));
    screen.output(&stage.cluster()?.kubectl(&["get", "mro"]).await?);
    Ok(())
}

/// Returns what the release is called.
async fn first_batch(stage: &mut Stage, screen: &Screen) -> Result<String> {
    screen.step(&format!("biz1 {NEW} comes: Kubernetes makes all its Pods at once, and modulet lets one base have it"));
    apply(stage, screen, NEW).await?;
    stage.watch(screen, "the first batch", ROLLOUT, |scene| scene.is_in(Phase::Waiting, 1)).await?;
    tables(&stage.scene, screen);
    rollouts(stage, screen).await?;
    let rollout = stage.scene.rollout.as_ref().context("no ModuleRollout")?;
    screen.say(&rollout.message);
    Ok(rollout.revision.clone())
}

/// Returns the base on which it fails.
async fn second_batch(stage: &mut Stage, screen: &Screen, revision: &str) -> Result<String> {
    let next = stage.scene.rollout.as_ref().and_then(|rollout| rollout.next.first()).cloned().unwrap_or_default();
    let failing =
        bases::ids().find(|id| next.contains(id.as_str())).with_context(|| format!("no base is next: {next:?}"))?;
    screen.step(&format!("Somebody confirms, and on {failing} the new version cannot start"));
    let base = stage.bases.iter().find(|base| base.id() == failing).context("no such base")?;
    base.set_url_behaviour(
        &format!("biz1-{NEW}"),
        UrlBehaviour::Broken { cause: "no connection to the database".into() },
    );
    let annotation = format!("modulet.koupleless.io/confirm={revision}");
    screen.command(&format!("kubectl -n {NAMESPACE} annotate mro/biz1 {annotation}"));
    screen.output(&stage.cluster()?.kubectl(&["annotate", "mro/biz1", &annotation]).await?);
    stage.watch(screen, "the second batch to fail", ROLLOUT, |scene| scene.is_in(Phase::Paused, 2)).await?;
    tables(&stage.scene, screen);
    rollouts(stage, screen).await?;
    let rollout = stage.scene.rollout.as_ref().context("no ModuleRollout")?;
    screen.say(&rollout.message);
    let serves = stage.scene.bases.get(&failing).is_some_and(|base| base.serves(OLD));
    ensure!(serves, "{failing} does not serve {OLD} any more");
    Ok(failing)
}

async fn back(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.step("The way back is Kubernetes' own");
    screen.command(&format!("kubectl -n {NAMESPACE} rollout undo deployment/biz1"));
    screen.output(&stage.cluster()?.kubectl(&["rollout", "undo", "deployment/biz1"]).await?);
    stage
        .watch(screen, &format!("biz1 {OLD} everywhere"), ROLLOUT, |scene| {
            let wanted = scene.pods_of(NEW).filter(|pod| pod.ready).count();
            let left = (wanted > 0).then(|| format!("{wanted} Pods of biz1 {NEW} are Ready"));
            all_serve(scene, OLD).or(left).or_else(|| scene.is_in_one_of(&[Phase::Idle, Phase::Completed]))
        })
        .await?;
    tables(&stage.scene, screen);
    rollouts(stage, screen).await
}

fn count(stage: &Stage, screen: &Screen, failing: &str) -> Result<()> {
    let Way::Mqtt { spy, .. } = stage.way()? else { return Ok(()) };
    screen.step(&format!("What was heard on the wire: which bases were told to install {NEW}"));
    let told = |id: &str| {
        let topic = format!("koupleless_{ENV}/{id}/installBiz");
        spy.count(|message| message.topic == topic && message.json()["bizVersion"] == NEW)
    };
    let mut rows = vec![["BASE", "TOLD"].map(str::to_owned).to_vec()];
    rows.extend(bases::ids().map(|id| vec![id.clone(), if told(&id) > 0 { "yes" } else { "no" }.to_owned()]));
    screen.table(&rows);
    let touched: Vec<_> = bases::ids().filter(|id| told(id) > 0).collect();
    if touched.len() != 2 || !touched.iter().any(|id| id == failing) {
        bail!("{touched:?} were told, and not one base and {failing}");
    }
    Ok(())
}
