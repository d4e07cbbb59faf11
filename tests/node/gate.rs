//! The readiness gate of bases' own Pods, as a real kubelet and the Deployment controller take it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::api::ListParams;
use modulet_testkit::wait::eventually;

use crate::{
    people::EVERYWHERE,
    stage::{MODULES, SOON, Stage},
};

pub(crate) const GATE: &str = "modulet.koupleless.io/modules-ready";

fn condition<'a>(pod: &'a Pod, kind: &str) -> Result<&'a PodCondition> {
    let mut all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.find(|condition| condition.type_ == kind).with_context(|| format!("no condition {kind}"))
}

/// Since when it is Ready.
fn ready_since(pod: &Pod) -> Result<Time> {
    let ready = condition(pod, "Ready")?;
    ensure!(ready.status == "True", "{ready:?}");
    ready.last_transition_time.clone().context("no time")
}

/// The Deployment of the bases is rolled, and each new base is Ready only when its module is.
pub(crate) async fn bases_are_rolled(stage: &Stage) -> Result<()> {
    let of_bases = ["--namespace", MODULES, "rollout"];
    let before = stage.pods(MODULES).list(&ListParams::default().labels("app=base")).await?.items;
    stage.kubectl(&[&of_bases[..], &["restart", "deployment/bases"]].concat()).await?;
    stage.kubectl(&[&of_bases[..], &["status", "deployment/bases", "--timeout=120s"]].concat()).await?;

    let bases = eventually("the old bases gone", SOON, async || {
        let bases = stage.pods(MODULES).list(&ListParams::default().labels("app=base")).await?.items;
        ensure!(bases.len() == before.len(), "{} Pods", bases.len());
        Ok(bases)
    })
    .await?;
    let modules = stage.pods(MODULES).list(&ListParams::default().labels(EVERYWHERE)).await?.items;
    for base in bases {
        let name = base.metadata.name.as_deref().context("no name")?;
        ensure!(before.iter().all(|old| old.metadata.name.as_deref() != Some(name)), "{name} is not new");
        let gate = condition(&base, GATE)?;
        ensure!(gate.status == "True" && gate.reason.as_deref() == Some("ModulesReady"), "{name}: {gate:?}");
        let node = format!("vnode.{name}.dev");
        let mut own =
            modules.iter().filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node));
        let module = own.next().with_context(|| format!("no module on {node}"))?;
        let (module, base) = (ready_since(module)?, ready_since(&base)?);
        ensure!(module.0 <= base.0, "{name} was Ready at {base:?}, its module at {module:?}");
    }
    Ok(())
}
