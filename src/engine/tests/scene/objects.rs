//! What watches show: objects that come, change and go.

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use serde_json::{Value, json};

use super::{super::api_server::Kind, ENV, Scene, id};
use crate::{
    api::{Lean, Seen, Watched},
    domain::ModuleId,
    k8s::names,
};

impl Scene {
    /// A Pod bound to the base; `owner` is the uid of its `ReplicaSet`.
    pub(crate) fn pod(&mut self, uid: &str, base: &str, module: &str, owner: Option<&str>) {
        let ModuleId { name, version } = id(module);
        let owners = owner.map(|uid| json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true }]));
        let pod = json!({
            "metadata": {
                "name": uid, "namespace": "default", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
                "generation": 1, "labels": { names::COMPONENT: "module" }, "ownerReferences": owners,
            },
            "status": { "phase": "Pending", "qosClass": "BestEffort", "conditions": [{ "type": "PodScheduled", "status": "True" }] },
            "spec": { "nodeName": format!("vnode.{base}.{ENV}"), "containers": [{
                "name": name, "image": "https://modules.example.com/biz.jar",
                "env": [{ "name": names::BIZ_VERSION, "value": version }],
            }] },
        });
        self.api.put(uid, Kind::Pod, pod);
        self.show(uid);
    }

    /// A `ReplicaSet` of the Deployment `d`.
    pub(crate) fn replica_set(&mut self, uid: &str, revision: u32) {
        let set = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": uid, "uid": uid, "annotations": { "deployment.kubernetes.io/revision": revision.to_string() },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true }],
            },
        });
        self.watched(Watched::ReplicaSet(0, Seen::Applied(serde_json::from_value(set).unwrap())));
    }

    /// A watch shows the object as it is now.
    pub(crate) fn show(&mut self, object: &str) {
        let object = self.api.objects[object].clone();
        self.watched(match object["kind"].as_str() {
            Some("ConfigMap") => Watched::Record(Box::new(Seen::Applied(lean::<ConfigMap>(object)))),
            Some("Node") => Watched::Node(Box::new(Seen::Applied(lean::<Node>(object)))),
            _ => Watched::Pod(Box::new(Seen::Applied(lean::<Pod>(object)))),
        });
    }

    fn show_gone(&mut self, object: Value) {
        self.watched(match object["kind"].as_str() {
            Some("ConfigMap") => Watched::Record(Box::new(Seen::Gone(lean::<ConfigMap>(object)))),
            Some("Node") => Watched::Node(Box::new(Seen::Gone(lean::<Node>(object)))),
            _ => Watched::Pod(Box::new(Seen::Gone(lean::<Pod>(object)))),
        });
    }

    /// The watches show what is gone.
    pub(crate) fn show_all_gone(&mut self) {
        while let Some(object) = self.hidden.pop_front() {
            self.show_gone(object);
        }
    }

    /// An object is gone at once. The watches do not show it yet.
    pub(crate) fn vanish(&mut self, object: &str) {
        if let Some(object) = self.api.objects.remove(object) {
            self.hidden.push_back(object);
        }
    }

    /// A Pod is gone at once, and the watch shows it.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.vanish(uid);
        self.show_all_gone();
    }

    /// The watches begin anew, all of them, and deliver what is there.
    pub(crate) fn relist(&mut self) {
        self.lists_pods_and_nodes();
        self.lists_record();
    }

    pub(super) fn lists_pods_and_nodes(&mut self) {
        self.hidden.clear();
        self.watched(Watched::Pod(Box::new(Seen::ListBegins)));
        self.watched(Watched::Node(Box::new(Seen::ListBegins)));
        let all: Vec<_> = self.api.objects.keys().filter(|name| !name.starts_with("modulet-")).cloned().collect();
        all.iter().for_each(|object| self.show(object));
        self.watched(Watched::Pod(Box::new(Seen::ListEnds)));
        self.watched(Watched::Node(Box::new(Seen::ListEnds)));
    }

    pub(super) fn lists_nodes(&mut self) {
        self.watched(Watched::Node(Box::new(Seen::ListBegins)));
        self.show_kind("Node");
        self.watched(Watched::Node(Box::new(Seen::ListEnds)));
    }

    pub(super) fn lists_pods(&mut self) {
        self.watched(Watched::Pod(Box::new(Seen::ListBegins)));
        self.show_kind("Pod");
        self.watched(Watched::Pod(Box::new(Seen::ListEnds)));
    }

    fn show_kind(&mut self, kind: &str) {
        let of_kind = self.api.objects.iter().filter(|(_, object)| object["kind"] == kind);
        let all: Vec<_> = of_kind.map(|(name, _)| name.clone()).collect();
        all.iter().for_each(|object| self.show(object));
    }

    pub(super) fn lists_record(&mut self) {
        self.watched(Watched::Record(Box::new(Seen::ListBegins)));
        let all: Vec<_> = self.api.objects.keys().filter(|name| name.starts_with("modulet-")).cloned().collect();
        all.iter().for_each(|object| self.show(object));
        self.watched(Watched::Record(Box::new(Seen::ListEnds)));
    }
}

/// As a watch reads it.
fn lean<K: crate::api::Watchable>(object: Value) -> K {
    let Lean(object) = serde_json::from_value(object).unwrap();
    object
}
