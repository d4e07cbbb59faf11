//! The cluster: a control plane of our own, or the one `KUBECONFIG` names.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{Api, Client, api::ListParams};
use modulet_testkit::{
    control_plane::{ControlPlane, ControlPlaneOptions},
    tools::Tool,
};
use tokio::process::Command;

use crate::{bases, screen::Screen, stage::ENV};

/// The demo's own.
pub(crate) const NAMESPACE: &str = "modulet-demo";
/// For one kubectl that waits for nothing.
const KUBECTL: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

/// A cluster and a way to talk to it.
pub(crate) struct Cluster {
    plane: ControlPlane,
    pub(crate) client: Client,
    kubectl: PathBuf,
    namespace: bool,
}

/// Whether the user has a cluster for us.
pub(crate) fn is_given() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty())
}

/// Builds what is missing, and finds kubectl: the user's own for the user's own cluster.
pub(crate) async fn prepare(screen: &Screen) -> Result<PathBuf> {
    if is_given() {
        if let Some(kubectl) = on_path("kubectl") {
            return Ok(kubectl);
        }
        let built = Tool::ControlPlane.program("kubectl").await;
        return built.context("kubectl is not on PATH");
    }
    let mut missing = false;
    for program in PROGRAMS {
        missing |= Tool::ControlPlane.program(program).await.is_err();
    }
    if missing {
        Tool::ControlPlane.ensure_built(|line| screen.progress(line)).await?;
    }
    Tool::ControlPlane.program("kubectl").await
}

/// Where a shell would find a program.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

impl Cluster {
    /// Starts it, or checks that the given one has nothing that would get into our way.
    pub(crate) async fn start(kubectl: PathBuf) -> Result<Self> {
        let options = ControlPlaneOptions { accept_existing: is_given(), ..ControlPlaneOptions::default() };
        let plane = ControlPlane::start(options).await?;
        let client = plane.client().await?;
        let cluster = Self { plane, client, kubectl, namespace: false };
        if cluster.is_given() {
            cluster.check_free().await?;
        }
        Ok(cluster)
    }

    async fn check_free(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let there = namespaces.get_opt(NAMESPACE).await.context("the cluster of KUBECONFIG")?.is_some();
        ensure!(!there, "the cluster has a namespace {NAMESPACE} already, which the demo would delete in the end");
        let selector = format!("base.koupleless.io/name={},virtual-kubelet.koupleless.io/env!={ENV}", bases::NAME);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let foreign = nodes.list(&ListParams::default().labels(&selector)).await?.items;
        let names: Vec<_> = foreign.into_iter().filter_map(|node| node.metadata.name).collect();
        ensure!(names.is_empty(), "the demo's modules would also go to bases of yours: {}", names.join(", "));
        Ok(())
    }

    /// It was there before us.
    pub(crate) fn is_given(&self) -> bool {
        self.plane.is_existing()
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// The directory to add to PATH, if there is no kubectl on it.
    pub(crate) fn kubectl_directory(&self) -> Option<&Path> {
        if on_path("kubectl").is_some() { None } else { self.kubectl.parent() }
    }

    pub(crate) async fn create_namespace(&mut self) -> Result<()> {
        self.namespace = true; // also if it is made halfway
        self.plane.create_namespace(NAMESPACE).await
    }

    /// Runs kubectl in the demo's namespace, and returns what it says.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run(args, Stdio::null(), KUBECTL).await
    }

    /// `kubectl apply -f -`.
    pub(crate) async fn apply(&self, manifest: &str) -> Result<String> {
        let mut file: File = tempfile::tempfile()?;
        file.write_all(manifest.as_bytes())?;
        file.rewind()?;
        self.run(&["apply", "-f", "-"], file.into(), KUBECTL).await
    }

    async fn run(&self, args: &[&str], input: Stdio, limit: Duration) -> Result<String> {
        let what = format!("kubectl {}", args.join(" "));
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", self.kubeconfig()).args(["-n", NAMESPACE]).args(args);
        let output = kubectl.stdin(input).kill_on_drop(true).output();
        let output = tokio::time::timeout(limit, output).await;
        let output = output.with_context(|| format!("{what}: not done within {limit:?}"))?.context(what.clone())?;
        if !output.status.success() {
            bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes our modules and our namespace out of the user's cluster. While modulet runs, for it completes the
    /// deletion of Pods. Nothing to do in a cluster that ends anyway.
    pub(crate) async fn clear(&self) -> Result<()> {
        if !self.is_given() || !self.namespace {
            return Ok(());
        }
        let limit = Duration::from_mins(1);
        let delete = ["delete", "--ignore-not-found", "--timeout=50s"];
        // First the Pods: a namespace's controller looks only every now and then whether they are gone.
        let deployments: Vec<_> = delete.into_iter().chain(["--cascade=foreground", "deployments", "--all"]).collect();
        self.run(&deployments, Stdio::null(), limit).await?;
        let pods: Vec<_> = delete.into_iter().chain(["pods", "--all"]).collect();
        self.run(&pods, Stdio::null(), limit).await?;
        let namespace: Vec<_> = delete.into_iter().chain(["namespace", NAMESPACE]).collect();
        self.run(&namespace, Stdio::null(), limit).await.map(drop)
    }

    /// Deletes our Nodes and their Leases from the user's cluster. When modulet has ended, or it would make them
    /// again.
    pub(crate) async fn clear_nodes(&self) -> Result<()> {
        if !self.is_given() {
            return Ok(());
        }
        let names: Vec<_> = bases::ids().map(|id| format!("vnode.{id}.{ENV}")).collect();
        for things in [vec!["nodes"], vec!["leases.coordination.k8s.io", "-n", "kube-node-lease"]] {
            let delete = ["delete", "--ignore-not-found", "--timeout=20s"].into_iter().chain(things);
            let delete: Vec<_> = delete.chain(names.iter().map(String::as_str)).collect();
            self.run(&delete, Stdio::null(), KUBECTL).await?;
        }
        Ok(())
    }

    /// Ends it, if it is ours.
    pub(crate) async fn stop(self) -> Result<()> {
        self.plane.stop().await
    }
}
