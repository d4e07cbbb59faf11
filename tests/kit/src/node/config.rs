//! What the kubelet, containerd and its network read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{ADDRESS, PODS, namespaces};

/// Where they are.
pub(super) struct Files {
    pub(super) containerd: PathBuf,
    pub(super) kubelet: PathBuf,
    pub(super) socket: PathBuf,
    /// The logs of containers.
    pub(super) logs: PathBuf,
}

pub(super) fn write(directory: &Path, authority: &Path, sandbox: &str) -> Result<Files> {
    let file = |name: &str| directory.join(name);
    let files = Files {
        containerd: file("containerd.toml"),
        kubelet: file("kubelet.json"),
        socket: file("containerd.sock"),
        logs: file("pods"),
    };
    let plugins = namespaces::network_plugins().context("no network plugins")?;
    fs::create_dir(file("network"))?;
    fs::write(file("network/10-bridge.conflist"), network(directory).to_string())?;
    fs::write(&files.containerd, containerd(directory, &files.socket, &plugins, sandbox))?;
    fs::write(&files.kubelet, kubelet(directory, authority, &files).to_string())?;
    Ok(files)
}

/// A bridge for its Pods. Nothing is translated: there is nowhere to go but to the machine.
fn network(directory: &Path) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": PODS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": directory.join("network-addresses"),
            },
        }],
    })
}

fn containerd(directory: &Path, socket: &Path, plugins: &Path, sandbox: &str) -> String {
    let directory = directory.display();
    // native: no overlay in an overlay, where the machine is itself a container.
    // restrict_oom_score_adj: a sandbox asks for less than its parent has, which needs a right that may be missing.
    format!(
        r#"version = 2
root = "{directory}/containerd"
state = "{directory}/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/{sandbox}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/network"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        socket = socket.display(),
        plugins = plugins.display(),
    )
}

fn kubelet(directory: &Path, authority: &Path, files: &Files) -> serde_json::Value {
    let full = json!({ "memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%" });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": true }, "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{}", files.socket.display()),
        "podLogsDir": files.logs,
        "staticPodPath": "",
        "resolvConf": "",
        // Whatever groups there are: those of Pods are below one of ours, which goes at the end.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": namespaces::cgroup(),
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "evictionHard": full,
        "volumePluginDir": directory.join("volume-plugins"),
        // So that the test does not wait for its rounds.
        "syncFrequency": "5s",
        "imageGCHighThresholdPercent": 100,
    })
}
