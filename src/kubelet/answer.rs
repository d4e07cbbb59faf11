//! Why a request does not get what it asks for, as people are to read it.

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why not. What is said of others comes from them, so it is cut where it is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody knows who asks.
    #[error("Unauthorized: show a client certificate of the cluster's authority, or a bearer token")]
    Unauthorized,
    /// Who asks may not.
    #[error("Forbidden (user={user}, verb={verb}, resource=nodes, subresource={subresource}, name={node:?})")]
    Forbidden {
        /// Who.
        user: String,
        /// What for.
        verb: &'static str,
        /// On which part of a Node.
        subresource: &'static str,
        /// Which Node; empty: all.
        node: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is not as it should be, or cannot be done; the text says what can.
    #[error("{0}")]
    NotPossible(String),
    /// There are as many already as there may be.
    #[error("{0}")]
    TooMany(String),
    /// This part of a kubelet does not exist here.
    #[error("{0}")]
    NotHere(&'static str),
    /// The API server does not say.
    #[error("modulet cannot {what}: {why}")]
    Cluster {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
}

impl Refused {
    /// As HTTP has it, and as Kubernetes does.
    fn status_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::NotPossible(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::NotHere(_) => (StatusCode::NOT_IMPLEMENTED, "BadRequest"),
            Self::Cluster { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status_and_reason().0
    }

    /// As an object: whoever asks for an upgrade shows such a one's message as it is, and wraps a text in other words.
    pub(super) fn as_object(&self) -> Response {
        let (code, reason) = self.status_and_reason();
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        (code, [(CONTENT_TYPE, "application/json")], status.to_string()).into_response()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
