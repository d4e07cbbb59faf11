//! A certificate by a `CertificateSigningRequest`, with the rights that the chart gives, and an API server that looks at it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use modulet_testkit::{control_plane::ControlPlane, helm::helm_install, wait::eventually};
use serde_json::json;

use crate::stage::{SOON, Stage};

pub(super) const NAMESPACE: &str = "provider-suite-chart";
/// As the chart calls it.
pub(super) const SECRET: &str = "modulet-kubelet";
const REQUEST: &str = "provider-suite-chart.modulet-kubelet";

/// Installs the chart, whose Pod runs nowhere, for modules in this namespace. Returns the kubeconfig of its account.
pub(super) async fn chart(cluster: &ControlPlane, modules: &str, address: &str, port: u16) -> Result<PathBuf> {
    cluster.create_namespace(modules).await?;
    let values = json!({
        "mqtt": { "host": "broker" }, "environment": modules, "rbac": { "environmentFrom": [modules] },
        "kubelet": { "enabled": true, "address": address, "port": port, "tls": { "request": true } },
    });
    helm_install(cluster.kubeconfig(), NAMESPACE, &values).await?;
    cluster.kubeconfig_for_service_account(NAMESPACE, "modulet").await
}

/// What the API server's proxy to a Node says of its health.
async fn healthz(stage: &Stage, node: &str) -> Result<String> {
    stage.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")]).await
}

async fn is_trusted(stage: &Stage, node: &str) -> Result<()> {
    eventually("a certificate that the API server takes", SOON, async || {
        ensure!(healthz(stage, node).await? == "ok");
        Ok(())
    })
    .await
}

async fn is_asked_for(requests: &Api<CertificateSigningRequest>) -> Result<CertificateSigningRequest> {
    eventually("a request", SOON, async || Ok::<_, anyhow::Error>(requests.get(REQUEST).await?)).await
}

pub(super) async fn is_signed_once_it_is_approved(stage: &mut Stage, node: &str) -> Result<()> {
    let requests = Api::<CertificateSigningRequest>::all(stage.client.clone());
    let first = is_asked_for(&requests).await?;
    stage.log_line(&["waits for somebody to approve it", &format!("kubectl certificate approve {REQUEST}")]).await?;
    eventually("an Event", SOON, async || {
        let told = ["-n", "default", "get", "events", "--field-selector=reason=KubeletCertificateMissing"];
        let told = stage.kubectl(&told).await?;
        ensure!(told.contains(&format!("certificatesigningrequest/{REQUEST}")), "{told}");
        Ok(())
    })
    .await?;
    let refused = healthz(stage, node).await;
    ensure!(refused.as_ref().is_err_and(|error| error.to_string().contains("x509")), "{refused:?}");

    // Refused: said, and made anew once it is deleted, as Kubernetes does after an hour.
    stage.kubectl(&["certificate", "deny", REQUEST]).await?;
    stage.log_line(&["was refused", "KubectlDeny"]).await?;
    requests.delete(REQUEST, &DeleteParams::default()).await?;
    let second = is_asked_for(&requests).await?;
    ensure!(second.spec.request == first.spec.request && second.metadata.uid != first.metadata.uid, "another key");

    stage.kubectl(&["certificate", "approve", REQUEST]).await?;
    is_trusted(stage, node).await?;
    let secrets = Api::<Secret>::namespaced(stage.client.clone(), NAMESPACE);
    let kept = secrets.get(SECRET).await?.data.unwrap_or_default();
    ensure!(kept.keys().eq(["tls.crt", "tls.key"]), "{:?}", kept.keys());

    // Nobody has to approve it again for a process that starts anew.
    stage.controller.restart().await?;
    is_trusted(stage, node).await?;
    ensure!(requests.get(REQUEST).await?.metadata.uid == second.metadata.uid, "asked again");

    // Lost: asked for with another key, in the place of the request that is done.
    let nothing = Patch::Merge(json!({ "data": { "tls.crt": null, "tls.key": null } }));
    secrets.patch(SECRET, &PatchParams::default(), &nothing).await?;
    stage.controller.restart().await?;
    eventually("another request", SOON, async || {
        ensure!(requests.get(REQUEST).await?.spec.request != second.spec.request, "it is the same");
        Ok(())
    })
    .await?;
    stage.kubectl(&["certificate", "approve", REQUEST]).await?;
    is_trusted(stage, node).await
}
