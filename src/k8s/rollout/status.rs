//! How far a rollout is. With it a modulet that starts anew goes on where the one before was.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// So many failures are named in a status.
pub const MAX_FAILURES: usize = 10;

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModuleRolloutStatus {
    /// The generation of the spec that this was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that is being released, or was last; the value that a confirmation needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The revision that every base had before. It is never held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// The revision that was rolled back. Whoever applies it again finds it held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_revision: Option<String>,
    /// In one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The step that is under way or done, from 1 on.
    #[schemars(with = "i32")]
    pub step: u32,
    /// The same for people: "2/3".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_of: Option<String>,
    /// How many bases are how far.
    pub bases: BaseCounts,
    /// Bases that are done, of all: "6/30".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_of: Option<String>,
    /// What the release waits for, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What is the matter and what can be done, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The bases of the next batch, at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
    /// The first ten failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<RolloutFailure>,
    /// Ready, Progressing, Paused, `WorkloadSuitable`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// By revision, the bases to which it was released.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub released: BTreeMap<String, Vec<String>>,
    /// Bases that somebody passed over because they failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// What is left of the pause after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>")]
    pub pause_seconds_left: Option<u32>,
    /// Whether all that is left of this revision was confirmed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub confirmed_all: bool,
}

/// How many bases are how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BaseCounts {
    /// That have a Pod of the workload or wait for one.
    #[schemars(with = "i32")]
    pub total: u32,
    /// That have the new revision, Ready for `minReadySeconds`.
    #[schemars(with = "i32")]
    pub done: u32,
    /// That are at work on it.
    #[schemars(with = "i32")]
    pub batch: u32,
    /// Whose turn is later.
    #[schemars(with = "i32")]
    pub left: u32,
    /// On which it failed.
    #[schemars(with = "i32")]
    pub failed: u32,
    /// That came since the release began.
    #[schemars(with = "i32")]
    pub joined: u32,
}

/// A rollout in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing is to be released.
    Idle,
    /// A batch is under way.
    Progressing,
    /// Something failed, and somebody has to decide.
    Paused,
    /// A batch is done, and the next one waits for a confirmation or a time.
    Waiting,
    /// Bases go back to the stable revision.
    RollingBack,
    /// Every base has the revision.
    Completed,
    /// Nothing is released: the workload is not suitable, or its revision was rolled back.
    Blocked,
}

/// A base on which the new revision failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutFailure {
    /// The name of its Node.
    pub base: String,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}
