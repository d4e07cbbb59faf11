//! What is asked of the API server, and how it can end.

use http::Method;

/// A request to the API server.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Creates an object in the collection at `path`.
    pub fn create(path: String, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, path, content_type: "application/json", body: body.to_string().into_bytes() }
    }

    /// Strategic merge patch: lists merge by their keys.
    pub fn strategic_patch(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/strategic-merge-patch+json";
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// Merge patch.
    pub fn merge_patch(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/merge-patch+json";
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// JSON patch: operations in order, all or none.
    pub fn json_patch(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/json-patch+json";
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// Server-side apply: what was written before and is not in the body goes.
    pub fn apply(path: String, body: &serde_json::Value) -> Self {
        let content_type = "application/apply-patch+yaml";
        let path = format!("{path}?force=true");
        Self { method: Method::PATCH, path, content_type, body: body.to_string().into_bytes() }
    }

    /// What is sent.
    #[cfg(test)]
    pub(crate) fn body(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// How, and to which object.
    #[cfg(test)]
    pub(crate) fn target(&self) -> (&Method, &str, &'static str) {
        (&self.method, &self.path, self.content_type)
    }

    /// Deletes in the Pod's own grace period, if the object still is the one with `uid`.
    pub fn delete_in_its_time(path: String, uid: &str) -> Self {
        Self::deletion(path, serde_json::json!({ "preconditions": { "uid": uid } }))
    }

    /// Deletes at once, if the object still is the one with `uid`.
    pub fn delete(path: String, uid: &str) -> Self {
        Self::deletion(path, serde_json::json!({ "preconditions": { "uid": uid }, "gracePeriodSeconds": 0 }))
    }

    fn deletion(path: String, mut options: serde_json::Value) -> Self {
        (options["apiVersion"], options["kind"]) = ("v1".into(), "DeleteOptions".into());
        let body = options.to_string().into_bytes();
        Self { method: Method::DELETE, path, content_type: "application/json", body }
    }
}

/// What the API server made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Resource version of the object now; 0 if there is none in the answer.
    pub resource_version: u64,
}

/// Why a write failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused it.
    #[error("{message} ({code})")]
    Refused {
        /// HTTP status.
        code: u16,
        /// For people.
        message: String,
    },
    /// It did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It was not asked: this replica does not lead, or could not renew that.
    #[error("this replica does not lead at the moment")]
    NotLeading,
}

impl WriteError {
    /// The object is not there (any more), or another one has its name.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether the object is there, where the answer tells: not where it was to be changed, or there where it was to be
    /// created.
    pub fn exists(&self) -> Option<bool> {
        if self.is_gone() { Some(false) } else { self.is_conflict().then_some(true) }
    }

    /// The API server was not there, or had no time: another try may do.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NotLeading | Self::Refused { code: 429 | 500..=599, .. })
    }

    /// Whether it says something about the object: that this replica does not lead is said once, by the election.
    pub fn is_about_it(&self) -> bool {
        !matches!(self, Self::NotLeading)
    }

    /// Somebody else wrote first, or the uid is another one's.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }
}
