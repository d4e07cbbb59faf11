//! A machine in the cluster: the real kubelet with containerd and runc, in a network of its own.
//!
//! All of it runs in namespaces that [`enter`] makes (network, mounts, processes): nothing is reachable from outside,
//! nothing is written where the machine's own containers are, and what was started is gone when the test is, however
//! it ends. Inside the network there is the machine ([`ADDRESS`]), its Pods ([`PODS`]) behind a bridge, and the address
//! at which Pods find the API server.

mod config;
mod images;
mod namespaces;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use tempfile::TempDir;
use tokio::process::Command;

pub use self::images::Image;
pub use self::namespaces::{Ended, enter, missing, set_up_network};
use crate::control_plane::ControlPlane;
use crate::process::{Process, Program};
use crate::proxy::Proxy;
use crate::tools::Tool;
use crate::wait::eventually;

/// The machine's name in the cluster.
pub const NAME: &str = "machine-1";
/// The machine's address, where Pods reach what listens on it.
pub const ADDRESS: &str = "192.0.2.10";
/// The addresses of its Pods.
pub const PODS: &str = "198.51.100.0/24";
/// Where Pods find the API server: the first address of the control plane's Services.
const API_SERVICE: &str = "10.0.0.1";

const PATIENCE: Duration = Duration::from_mins(1);

/// A machine that is Ready. Dropping it kills its programs; its containers end with the namespaces.
#[derive(Debug)]
pub struct Node {
    kubelet: Process,
    containerd: Process,
    socket: PathBuf,
    logs: PathBuf,
    _api_service: Proxy,
    directory: TempDir,
}

impl Node {
    /// Starts it, with these images on it, and waits until it is Ready. The sandboxes of its Pods are of the image
    /// `sandbox`, which must be among them. To be called behind [`enter`].
    pub async fn start(cluster: &ControlPlane, images: &[Image], sandbox: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("modulet-node-").tempdir()?;
        let kubelet = Tool::Kubelet.program("kubelet").await?;
        let kubeconfig = cluster.kubeconfig_for_kubelet(NAME).await?;
        let at = format!("{API_SERVICE}:443").parse()?;
        let api_service = Proxy::start_at(at, &cluster.api_server_address().await?).await?;
        let files = config::write(directory.path(), &cluster.directory().join("ca.crt"), sandbox)?;
        let program = |name: &str, path: &Path| Program::new(name, path, directory.path().join(format!("{name}.log")));

        let containerd = program("containerd", &namespaces::find("containerd").context("no containerd")?)
            .arg("--config")
            .arg(&files.containerd)
            .litter(directory.path())
            .start()?;
        let ctr = || ctr(&files.socket);
        containerd
            .wait_ready(PATIENCE, async || {
                ensure!(ctr()?.arg("version").output().await?.status.success(), "it does not answer");
                Ok(())
            })
            .await?;
        for image in images {
            let import = ctr()?
                .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"])
                .args(["--base-name", &image.repository()])
                .arg(&image.archive)
                .output()
                .await?;
            ensure!(import.status.success(), "ctr images import: {}", String::from_utf8_lossy(&import.stderr));
        }
        let kubelet = program("kubelet", &kubelet)
            .arg(format!("--config={}", files.kubelet.display()))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--root-dir={}", directory.path().join("kubelet").display()))
            .arg(format!("--cert-dir={}", directory.path().join("pki").display()))
            .arg(format!("--hostname-override={NAME}"))
            .arg(format!("--node-ip={ADDRESS}"))
            .start()?;
        let nodes = Api::<NodeObject>::all(cluster.client().await?);
        kubelet
            .wait_ready(PATIENCE, async || {
                let status = nodes.get(NAME).await?.status.unwrap_or_default();
                let ready = status.conditions.unwrap_or_default().into_iter().find(|one| one.type_ == "Ready");
                let ready = ready.context("no condition Ready")?;
                ensure!(ready.status == "True", "{}", ready.message.unwrap_or_default());
                anyhow::Ok(())
            })
            .await?;
        let (socket, logs) = (files.socket, files.logs);
        Ok(Self { kubelet, containerd, socket, logs, _api_service: api_service, directory })
    }

    /// Gives an image on it a second name.
    pub async fn tag(&self, old: &str, new: &str) -> Result<()> {
        let [old, new] = [old, new].map(|name| format!("docker.io/library/{name}"));
        let tag = ctr(&self.socket)?.args(["--namespace", "k8s.io", "images", "tag", &old, &new]).output().await?;
        ensure!(tag.status.success(), "ctr images tag: {}", String::from_utf8_lossy(&tag.stderr));
        Ok(())
    }

    /// What the containers of a Pod have written so far, of all Pods whose name begins so, also of those that are
    /// gone: for each container its lines, without the time before them.
    pub fn logs_of(&self, namespace: &str, pods: &str) -> Result<String> {
        let mut text = String::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for pod in std::fs::read_dir(&self.logs)? {
            let pod = pod?;
            if pod.file_name().to_string_lossy().starts_with(&format!("{namespace}_{pods}")) {
                for container in std::fs::read_dir(pod.path())? {
                    files.extend(std::fs::read_dir(container?.path())?.filter_map(|file| Some(file.ok()?.path())));
                }
            }
        }
        files.sort();
        for file in files {
            // 2026-01-01T00:00:00.000000000Z stdout F text
            let read = std::fs::read_to_string(&file).unwrap_or_default();
            text.extend(read.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).flat_map(|line| [line, "\n"]));
        }
        Ok(text)
    }

    /// The end of what its own programs say.
    pub fn log_tail(&self, count: usize) -> String {
        format!("containerd: {}\nkubelet: {}", self.containerd.log_tail(count), self.kubelet.log_tail(count))
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the containers, and its programs.
    pub async fn stop(self) -> Result<()> {
        self.kubelet.terminate().await?;
        // Not by the kubelet: it would tell the cluster, which is going too. Their mounts have to go with them.
        let list = async |what: &str| -> Result<Vec<String>> {
            let output = ctr(&self.socket)?.args(["--namespace", "k8s.io", what, "list", "--quiet"]).output().await?;
            Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
        };
        for task in list("tasks").await? {
            let kill = ["--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", &task];
            ctr(&self.socket)?.args(kill).output().await?;
        }
        let namespace = ["--namespace", "k8s.io"];
        eventually("no containers on the machine", PATIENCE, async || {
            for task in list("tasks").await? {
                ctr(&self.socket)?.args(namespace).args(["tasks", "delete", &task]).output().await?;
            }
            ensure!(list("tasks").await?.is_empty(), "some run");
            anyhow::Ok(())
        })
        .await?;
        self.containerd.terminate().await?;
        Ok(())
    }
}

fn ctr(socket: &Path) -> Result<Command> {
    let mut command = Command::new(namespaces::find("ctr").context("no ctr")?);
    command.arg("--address").arg(socket).kill_on_drop(true);
    Ok(command)
}
