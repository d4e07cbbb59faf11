//! A Job waits for the end of its Pods, and a module has none.

use anyhow::{Context, Result, ensure};
use modulet_testkit::{base::Activation, wait::eventually};
use serde_json::json;

use super::{LABEL, QUIET};
use crate::{
    stage::{SOON, Stage, container_message, container_reason, module_template},
    workloads::{bases, told_no_more_than},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_pod_of_a_job_is_refused_and_can_be_deleted() -> Result<()> {
    let stage = Stage::set("job").await?;
    let bases = bases(&stage, 1, Activation::Default).await?;
    let mut template = module_template(&stage.name, &[("biz1", "0.0.1")]);
    template["spec"]["restartPolicy"] = json!("Never");
    stage
        .apply(&json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "biz1" },
            "spec": { "template": template },
        }))
        .await?;
    let pod = eventually("the Pod to be refused", SOON, async || {
        let pod = stage.pods_with(LABEL).await?.into_iter().next().context("no Pod")?;
        let (reason, message) = (container_reason(&pod), container_message(&pod).unwrap_or_default());
        ensure!(reason == Some("InvalidModule") && message.contains("a Job never completes"), "{reason:?} {message}");
        Ok(pod.metadata.name.unwrap_or_default())
    })
    .await?;
    eventually("an Event that says so", SOON, async || {
        let events = stage.events(&pod).await?;
        ensure!(events.iter().any(|e| e == "InvalidModule"), "{events:?}");
        Ok(())
    })
    .await?;

    stage.kubectl(&["delete", "job/biz1"]).await?;
    stage.pod_gone(&pod).await?;
    told_no_more_than(&bases[0], "biz1", &[], QUIET).await?;
    stage.ends_quietly().await
}
