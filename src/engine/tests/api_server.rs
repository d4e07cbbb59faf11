//! As much of an API server as the engine's writes need.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::{
    api::Key,
    domain::{BaseId, Ledger, ModuleId},
    k8s::{Installs, journal_installs, names},
};

/// What it has.
#[derive(Default)]
pub(super) struct ApiServer {
    /// Pods by uid, Nodes by base.
    pub(super) objects: BTreeMap<String, Value>,
    /// The journal.
    pub(super) segments: BTreeMap<String, Installs>,
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
    pub(super) fn with(journal: Installs) -> Self {
        Self { segments: BTreeMap::from([("left".to_owned(), journal)]), ..Self::default() }
    }

    pub(super) fn apply(&mut self, key: &Key, body: &Value) -> Done {
        let name = match key {
            Key::PodStatus(uid) if !self.objects.contains_key(&**uid) => return Done::NotFound,
            Key::PodStatus(uid) => uid.to_string(),
            Key::Node(base) => base.to_string(),
            Key::PodDelete(uid) => return self.objects.remove(&**uid).map_or(Done::NotFound, Done::Removed),
            Key::Journal(name) => {
                let segment: ConfigMap = serde_json::from_value(body.clone()).unwrap();
                self.segments.insert(name.to_string(), journal_installs(&segment));
                return Done::Other;
            }
            Key::JournalEnd(name) => {
                self.segments.remove(&**name);
                return Done::Other;
            }
            _ => return Done::Other,
        };
        let object = self.objects.entry(name.clone()).or_default();
        merge(object, body);
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

    /// The next process would find this install in the journal or on the base's Node.
    pub(super) fn is_on_record(&self, base: &str, install: &ModuleId) -> bool {
        let annotation = &self.objects[base]["metadata"]["annotations"][names::LEDGER];
        let ledger: Ledger = serde_json::from_str(annotation.as_str().unwrap_or("{}")).unwrap();
        let mut segments = self.segments.values().filter_map(|installs| installs.get(&BaseId::new(base)));
        ledger.installed(install) || segments.any(|installs| installs.contains(install))
    }
}

/// Objects merge; anything else is replaced. The lists in what the engine writes are whole.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => into.clone_from(patch),
    }
}
