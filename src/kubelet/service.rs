//! Who asks is known, may, and means a module whose base is found: that stands before each answer.

use std::sync::Arc;

use axum::http::Method;
use k8s_openapi::api::{authentication::v1::UserInfo, core::v1::Pod};

use super::{
    access::Action,
    answer::Refused,
    base::{Cluster, OwnPod},
    logs::Logs,
    port_forward::Forwards,
    review::Reviews,
};
use crate::{
    api::Clients,
    domain::printable,
    k8s::{component, names},
    metrics::Metrics,
    tunnel::Topics,
};

/// What answers.
pub(super) struct Kubelet {
    pub(super) logs: Logs,
    pub(super) forwards: Forwards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cluster: Cluster,
    reviews: Reviews,
}

impl Kubelet {
    pub(super) fn new(clients: Clients, topics: Topics, namespaces: Vec<String>, metrics: Arc<Metrics>) -> Self {
        Self {
            reviews: Reviews::new(clients.requests.clone()),
            cluster: Cluster::new(clients.requests, topics, namespaces),
            forwards: Forwards::new(clients.streams.clone(), metrics.kubelet.forwards.clone()),
            logs: Logs::new(clients.streams, metrics.kubelet.logs.clone()),
            metrics,
        }
    }

    /// By the certificate of the connection, else by a token. Nobody is served without a name.
    pub(super) async fn user(&self, certified: Option<UserInfo>, token: Option<&str>) -> Result<UserInfo, Refused> {
        if let Some(user) = certified {
            return Ok(user);
        }
        let token = token.ok_or(Refused::Unauthorized)?;
        self.reviews.user(token).await?.ok_or(Refused::Unauthorized)
    }

    /// That a user may do one of these to a Node; empty: to all Nodes.
    pub(super) async fn authorize(&self, user: &UserInfo, actions: &[Action], node: &str) -> Result<(), Refused> {
        for action in actions {
            if self.reviews.allows(user, *action, node).await? {
                return Ok(());
            }
        }
        let Action { verb, subresource } =
            actions.last().copied().unwrap_or(Action { verb: "get", subresource: "proxy" });
        let user = printable(user.username.as_deref().unwrap_or_default(), 200).into_owned();
        Err(Refused::Forbidden { user, verb, subresource, node: node.to_owned() })
    }

    /// Where the base is of the module that a path names, if whoever asks may reach its Node: in a Pod of its own, or
    /// elsewhere, in words.
    pub(super) async fn base_of(
        &self,
        user: &UserInfo,
        method: &Method,
        target: &Target,
    ) -> Result<Result<OwnPod, String>, Refused> {
        let Target { namespace, pod: name, container } = target;
        let parts = [Some(namespace), Some(name), container.as_ref()];
        if let Some(odd) = parts.into_iter().flatten().find(|part| !names::is_object_name(part)) {
            return Err(Refused::NotPossible(format!("{:?} is no name", printable(odd, 100))));
        }
        let found = self.cluster.pod(namespace, name).await?;
        let node = found.as_ref().map(|(_, node)| node.as_str()).unwrap_or_default();
        self.authorize(user, &Action::of(method, "/"), node).await?;
        let Some((pod, node)) = found else {
            return Err(Refused::NotFound(format!("there is no Pod {namespace}/{name} on a base of this modulet")));
        };
        if component(&pod) != Some("module") {
            let why = format!("the Pod {namespace}/{name} is no module, so its base ({node}) does not run it");
            return Err(Refused::NotPossible(why));
        }
        if let Some(container) = container.as_ref().filter(|container| !has_container(&pod, container)) {
            return Err(Refused::NotFound(format!("the Pod {namespace}/{name} has no container {container}")));
        }
        let base = self.cluster.base(&node).await?;
        self.cluster.own_pod(&base, namespace).await
    }
}

/// What a path names. Some have the Pod's uid as well.
#[derive(serde::Deserialize)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: Option<String>,
}

fn has_container(pod: &Pod, name: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().any(|container| container.name == name))
}
