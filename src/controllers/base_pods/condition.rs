//! The condition of a base's own Pod: what it says, and the patch that writes it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;

use super::facts::Modules;
use crate::{api::Request, k8s::names};

/// Names of Pods in a message; of more their number is told.
pub(super) const NAMES: usize = 10;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) is_true: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Condition {
    /// What a Pod says.
    pub(super) fn of(pod: &core::Pod) -> Option<Self> {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let ours = conditions.iter().find(|condition| condition.type_ == names::MODULES_READY)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(Self { is_true: ours.status == "True", reason: text(&ours.reason), message: text(&ours.message) })
    }

    /// What it is to say of these modules. It names no number where all is well: it is not written at each release.
    pub(super) fn for_modules(modules: &Modules) -> Self {
        let says = |is_true, reason: &str, message| Self { is_true, reason: reason.to_owned(), message };
        if !modules.missing.is_empty() {
            let (missing, total) = (modules.missing.len(), modules.total);
            let message = format!("{missing} of {total} module Pods are not Ready: {}", list(&modules.missing));
            return says(false, "ModulesNotReady", message);
        }
        if !modules.to_come.is_empty() {
            let message = format!("modules of its baseline have no Pod yet: {}", list(&modules.to_come));
            return says(false, "ModulesToCome", message);
        }
        says(true, "ModulesReady", "every module Pod of this base is Ready".to_owned())
    }
}

fn list(all: &[Arc<str>]) -> String {
    let mut sorted: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    let shown = sorted.get(..NAMES).unwrap_or(&sorted).join(", ");
    let more = sorted.len().saturating_sub(NAMES);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Writes it to the Pod with this uid and to no other of its name. All else of the status is the kubelet's.
pub(super) fn patch(
    namespace: &str,
    name: &str,
    uid: &str,
    condition: &Condition,
    before: Option<&Condition>,
    wall: Timestamp,
) -> Request {
    let status = if condition.is_true { "True" } else { "False" };
    let mut says = json!({
        "type": names::MODULES_READY, "status": status, "reason": condition.reason, "message": condition.message,
    });
    if before.is_none_or(|before| before.is_true != condition.is_true)
        && let Some(fields) = says.as_object_mut()
    {
        fields.insert("lastTransitionTime".to_owned(), json!(Time(wall)));
    }
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    let body = json!({ "metadata": { "uid": uid }, "status": { "conditions": [says] } });
    Request::strategic_patch(path, &body)
}
