//! The objects that environments refer to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use super::super::{limits, names};
use crate::domain::printable;

/// An object that an environment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// Namespace and name of a `ConfigMap`.
    ConfigMap(String, String),
    /// Namespace and name of a Secret.
    Secret(String, String),
    /// Namespace and name of a `ReplicaSet`, whose template is read. No environment refers to one.
    Template(String, String),
}

impl Reference {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::ConfigMap(_, name) | Self::Secret(_, name) | Self::Template(_, name) => name,
        }
    }

    /// The reason of the Event that says that it does not exist (convention of virtual-kubelets).
    pub fn missing(&self, needed: bool) -> Option<&'static str> {
        Some(match (self, needed) {
            (Self::ConfigMap(..), true) => "MandatoryConfigMapNotFound",
            (Self::ConfigMap(..), false) => "OptionalConfigMapNotFound",
            (Self::Secret(..), true) => "MandatorySecretNotFound",
            (Self::Secret(..), false) => "OptionalSecretNotFound",
            (Self::Template(..), _) => return None,
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = printable(self.name(), limits::QUOTE_MAX);
        match self {
            Self::ConfigMap(namespace, _) => write!(f, "ConfigMap {namespace}/{name}"),
            Self::Template(namespace, _) => write!(f, "ReplicaSet {namespace}/{name}"),
            Self::Secret(namespace, _) => write!(f, "Secret {namespace}/{name}"),
        }
    }
}

/// What is known of a referred object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referred {
    /// Its entries; those that are no text are left out.
    Data(BTreeMap<String, String>),
    /// It does not exist.
    Missing,
    /// It can't be read; the text says why.
    Unreadable(String),
}

/// All objects that the Pod's environments refer to, and whether it cannot do without. A name that no object can have is not
/// looked for: the API server does not check it, and it would become part of a path.
pub fn references(pod: &core::Pod) -> BTreeMap<Reference, bool> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut found = BTreeMap::new();
    let mut refers = |reference: Reference, optional: Option<bool>| {
        *found.entry(reference).or_insert(false) |= optional != Some(true);
    };
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        for source in container.env_from.iter().flatten() {
            if let Some(r) = &source.config_map_ref {
                refers(Reference::ConfigMap(namespace.clone(), r.name.clone()), r.optional);
            }
            if let Some(r) = &source.secret_ref {
                refers(Reference::Secret(namespace.clone(), r.name.clone()), r.optional);
            }
        }
        for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            if let Some(r) = &source.config_map_key_ref {
                refers(Reference::ConfigMap(namespace.clone(), r.name.clone()), r.optional);
            }
            if let Some(r) = &source.secret_key_ref {
                refers(Reference::Secret(namespace.clone(), r.name.clone()), r.optional);
            }
        }
    }
    found.retain(|reference, _| names::is_object_name(reference.name()));
    found
}
