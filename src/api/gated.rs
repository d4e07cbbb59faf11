//! The one way to the API server for what changes something: only while we lead, and never for longer than is right.

use std::time::Duration;

use http::{Method, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::time::timeout;

use super::request::{Outcome, Request, WriteError};
use crate::lead::Lead;

/// Our name as a field manager.
const MANAGER: &str = "modulet";
/// A write that takes longer has failed: an API server that hangs must not hold permits for ever.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A client that writes only while we may.
#[derive(Clone)]
pub struct Gated {
    client: Client,
    lead: Lead,
}

impl Gated {
    /// Asks `lead` before each write.
    pub fn new(client: Client, lead: Lead) -> Self {
        Self { client, lead }
    }

    /// Sends the request and waits for the answer, but not for ever. A request that is given up takes its connection
    /// along.
    pub(super) async fn perform(&self, request: Request) -> Result<Outcome, WriteError> {
        if !self.lead.may_act() {
            return Err(WriteError::NotLeading);
        }
        let late = |_| WriteError::Unreachable(format!("no answer in {TIMEOUT:?}"));
        match timeout(TIMEOUT, send(&self.client, request, &self.lead)).await.map_err(late)? {
            // It may have been stopped at the wire.
            Err(WriteError::Unreachable(_)) if !self.lead.may_act() => Err(WriteError::NotLeading),
            end => end,
        }
    }
}

/// Sends the request and reads no more of the answer than is needed.
async fn send(client: &Client, request: Request, lead: &Lead) -> Result<Outcome, WriteError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Meta {
        resource_version: Option<String>,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metadata: Meta,
        message: Option<String>,
    }
    let unreachable = |error: &dyn std::fmt::Display| WriteError::Unreachable(error.to_string());
    // Who wrote it, for `kubectl get --show-managed-fields` (Kubernetes convention).
    let named = request.method == Method::POST || request.method == Method::PATCH;
    let uri = if named { format!("{}?fieldManager={MANAGER}", request.path) } else { request.path };
    let mut http = http::Request::builder()
        .method(request.method)
        .uri(uri)
        .header(CONTENT_TYPE, request.content_type)
        .body(Body::from(request.body))
        .map_err(|e| unreachable(&e))?;
    http.extensions_mut().insert(lead.clone());
    let response = client.send(http).await.map_err(|e| unreachable(&e))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
    let answer: Option<Answer> = serde_json::from_slice(&body).ok();
    if status.is_success() {
        let version = answer.and_then(|a| a.metadata.resource_version).and_then(|v| v.parse().ok());
        return Ok(Outcome { resource_version: version.unwrap_or(0) });
    }
    let message = answer.and_then(|a| a.message).unwrap_or_else(|| status.to_string());
    Err(WriteError::Refused { code: status.as_u16(), message })
}
