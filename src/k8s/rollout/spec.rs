//! What a person wants of a rollout.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{schema, status::ModuleRolloutStatus};

/// Releases a workload's new revisions in batches of bases.
#[expect(clippy::duplicated_attributes, reason = "columns of one type")]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "modulet.koupleless.io",
    version = "v1alpha1",
    kind = "ModuleRollout",
    doc = "Releases a workload's new revisions in batches of bases.",
    namespaced,
    shortname = "mro",
    status = "ModuleRolloutStatus",
    derive = "PartialEq",
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workloadRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.stepOf"),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.doneOf"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.bases.failed"),
    printcolumn(name = "Waiting For", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.steps) != has(self.batches)", "message": "say steps or batches, one of the two" }
]))]
pub struct ModuleRolloutSpec {
    /// The workload whose new revisions are released in batches: a Deployment, or a DaemonSet with the update
    /// strategy `OnDelete`. It cannot be changed: make another `ModuleRollout` for another workload.
    #[schemars(extend("x-kubernetes-validations" = [
        { "rule": "self == oldSelf",
          "message": "workloadRef cannot be changed: make another ModuleRollout for another workload" },
        { "rule": "self.apiVersion == 'apps/v1' && self.kind in ['Deployment', 'DaemonSet']",
          "message": "workloadRef is a Deployment or a DaemonSet of apps/v1; \
                      a StatefulSet has rollingUpdate.partition of its own" }
    ]))]
    pub workload_ref: WorkloadRef,
    /// The batches, one after the other. Each says up to how many bases have the new revision when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [
        { "rule": "string(self[size(self) - 1].replicas) == '100%' && !has(self[size(self) - 1].selector)",
          "message": "the last step is for all bases: replicas \"100%\", without a selector" },
        { "rule": "self.map(s, has(s.selector) ? 0 : 1).isSorted()",
          "message": "steps with a selector come first" },
        { "rule": schema::rises("[self.filter(s, type(s.replicas) == int).map(s, int(s.replicas))]"),
          "message": "steps rise: each has more replicas than the one before" },
        { "rule": schema::rises(&schema::per_cents_of("self")),
          "message": "steps rise: each has a higher per cent than the one before" }
    ]))]
    pub steps: Option<Vec<Step>>,
    /// Batches of about the same size, in the words of Koupleless' `ModuleDeployment`; instead of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    /// So many bases are at work on the new revision at once.
    #[serde(default = "max_parallel")]
    #[schemars(with = "i32", range(min = 1, max = 1000))]
    pub max_parallel: u32,
    /// A batch that has made no progress for so long has failed.
    #[serde(default = "progress_deadline_seconds")]
    #[schemars(with = "i32", range(min = 1, max = 604_800))]
    pub progress_deadline_seconds: u32,
    /// What happens when the new revision fails on bases.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// What happens to bases that come while a release is under way.
    #[serde(default)]
    pub joined_bases: JoinedBases,
}

fn max_parallel() -> u32 {
    10
}

fn progress_deadline_seconds() -> u32 {
    600
}

/// A workload of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Its API group and version.
    #[schemars(length(max = 253))]
    pub api_version: String,
    /// Its kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// So many bases, all steps before counted in, have the new revision when this step is done: a number, or a per
    /// cent, rounded up, of the bases that have a Pod of the workload or wait for one.
    #[schemars(schema_with = "schema::number_or_percent")]
    pub replicas: IntOrString,
    /// Only bases whose Nodes have these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
    /// What comes between this step and the next one. Without it, the next one begins at once. After the last step
    /// nothing comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// A time between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// For so long. Without it, until somebody confirms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 2_592_000))]
    pub duration_seconds: Option<u32>,
}

/// Batches of about the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!self.beta || self.count > 1", "message": "beta is the first of at least two batches" }
]))]
pub struct Batches {
    /// How many batches.
    #[schemars(with = "i32", range(min = 1, max = 100))]
    pub count: u32,
    /// Whether the first batch is one base, after which somebody has to confirm.
    #[serde(default)]
    pub beta: bool,
    /// Whether somebody has to confirm between batches.
    #[serde(default)]
    pub confirm: bool,
    /// So long is waited between batches that nobody has to confirm.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 2_592_000))]
    pub gray_seconds: u32,
}

/// What happens when the new revision fails on bases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailurePolicy {
    /// So many bases may fail, and the release goes on.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 100_000))]
    pub max_failures: u32,
    /// What happens beyond it.
    #[serde(default)]
    pub action: FailureAction,
}

/// What happens when too many bases failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureAction {
    /// No further base gets the new revision, until somebody decides.
    #[default]
    Pause,
    /// The workload gets the template of its stable revision again.
    Rollback,
}

/// What happens to bases that come while a release is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JoinedBases {
    /// They are the first of the next batch.
    #[default]
    Wait,
    /// They get the new revision as soon as one batch is done.
    Release,
}
