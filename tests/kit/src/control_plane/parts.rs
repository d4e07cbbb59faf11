//! The four programs of a control plane and the arguments they need on one machine without
//! containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::certificates::Authority;
use super::{ControlPlaneOptions, Kubelets};
use crate::ports::free_port;
use crate::process::Program;
use crate::tools::Tool;

/// What to start, in this order.
pub(super) struct Parts {
    pub(super) etcd: Program,
    pub(super) etcd_port: u16,
    pub(super) api_server: Program,
    pub(super) controller_manager: Program,
    pub(super) scheduler: Program,
    /// Of a user that may do everything.
    pub(super) kubeconfig: PathBuf,
    /// Where the API server is.
    pub(super) server: String,
    pub(super) authority: Authority,
}

impl Parts {
    /// Finds the programs, and writes into `directory` what they need.
    pub(super) async fn prepare(directory: &Path, options: &ControlPlaneOptions) -> Result<Self> {
        let etcd = Tool::ControlPlane.program("etcd").await?;
        let api_server = Tool::ControlPlane.program("kube-apiserver").await?;
        let controller_manager = Tool::ControlPlane.program("kube-controller-manager").await?;
        let scheduler = Tool::ControlPlane.program("kube-scheduler").await?;

        let authority = Authority::create(directory)?;
        authority.api_server()?;
        let etcd_port = free_port()?;
        let port = free_port()?;
        let server = format!("https://127.0.0.1:{port}");
        let kubeconfig = authority.kubeconfig("admin", "modulet-admin", Some("system:masters"), &server)?;
        let [for_manager, for_scheduler] = ["kube-controller-manager", "kube-scheduler"]
            .map(|name| authority.kubeconfig(name, &format!("system:{name}"), None, &server));

        let signed = options.kubelets == Kubelets::Signed;
        let arg = |name: &str, file: &str| format!("--{name}={}", directory.join(file).display());
        let program = |name: &str, path: PathBuf| Program::new(name, path, directory.join(format!("{name}.log")));
        let etcd = program("etcd", etcd).args(etcd_args(directory, etcd_port, free_port()?));
        Ok(Self {
            etcd: if options.keep_logs { etcd } else { etcd.litter(directory) },
            etcd_port,
            api_server: program("kube-apiserver", api_server)
                .args(api_server_args(directory, port, etcd_port))
                .args((options.kubelets != Kubelets::None).then(|| kubelet_args(directory)).into_iter().flatten())
                .args(signed.then(|| arg("kubelet-certificate-authority", "ca.crt")))
                .args(&options.api_server_args)
                // It waits for connections that clients keep open; nobody gains from that here.
                .patience(Duration::from_secs(2)),
            controller_manager: program("kube-controller-manager", controller_manager)
                .args(controller_manager_args(directory, free_port()?, &for_manager?))
                .args(controllers(options))
                .args(signed.then(|| arg("cluster-signing-cert-file", "ca.crt")))
                .args(signed.then(|| arg("cluster-signing-key-file", "ca.key")))
                .args(limits(options))
                .args(&options.controller_manager_args),
            scheduler: program("kube-scheduler", scheduler)
                .args(scheduler_args(free_port()?, &for_scheduler?))
                .args(limits(options))
                .args(&options.scheduler_args),
            kubeconfig,
            server,
            authority,
        })
    }
}

fn etcd_args(directory: &Path, port: u16, peer_port: u16) -> Vec<String> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    vec![
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data live as long as the test; a disk's speed shall not be measured.
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_args(directory: &Path, port: u16, etcd_port: u16) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // Endpoints of the service `kubernetes` must not be on loopback; nobody uses that service.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

/// How it gets at kubelets: as the user of the kubeconfig, at the addresses that they have.
fn kubelet_args(directory: &Path) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("--kubelet-client-certificate={}", file("admin.crt")),
        format!("--kubelet-client-key={}", file("admin.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ]
}

fn controller_manager_args(directory: &Path, port: u16, kubeconfig: &Path) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("sa.key")),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        // So that no test waits for rounds of 15 s.
        "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
    ]
}

/// None that belongs to a cloud or to a Pod network, where nothing else is asked for.
fn controllers(options: &ControlPlaneOptions) -> Option<&'static str> {
    let asked_for = options.controller_manager_args.iter().any(|arg| arg.starts_with("--controllers="));
    (!asked_for).then_some(
        "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller,\
         -cloud-node-lifecycle-controller",
    )
}

fn scheduler_args(port: u16, kubeconfig: &Path) -> Vec<String> {
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--leader-elect=false".to_owned(),
    ]
}

fn limits(options: &ControlPlaneOptions) -> Vec<String> {
    options
        .requests_per_second
        .map_or_else(Vec::new, |rate| vec![format!("--kube-api-qps={rate}"), format!("--kube-api-burst={}", rate * 2)])
}
