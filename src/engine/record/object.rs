//! How the objects of the record are written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{api::Request, k8s::record_object};

/// Writes these entries of an object that exists, or makes it of them.
pub(super) fn write(env: &str, path: &str, name: &str, entries: &BTreeMap<String, Value>, exists: bool) -> Request {
    if exists {
        Request::merge_patch(format!("{path}/{name}"), &json!({ "data": entries }))
    } else {
        Request::create(path.to_owned(), &record_object(env, name, entries))
    }
}
