//! The API server's audit log: who asked for what, by its own word.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::json;

use crate::control_plane::ControlPlaneOptions;

/// An audit log in a directory of the test's.
#[derive(Clone, Debug)]
pub struct AuditLog {
    policy: PathBuf,
    log: PathBuf,
}

impl AuditLog {
    /// Of all that these service accounts (`namespace:name`) ask for.
    pub fn of(directory: &Path, accounts: &[&str]) -> Result<Self> {
        let users: Vec<_> = accounts.iter().map(|account| format!("system:serviceaccount:{account}")).collect();
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata", "users": users }, { "level": "None" }],
        });
        let this = Self { policy: directory.join("audit-policy.json"), log: directory.join("audit.log") };
        fs::write(&this.policy, policy.to_string())?;
        Ok(this)
    }

    /// A control plane whose API server keeps it.
    pub fn control_plane(&self) -> ControlPlaneOptions {
        let api_server_args = vec![
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.log.display()),
        ];
        ControlPlaneOptions { api_server_args, accept_existing: false, ..ControlPlaneOptions::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// All that was asked until now.
    pub fn lines(&self) -> Result<Vec<AuditLine>> {
        let text = fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// A request, when it was answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// What was to be done: get, patch, …
    pub verb: String,
    /// The path, and what follows it.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// When it came.
    pub request_received_timestamp: MicroTime,
    #[serde(default)]
    user: AuditUser,
    #[serde(default)]
    object_ref: AuditObject,
    #[serde(default)]
    response_status: AuditStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct AuditUser {
    username: String,
}

/// What it was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuditObject {
    /// The group; empty for the core.
    pub api_group: String,
    /// pods, nodes, …
    pub resource: String,
    /// status, binding, …; or empty.
    pub subresource: String,
    /// Empty where there is none.
    pub namespace: String,
    /// Empty where many were asked for.
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct AuditStatus {
    code: u16,
}

impl AuditLine {
    /// Who asked: the name of a service account without its namespace.
    pub fn who(&self) -> &str {
        self.user.username.rsplit(':').next().unwrap_or_default()
    }

    /// What it was about.
    pub fn object(&self) -> &AuditObject {
        &self.object_ref
    }

    /// The answer's status.
    pub fn code(&self) -> u16 {
        self.response_status.code
    }

    /// Something was written that only who leads may write: the Lease of the election is not among it, and no Event.
    pub fn is_write_of_a_leader(&self) -> bool {
        let is_write = ["create", "update", "patch", "delete"].contains(&self.verb.as_str());
        let is_leaders = match self.object_ref.resource.as_str() {
            "nodes" | "pods" | "configmaps" | "deployments" => true,
            "leases" => self.object_ref.namespace == "kube-node-lease",
            _ => false,
        };
        is_write && is_leaders && self.code() < 300
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str, resource: &str, namespace: &str, code: u16) -> AuditLine {
        let line = json!({
            "verb": verb, "user": { "username": "system:serviceaccount:default:replica-1" },
            "requestURI": "/api/v1/x",
            "objectRef": { "resource": resource, "namespace": namespace, "name": "x" },
            "responseStatus": { "code": code }, "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn writes_of_a_leader_are_told_from_others() {
        let write = line("patch", "pods", "shop", 200);
        assert_eq!((write.who(), write.is_write_of_a_leader()), ("replica-1", true));
        assert!(line("patch", "leases", "kube-node-lease", 200).is_write_of_a_leader());
        assert!(!line("patch", "leases", "default", 200).is_write_of_a_leader(), "the Lease of the election");
        assert!(!line("patch", "pods", "shop", 409).is_write_of_a_leader());
        assert!(!line("watch", "pods", "shop", 200).is_write_of_a_leader());
        assert!(!line("create", "events", "shop", 201).is_write_of_a_leader());
    }

    #[test]
    fn a_line_that_is_on_its_way_is_read_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let audit = AuditLog::of(directory.path(), &["default:a"]).unwrap();
        assert!(audit.lines().is_err(), "nothing was asked yet, or it is elsewhere");
        let whole = r#"{"verb":"get","requestURI":"/version","requestReceivedTimestamp":"2026-01-01T00:00:00Z"}"#;
        fs::write(audit.path(), format!("{whole}\n{}", &whole[..20])).unwrap();
        assert_eq!(audit.lines().unwrap().len(), 1);
    }
}
