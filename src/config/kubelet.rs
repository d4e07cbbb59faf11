//! Options of the kubelet API.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;

use crate::{
    k8s::{KubeletEndpoint, names},
    kubelet::{KubeletConfig, Place, Source},
};

/// What answers `kubectl logs` and its like.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "they are the names of the options")]
pub(super) struct KubeletArgs {
    /// Address at which the API server reaches modulet's kubelet API (kubectl logs): that of a Service before all replicas. Switches it on, and becomes the address of all Nodes of bases
    #[arg(long, env = "MODULET_KUBELET_API_ADDRESS", value_name = "ADDRESS", value_parser = parse_address)]
    kubelet_api_address: Option<IpAddr>,

    /// Where the kubelet API listens. Its port is that of all Nodes of bases
    #[arg(long, env = "MODULET_KUBELET_API_LISTEN", default_value = "0.0.0.0:10250", value_name = "ADDRESS:PORT")]
    kubelet_api_listen: SocketAddr,

    /// PEM file of the kubelet API's certificate. Without it one is made at the start, which an API server with --kubelet-certificate-authority does not take. Read again when it changes
    #[arg(long, env = "MODULET_KUBELET_API_CRT_PATH", value_name = "FILE", requires = "kubelet_api_key_path")]
    kubelet_api_crt_path: Option<PathBuf>,

    /// PEM file of its key
    #[arg(long, env = "MODULET_KUBELET_API_KEY_PATH", value_name = "FILE", requires = "kubelet_api_crt_path")]
    kubelet_api_key_path: Option<PathBuf>,

    /// Secret in modulet's own namespace for a certificate of the kubelet API that the cluster signs: it is asked for by a request (CSR, kubernetes.io/kubelet-serving) that somebody has to approve
    #[arg(long, env = "MODULET_KUBELET_API_CSR_SECRET", value_name = "NAME", value_parser = parse_secret, conflicts_with = "kubelet_api_crt_path")]
    kubelet_api_csr_secret: Option<String>,

    /// Namespaces, comma-separated, whose Pods may be bases of modules in all other namespaces: who may read logs of modules there can read those of all Pods here
    #[arg(long, env = "MODULET_KUBELET_API_BASE_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE,…", value_parser = parse_namespace)]
    kubelet_api_base_namespaces: Vec<String>,
}

impl KubeletArgs {
    /// None: it is not switched on.
    pub(super) fn config(self, namespace: &str) -> Option<KubeletConfig> {
        let files = self.kubelet_api_crt_path.zip(self.kubelet_api_key_path);
        let asked = self.kubelet_api_csr_secret.map(|secret| Place { namespace: namespace.to_owned(), secret });
        let files = files.map(|(certificate, key)| Source::Files(certificate, key));
        Some(KubeletConfig {
            endpoint: KubeletEndpoint { address: self.kubelet_api_address?, port: self.kubelet_api_listen.port() },
            listen: self.kubelet_api_listen,
            certificate: asked.map(Source::Asked).or(files).unwrap_or(Source::Made),
            base_namespaces: self.kubelet_api_base_namespaces,
        })
    }
}

/// Loopback is for tests and for who tries it on one machine.
fn parse_address(address: &str) -> Result<IpAddr, String> {
    if address.starts_with("$(") {
        return Err(
            "the Service was not there when the Pod was started: it is there when the container is started anew"
                .to_owned(),
        );
    }
    let address: IpAddr = address.parse().map_err(|_| "give an IP address: Nodes have no others".to_owned())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("give the one address that leads to modulet".to_owned());
    }
    Ok(address.to_canonical())
}

pub(super) fn parse_namespace(name: &str) -> Result<String, String> {
    if names::is_object_name(name) { Ok(name.to_owned()) } else { Err("give names of namespaces".to_owned()) }
}

fn parse_secret(name: &str) -> Result<String, String> {
    if names::is_object_name(name) { Ok(name.to_owned()) } else { Err("give the name of a Secret".to_owned()) }
}
