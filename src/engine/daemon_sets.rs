//! `DaemonSet`s whose Pods are modules.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Pod, PodTemplateSpec},
};

use crate::{api::Seen, k8s::component, planning::Listing};

/// `DaemonSet`s whose Pods are modules.
#[derive(Debug, Default)]
pub(super) struct DaemonSets {
    all: Vec<DaemonSet>,
    listing: Listing<Option<String>>,
}

impl DaemonSets {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &DaemonSet> {
        self.all.iter()
    }

    /// A fact from the watch.
    pub(super) fn seen(&mut self, seen: Seen<DaemonSet>) {
        match seen {
            Seen::Applied(set) => {
                self.listing.has(set.metadata.uid.clone());
                self.all.retain(|s| s.metadata.uid != set.metadata.uid);
                let modules =
                    set.spec.as_ref().is_some_and(|s| component(&as_pod(&s.template, None)) == Some("module"));
                if modules && set.metadata.deletion_timestamp.is_none() {
                    self.all.push(set);
                }
            }
            Seen::Gone(set) => self.all.retain(|s| s.metadata.uid != set.metadata.uid),
            Seen::ListBegins => self.listing.begins(),
            Seen::ListEnds => {
                let gone = self.listing.ends(self.all.iter().map(|set| set.metadata.uid.clone()));
                self.all.retain(|set| !gone.contains(&set.metadata.uid));
            }
        }
    }
}

/// The Pod that a template makes.
pub(super) fn as_pod(template: &PodTemplateSpec, namespace: Option<String>) -> Pod {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.namespace = namespace;
    Pod { metadata, spec: template.spec.clone(), status: None }
}
