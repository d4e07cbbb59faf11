//! Where the API of a kubelet is served for a base's Node.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

use super::super::names;

/// Address and port that all Nodes of bases have in common, since one serves them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletEndpoint {
    /// One that the API server reaches.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

/// The port that a Node says its kubelet has.
pub(super) fn kubelet_port(node: &Node) -> Option<i32> {
    let endpoints = node.status.as_ref()?.daemon_endpoints.as_ref()?;
    endpoints.kubelet_endpoint.as_ref().map(|endpoint| endpoint.port).filter(|port| *port != 0)
}

/// The address of a base, as its Node has it: where there is a kubelet's port, the Node's own address is that one's.
pub fn base_address(node: &Node) -> Option<&str> {
    if kubelet_port(node).is_some() {
        return node.metadata.annotations.as_ref()?.get(names::BASE_ADDRESS).map(String::as_str);
    }
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(port: i32, annotation: Option<&str>) -> Node {
        let annotations = annotation.map(|address| json!({ names::BASE_ADDRESS: address }));
        let node = json!({
            "metadata": { "annotations": annotations },
            "status": {
                "addresses": [{ "type": "Hostname", "address": "h" }, { "type": "InternalIP", "address": "10.96.0.7" }],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
            },
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_nodes_address_is_its_bases_only_where_there_is_no_kubelet() {
        assert_eq!(base_address(&node(0, None)), Some("10.96.0.7"));
        assert_eq!(base_address(&node(0, Some("192.0.2.7"))), Some("10.96.0.7"), "left by somebody");
        assert_eq!(base_address(&node(10250, Some("192.0.2.7"))), Some("192.0.2.7"));
        assert_eq!(base_address(&node(10250, None)), None, "not the kubelet's, whose it is not");
        assert_eq!(base_address(&Node::default()), None);
    }
}
