//! From a module's Pod to its base, and to the Pod that the base itself runs in.
//!
//! What a base says of itself is not believed by itself: a Pod is the base's own only where it has the name *and* the
//! address that the base claims, and is in the module's namespace or in one that whoever runs modulet has listed. So
//! who reads a module's log sees no Pod that they could not read without it.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};

use super::{answer::Refused, questions::Questions};
use crate::{
    domain::printable,
    k8s::{base_address, component, names},
    tunnel::Topics,
};

/// Characters of what others say.
const QUOTE: usize = 200;
/// The container that is the base, where no label says another.
const CONTAINER: &str = "base";

/// Reads what it takes to find a base.
pub(super) struct Cluster {
    client: Client,
    topics: Topics,
    namespaces: Vec<String>,
    questions: Questions,
}

/// The base of a module's Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) node: String,
    pub(super) host: Option<String>,
    pub(super) address: Option<String>,
}

/// The Pod that a base runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnPod {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The base's container, or why it is not known.
    pub(super) container: Result<String, String>,
    /// How an entry of its log begins, if it says so.
    pub(super) entries: Option<String>,
}

impl Cluster {
    pub(super) fn new(client: Client, topics: Topics, namespaces: Vec<String>) -> Self {
        Self { client, topics, namespaces, questions: Questions::default() }
    }

    /// Whether it is the Node of one of our bases.
    pub(super) fn is_ours(&self, node: &str) -> bool {
        self.topics.base_of(node).is_some()
    }

    /// A Pod, if it is there and on one of our Nodes.
    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Option<(Pod, String)>, Refused> {
        let pod = self.any_pod(namespace, name).await?;
        let node = pod.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        Ok(pod.zip(node).filter(|(_, node)| self.is_ours(node)))
    }

    async fn any_pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Refused> {
        let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let found = self.questions.ask("look for a Pod", pods.list(&by_name)).await?;
        Ok(found.items.into_iter().next())
    }

    /// At most so many Pods that are like this, of all namespaces; none: there are more.
    pub(super) async fn pods(&self, like: ListParams, most: u32) -> Result<Option<Vec<Pod>>, Refused> {
        let (like, pods) = (like.limit(most), Api::<Pod>::all(self.client.clone()));
        let list = self.questions.ask("list the Pods of modules", pods.list(&like)).await?;
        let has_more = list.metadata.continue_.is_some_and(|more| !more.is_empty());
        Ok((!has_more).then_some(list.items))
    }

    /// What the base of this Node says of where it is.
    pub(super) async fn base(&self, node: &str) -> Result<Base, Refused> {
        let by_name = ListParams::default().fields(&format!("metadata.name={node}"));
        let nodes = Api::<Node>::all(self.client.clone());
        let found =
            self.questions.ask("look for the base's Node", nodes.list(&by_name)).await?.items.into_iter().next();
        let host = found.as_ref().and_then(|node| node.metadata.labels.as_ref()?.get(names::BASE_HOST).cloned());
        let address = found.as_ref().and_then(base_address).map(str::to_owned);
        Ok(Base { node: node.to_owned(), host, address })
    }

    /// The Pod of a base, for a module in this namespace; or where the base is, in words.
    pub(super) async fn own_pod(&self, base: &Base, namespace: &str) -> Result<Result<OwnPod, String>, Refused> {
        let Base { host: Some(host), address: Some(address), .. } = base else { return Ok(Err(elsewhere(base))) };
        if !names::is_object_name(host) {
            return Ok(Err(elsewhere(base)));
        }
        for namespace in [namespace].into_iter().chain(self.namespaces.iter().map(String::as_str)) {
            let Some(pod) = self.any_pod(namespace, host).await? else { continue };
            let there = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
            // Pods of modules have their base's address too, and their log would be asked of us.
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            if there == Some(address) && component(&pod) != Some("module") && !self.is_ours(on) {
                let container = container(&pod);
                let entries = pod.metadata.annotations.and_then(|mut all| all.remove(names::LOG_ENTRIES));
                return Ok(Ok(OwnPod { namespace: namespace.to_owned(), name: host.clone(), container, entries }));
            }
        }
        Ok(Err(elsewhere(base)))
    }
}

/// Which container of its own Pod the base is.
fn container(pod: &Pod) -> Result<String, String> {
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let has = |name: &str| containers.iter().any(|container| container.name == name);
    let label = names::BASE_CONTAINER;
    match (pod.metadata.labels.as_ref().and_then(|labels| labels.get(label)), containers) {
        (Some(named), _) if has(named) => Ok(named.clone()),
        (Some(named), _) => Err(format!("its label {label} names a container that it does not have: {named:?}")),
        (None, [only]) => Ok(only.name.clone()),
        (None, _) if has(CONTAINER) => Ok(CONTAINER.to_owned()),
        (None, several) => {
            let all: Vec<_> = several.iter().map(|container| container.name.as_str()).collect();
            Err(format!("it has several containers ({}): name the base's in its label {label}", all.join(", ")))
        }
    }
}

/// For a base that is no Pod that may be shown.
fn elsewhere(base: &Base) -> String {
    let or = |said: &Option<String>| match said {
        Some(said) => printable(said, QUOTE).into_owned(),
        None => "one that it does not say".to_owned(),
    };
    let (host, address) = (or(&base.host), or(&base.address));
    format!("its base ({}) is on host {host} at address {address}", base.node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(label: Option<&str>, containers: &[&str]) -> Pod {
        let containers: Vec<_> = containers.iter().map(|name| json!({ "name": name })).collect();
        let labels = label.map_or(json!({}), |name| json!({ names::BASE_CONTAINER: name }));
        let pod = json!({ "metadata": { "labels": labels }, "spec": { "containers": containers } });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_container_is_the_one_that_the_label_names_or_base_or_the_only_one() {
        assert_eq!(container(&pod(Some("java"), &["base", "java"])).as_deref(), Ok("java"));
        assert_eq!(container(&pod(None, &["agent", "base"])).as_deref(), Ok("base"));
        assert_eq!(container(&pod(None, &["java"])).as_deref(), Ok("java"));
        let missing = container(&pod(Some("gone"), &["java"])).unwrap_err();
        assert!(missing.contains("base.koupleless.io/container-name") && missing.contains("\"gone\""), "{missing}");
        let several = container(&pod(None, &["java", "agent"])).unwrap_err();
        assert!(several.contains("java, agent") && several.contains("base.koupleless.io/container-name"), "{several}");
        assert!(container(&pod(None, &[])).is_err());
    }

    #[test]
    fn a_base_that_is_no_pod_is_told_by_what_it_says() {
        let base = |host: Option<&str>, address: Option<&str>| Base {
            node: "vnode.base-1.dev".to_owned(),
            host: host.map(str::to_owned),
            address: address.map(str::to_owned),
        };
        let told = elsewhere(&base(Some("vm-7"), Some("192.0.2.7")));
        assert_eq!(told, "its base (vnode.base-1.dev) is on host vm-7 at address 192.0.2.7");
        assert!(elsewhere(&base(None, None)).contains("one that it does not say"));
    }
}
