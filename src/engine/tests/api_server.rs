//! As much of an API server as the engine's writes need.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::{
    api::Key,
    domain::{BaseId, ModuleId},
    k8s::{ledgers_in, merge::strategic_merge, ordered_in},
};

/// What it has.
#[derive(Default)]
pub(super) struct ApiServer {
    /// Pods by uid, Nodes by base, objects of the record by name.
    pub(super) objects: BTreeMap<String, Value>,
    version: u64,
}

/// What came of a write.
pub(super) enum Done {
    /// This object has changed, and has this resource version.
    Changed(String, u64),
    /// This Pod is gone.
    Removed(Value),
    /// Something that no watch shows.
    Other,
    NotFound,
}

impl ApiServer {
    pub(super) fn apply(&mut self, key: &Key, body: &Value) -> Done {
        let name = match key {
            Key::PodStatus(uid) if !self.objects.contains_key(&**uid) => return Done::NotFound,
            Key::PodStatus(uid) => uid.to_string(),
            Key::Node(base) => base.to_string(),
            Key::PodDelete(uid) => return self.objects.remove(&**uid).map_or(Done::NotFound, Done::Removed),
            Key::Record(name) => name.to_string(),
            _ => return Done::Other,
        };
        let object = self.objects.entry(name.clone()).or_default();
        strategic_merge(object, body);
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        }
        self.touch(&name);
        Done::Changed(name, self.version)
    }

    /// Gives the object a new resource version. Returns it.
    pub(super) fn touch(&mut self, name: &str) -> Value {
        self.version += 1;
        let object = self.objects.get_mut(name).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object.clone()
    }

    /// The objects of the record.
    fn record(&self) -> impl Iterator<Item = ConfigMap> {
        let ours = self.objects.iter().filter(|(name, _)| name.starts_with("modulet-"));
        ours.map(|(_, object)| serde_json::from_value(object.clone()).unwrap())
    }

    /// The next process would know that this base was told to install this.
    pub(super) fn is_on_record(&self, base: &str, install: &ModuleId) -> bool {
        let base = BaseId::new(base);
        self.record().any(|object| {
            let ordered = ordered_in(&object).get(install).is_some_and(|not_ours| !not_ours.contains(&base));
            ordered || ledgers_in(&object).any(|(of, saved, _)| of == base && saved.ledger.installed(install))
        })
    }
}
