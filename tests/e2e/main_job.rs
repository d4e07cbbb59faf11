//! The main job: a base becomes a Node, Pods become modules, a newer version supersedes.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use modulet_testkit::{
    base::{Activation, BizState},
    wait::eventually,
};

use crate::stage::{self, SOON, Stage, container_reason, is_ready, module_pod, phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_installed_superseded_and_uninstalled() -> Result<()> {
    let stage = Stage::set("main-job").await?;
    let options =
        modulet_testkit::base::BaseOptions { activation: Activation::ActivateNew, ..stage.base_options("base-1") };
    let base = stage.base(options).await?;

    stage.create_pod(module_pod(&stage.name, "old", &[("biz1", "0.0.1")])).await?;
    let old = stage.pod_ready("old").await?;
    assert_eq!(phase(&old), "Running");
    assert_eq!(base.received("installBiz"), 1);
    assert_eq!(base.state_of("biz1", "0.0.1"), Some(BizState::Activated));

    stage.create_pod(module_pod(&stage.name, "new", &[("biz1", "0.0.2")])).await?;
    stage.pod_ready("new").await?;
    let old = stage.pod_until("old", "Failed", |pod| phase(pod) == "Failed").await?;
    assert_eq!(old.status.as_ref().and_then(|s| s.reason.as_deref()), Some("BizDeactivate"));
    assert_eq!(container_reason(&old), Some("BizDeactivate"));
    assert!(stage::container_message(&old).unwrap_or_default().contains("biz1:0.0.2"));
    assert!(!is_ready(&old));

    eventually("the old Pod's Events", SOON, async || {
        let told = stage.events("old").await?;
        let all = ["Scheduled", "Installing", "Installed", "BizDeactivate"];
        ensure!(all.iter().all(|reason| told.iter().filter(|t| t == reason).count() == 1), "{told:?}");
        Ok(())
    })
    .await?;

    for pod in ["old", "new"] {
        stage.pods().delete(pod, &DeleteParams::default()).await?;
        stage.pod_gone(pod).await?;
    }
    eventually("an empty base", SOON, async || base.modules().is_empty()).await?;
    assert_eq!(base.received("installBiz"), 2, "one for each module");
    assert_eq!(base.received("uninstallBiz"), 2, "one for each module");
    stage.ends_quietly().await
}
