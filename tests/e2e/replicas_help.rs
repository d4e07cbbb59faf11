//! What the tests of several replicas share.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};
use modulet_testkit::{
    base::{BaseOptions, Fleet},
    controller::{Controller, ControllerOptions},
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    faults_help::bound,
    stage::{Stage, have_their_baselines, is_ready, soon_for},
};

/// A leader that dies is followed within this.
pub(super) const FOLLOWED: Duration = Duration::from_secs(15);

/// Another replica of the stage's controller.
pub(super) async fn replica(
    stage: &Stage,
    name: &str,
    adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
) -> Result<Controller> {
    let options =
        ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), stage.cluster.kubeconfig(), stage.broker.address());
    let options = options.env("ENV", &stage.name).env("CLIENT_ID", name);
    let replica = Controller::start(adapt(options.env("MODULET_MODULE_URLS", "file:///,http://,https://"))).await?;
    ensure!(!leads(&replica).await?, "{name} leads beside another");
    Ok(replica)
}

pub(super) async fn leads(controller: &Controller) -> Result<bool> {
    Ok(controller.metric("modulet_leads", &[]).await? > 0.0)
}

/// Waits until one of them leads; says which, and after how long.
pub(super) async fn followed(controllers: &[&Controller], limit: Duration) -> Result<(usize, Duration)> {
    let start = Instant::now();
    let leader = eventually("another leader", limit, async || {
        for (number, controller) in controllers.iter().enumerate() {
            if leads(controller).await? {
                return Ok(number);
            }
        }
        bail!("nobody leads")
    })
    .await?;
    Ok((leader, start.elapsed()))
}

pub(super) fn leases(stage: &Stage, namespace: &str) -> Api<Lease> {
    Api::namespaced(stage.client.clone(), namespace)
}

/// Who leads, as people see it.
pub(super) async fn holder(stage: &Stage) -> Result<String> {
    let lease = leases(stage, "default").get(&format!("modulet-{}", stage.name)).await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    Ok(holder.split('_').next().unwrap_or_default().to_owned())
}

/// Conditions of all Nodes and Pods of the stage, and when they changed last.
pub(super) async fn conditions(stage: &Stage) -> Result<BTreeMap<String, Vec<(String, String, String)>>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |status: Value| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|c| (text(&c["type"]), text(&c["status"]), text(&c["lastTransitionTime"]))).collect::<Vec<_>>()
    };
    let mut found = BTreeMap::new();
    let ours = ListParams::default().labels(&format!("virtual-kubelet.koupleless.io/env={}", stage.name));
    for node in stage.nodes().list(&ours).await? {
        found.insert(node.metadata.name.unwrap_or_default(), of(json!(node.status)));
    }
    for pod in stage.pods().list(&ListParams::default()).await? {
        found.insert(pod.metadata.name.unwrap_or_default(), of(json!(pod.status)));
    }
    Ok(found)
}

/// The Pod of a base, and its module.
pub(super) fn pod_of(base: &str) -> String {
    base.replace("fleet-", "biz")
}

/// That many bases with a module each, all Ready.
pub(super) async fn fleet(stage: &Stage, count: usize) -> Result<Fleet> {
    let fleet = Fleet::start(BaseOptions { id: "fleet".into(), ..stage.base_options("fleet") }, count).await?;
    have_their_baselines(&fleet).await?;
    for id in fleet.identities() {
        stage.create_pod(bound(stage, id, &pod_of(id), "1")).await?;
    }
    all_ready(stage, count).await?;
    Ok(fleet)
}

/// What may not move while the lead does: conditions, and how often bases were told something.
pub(super) struct Before {
    pub(super) conditions: BTreeMap<String, Vec<(String, String, String)>>,
    pub(super) installs: usize,
}

impl Before {
    pub(super) async fn of(stage: &Stage, fleet: &Fleet) -> Result<Self> {
        Ok(Self { conditions: conditions(stage).await?, installs: fleet.received("installBiz") })
    }

    /// Nothing moved but what the test did: so many more installs, and so many uninstalls.
    pub(super) async fn holds(&self, stage: &Stage, fleet: &Fleet, installs: usize, uninstalls: usize) -> Result<()> {
        let told = (fleet.received("installBiz"), fleet.received("uninstallBiz"));
        assert_eq!(told, (self.installs + installs, uninstalls), "installs and uninstalls");
        let now = conditions(stage).await?;
        self.conditions.iter().for_each(|(name, was)| assert_eq!(now.get(name), Some(was), "{name}"));
        Ok(())
    }
}

pub(super) async fn all_ready(stage: &Stage, count: usize) -> Result<()> {
    eventually("all Pods Ready", soon_for(count), async || {
        let ready = stage.pods().list(&ListParams::default()).await?.items.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == count, "{ready} of {count}");
        Ok(())
    })
    .await
}
