//! As much of an API server as the engine's writes need, and as strict as a real one in that: what it refuses, how it
//! merges, what it makes of what it is given.

mod objects;
mod tests;
mod validation;

use std::collections::BTreeMap;

use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

pub(super) use objects::Kind;
use objects::{canonical, refused};

use crate::{
    api::{Request, WriteError},
    domain::{BaseId, ModuleId},
    k8s::{
        ledgers_in,
        merge::{json_merge, strategic_merge},
        ordered_in,
    },
};

/// A larger object is not stored (etcd's limit).
const MOST_BYTES: usize = 1536 * 1024;

/// What it has.
#[derive(Default)]
pub(super) struct ApiServer {
    /// Pods by uid, Nodes by base, objects of the record by name.
    pub(super) objects: BTreeMap<String, Value>,
    /// By the name of their Node.
    pub(super) leases: BTreeMap<String, Value>,
    version: u64,
    made: u64,
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Done {
    /// This object has changed, and has this resource version.
    Changed(String, u64),
    /// It is as it was, with this resource version: no watch shows anything.
    Same(u64),
    /// This object is gone.
    Removed(Value),
}

/// Where an object is.
#[derive(Clone, Debug)]
struct Place {
    kind: Kind,
    namespace: Option<String>,
    name: String,
    status: bool,
}

impl Place {
    /// The place that a path names; the name is empty for a collection.
    fn of(path: &str) -> Self {
        let mut parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let status = parts.last() == Some(&"status");
        if status {
            parts.pop();
        }
        let from = parts.iter().position(|part| Kind::of(part).is_some()).unwrap();
        let namespace = (parts[from - 2] == "namespaces").then(|| parts[from - 1].to_owned());
        let name = parts.get(from + 1).copied().unwrap_or_default().to_owned();
        Self { kind: Kind::of(parts[from]).unwrap(), namespace, name, status }
    }

    fn is_of(&self, object: &Value) -> bool {
        let namespace = self.namespace.as_deref().filter(|_| self.kind == Kind::Pod);
        object["kind"] == self.kind.as_str()
            && object["metadata"]["name"] == self.name
            && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
    }
}

impl ApiServer {
    /// Does what is asked for, or says why not.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Done, WriteError> {
        let (method, path, content_type) = request.target();
        let (place, body) = (Place::of(path), request.body());
        match *method {
            Method::POST => self.create(&place, body),
            Method::PATCH => self.patch(&place, content_type, &body),
            Method::DELETE => self.delete(&place, &body),
            ref other => panic!("{other} {path}"),
        }
    }

    fn all(&mut self, kind: Kind) -> &mut BTreeMap<String, Value> {
        if kind == Kind::Lease { &mut self.leases } else { &mut self.objects }
    }

    fn find(&mut self, place: &Place) -> Option<String> {
        self.all(place.kind).iter().find(|(_, object)| place.is_of(object)).map(|(key, _)| key.clone())
    }

    fn create(&mut self, place: &Place, mut object: Value) -> Result<Done, WriteError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.find(&Place { name: name.clone(), ..place.clone() }).is_some() {
            return Err(refused(409, format!("{} {name:?} already exists", place.kind.as_str())));
        }
        if place.kind == Kind::Node {
            // The admission plugin TaintNodesByCondition.
            let taint = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
            match object["spec"]["taints"].as_array_mut() {
                Some(taints) => taints.push(taint),
                None => object["spec"]["taints"] = json!([taint]),
            }
        }
        let key = place.kind.key_of(&name);
        let object = self.admitted(place.kind, object, None)?;
        self.all(place.kind).insert(key.clone(), object);
        Ok(self.touched(place.kind, key))
    }

    fn patch(&mut self, place: &Place, content_type: &str, patch: &Value) -> Result<Done, WriteError> {
        let not_found = || refused(404, format!("{} {:?} not found", place.kind.as_str(), place.name));
        let key = self.find(place).ok_or_else(not_found)?;
        let old = self.all(place.kind)[&key].clone();
        let mut new = old.clone();
        match content_type {
            "application/strategic-merge-patch+json" => strategic_merge(&mut new, patch),
            "application/merge-patch+json" => json_merge(&mut new, patch),
            other => panic!("{other}"),
        }
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(refused(409, "the object has been modified; please apply your changes to the latest version"));
        }
        // A status is written at its own path, and there nothing else is.
        let kept = match (place.kind, place.status) {
            (Kind::Pod | Kind::Node, true) => Some("spec"),
            (Kind::Pod | Kind::Node, false) => Some("status"),
            (Kind::Record | Kind::Lease, _) => None,
        };
        if let Some(kept) = kept {
            new[kept] = old[kept].clone();
        }
        let new = self.admitted(place.kind, new, Some(&old))?;
        if new == old {
            return Ok(Done::Same(version_of(&old)));
        }
        self.all(place.kind).insert(key.clone(), new);
        Ok(self.touched(place.kind, key))
    }

    fn delete(&mut self, place: &Place, options: &Value) -> Result<Done, WriteError> {
        let not_found = || refused(404, format!("{} {:?} not found", place.kind.as_str(), place.name));
        let key = self.find(place).ok_or_else(not_found)?;
        let object = &self.all(place.kind)[&key];
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Err(refused(409, format!("the uid in the precondition ({uid}) is not the object's")));
        }
        if object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
            let metadata = &mut self.all(place.kind).get_mut(&key).unwrap()["metadata"];
            if metadata["deletionTimestamp"].is_null() {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
            }
            metadata["deletionGracePeriodSeconds"] = json!(0);
            return Ok(self.touched(place.kind, key));
        }
        self.version += 1;
        Ok(Done::Removed(self.all(place.kind).remove(&key).unwrap()))
    }

    /// The object as it is stored.
    fn admitted(&mut self, kind: Kind, mut object: Value, old: Option<&Value>) -> Result<Value, WriteError> {
        let metadata = &mut object["metadata"];
        if let Some(old) = old.map(|old| &old["metadata"]) {
            for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
                metadata[field] = old[field].clone();
            }
        } else {
            self.made += 1;
            let name = metadata["name"].as_str().unwrap_or_default();
            metadata["uid"] = json!(format!("uid-{}-of-{name}", self.made));
            metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        if kind == Kind::Pod
            && let Some(old) = old
        {
            object["metadata"]["ownerReferences"] = old["metadata"]["ownerReferences"].clone();
            for field in ["qosClass", "observedGeneration"] {
                if object["status"][field].is_null() {
                    object["status"][field] = old["status"][field].clone();
                }
            }
        }
        let object = canonical(kind, object)?;
        validation::check(kind, &object, old)?;
        if object.to_string().len() > MOST_BYTES {
            return Err(refused(413, "etcdserver: request is too large"));
        }
        Ok(object)
    }

    /// The object has another resource version now.
    fn touched(&mut self, kind: Kind, key: String) -> Done {
        self.version += 1;
        let version = self.version;
        self.all(kind).get_mut(&key).unwrap()["metadata"]["resourceVersion"] = json!(version.to_string());
        Done::Changed(key, version)
    }

    /// Somebody else makes this object, or makes it what it is now.
    pub(super) fn put(&mut self, key: &str, kind: Kind, object: Value) {
        let object = canonical(kind, object).unwrap();
        validation::check(kind, &object, None).unwrap();
        self.objects.insert(key.to_owned(), object);
        self.touched(kind, key.to_owned());
    }

    /// Somebody else changes the object, if that is a valid change.
    pub(super) fn edit(&mut self, key: &str, change: impl FnOnce(&mut Value)) {
        let kind = Kind::of_object(&self.objects[key]);
        let mut object = self.objects[key].clone();
        change(&mut object);
        let object = canonical(kind, object).unwrap();
        let is_valid = validation::check(kind, &object, Some(&self.objects[key])).is_ok();
        if is_valid && object != self.objects[key] {
            self.objects.insert(key.to_owned(), object);
            self.touched(kind, key.to_owned());
        }
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

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0)
}
