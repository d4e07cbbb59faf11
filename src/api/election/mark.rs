//! A label on the leader's Pod, by which the Service of the HTTP tunnel finds it: a base posts to one replica only, and it
//! has to be the one that leads.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use crate::{k8s::names, said::Said};

/// One try takes no longer: the lead has to be renewed meanwhile.
const WITHIN: Duration = Duration::from_secs(1);

/// Which Pods are to have the label, and which not. Bounded: there are two at most.
pub(super) struct Marks {
    pods: Api<Pod>,
    /// The Pod we run in; none: there is nobody to mark.
    me: Option<String>,
    wanted: Vec<(String, bool)>,
    said: Said,
}

impl Marks {
    /// A standby, whose Pod may have the label from the process before.
    pub(super) fn new(client: Client, namespace: &str, me: Option<String>) -> Self {
        let wanted = me.iter().map(|pod| (pod.clone(), false)).collect();
        Self { pods: Api::namespaced(client, namespace), me, wanted, said: Said::default() }
    }

    /// We lead, and this one did before.
    pub(super) fn leads(&mut self, before: Option<&str>) {
        let Some(me) = &self.me else { return };
        let before = before.filter(|pod| pod != me).map(|pod| (pod.to_owned(), false));
        self.wanted = [(me.clone(), true)].into_iter().chain(before).collect();
    }

    /// Tries what is left to do, once; what fails is left.
    pub(super) async fn put(&mut self) {
        let mut left = Vec::new();
        for (pod, marked) in std::mem::take(&mut self.wanted) {
            let label = marked.then_some("true");
            let patch = Patch::Merge(json!({ "metadata": { "labels": { names::LEADER: label } } }));
            let written = timeout(WITHIN, self.pods.patch_metadata(&pod, &PatchParams::default(), &patch)).await;
            let why = match written {
                // One that is gone needs no label, and outside a cluster there is no Pod.
                Ok(Ok(_)) => continue,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", WITHIN.as_secs()),
            };
            if self.said.is_new(&why) {
                warn!(pod, error = why, "cannot label the Pod that leads: bases over HTTP may not find it");
            }
            left.push((pod, marked));
        }
        self.wanted = left;
    }
}
