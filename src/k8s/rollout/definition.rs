//! The CRD, made from the types.

use kube::CustomResourceExt;
use serde_json::Value;

use super::ModuleRollout;

/// The CRD of `ModuleRollout`, as it is applied.
pub fn definition() -> Value {
    serde_json::to_value(ModuleRollout::crd()).unwrap_or_default()
}
