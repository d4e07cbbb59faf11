//! The Node and the Lease of a base.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tracing::{info, warn};

use super::world::{BaseRecord, World, Writing};
use crate::{
    api::{Key, Outcome, Request, WriteError, Writer},
    domain::{BaseId, BaseInfo, Ledger, Reachability},
    k8s::{NodeWriter, Ready, names, node_is_current},
};

/// A status that has not changed is written this often, like a kubelet's `nodeStatusReportFrequency`.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// A kubelet's Lease: 40 s, renewed every 10 s (Kubernetes convention).
const LEASE_SECONDS: u32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// A changed ledger is saved after this, so that an install and what came of it are one write.
const LEDGER_SETTLES: Duration = Duration::from_millis(300);
/// A write is not repeated before the watch has shown what it did, or this has passed.
const ECHO: Duration = Duration::from_secs(1);
/// A new base's Node waits this long for its health, so that it is born with its capacity.
const WAIT_FOR_HEALTH: Duration = Duration::from_millis(500);
/// A base that answers but sends no heartbeat (real ones stop after a broker outage) gets its Node from
/// what its health says.
const WAIT_FOR_HEARTBEAT: Duration = Duration::from_secs(11);

/// What is known about a Node.
#[derive(Debug)]
pub(super) struct NodeRecord {
    name: String,
    object: Option<Node>,
    writing: Writing,
    /// What the write on its way does.
    deleting: bool,
    /// Until then the watch may still show the Node as it was before our own write.
    echo_until: Option<Instant>,
    refresh_at: Option<Instant>,
    saved: Ledger,
    saved_json: String,
    unsaved_since: Option<Instant>,
    restored: bool,
    lease: Writing,
    lease_exists: bool,
    renew_at: Option<Instant>,
}

impl NodeRecord {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            object: None,
            writing: Writing::default(),
            deleting: false,
            echo_until: None,
            refresh_at: None,
            saved: Ledger::default(),
            saved_json: "{}".to_owned(),
            unsaved_since: None,
            restored: false,
            lease: Writing::default(),
            lease_exists: false,
            renew_at: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The Node as the API server has it.
    pub(super) fn object(&self) -> Option<&Node> {
        self.object.as_ref()
    }

    pub(super) fn exists(&self) -> bool {
        self.object.is_some()
    }

    pub(super) fn gone(&mut self) {
        self.object = None;
        self.echo_until = None;
        self.lease_exists = false;
        self.saved = Ledger::default();
        "{}".clone_into(&mut self.saved_json);
    }

    /// The ledger as it is on record, given what it is now.
    pub(super) fn has_saved(&self, ledger: &Ledger) -> bool {
        self.object.is_some() && self.saved == *ledger
    }
}

impl BaseRecord {
    /// The Node as the API server has it.
    pub(super) fn node_applied(&mut self, mut object: Node) {
        let annotation = object.metadata.annotations.as_ref().and_then(|a| a.get(names::LEDGER)).cloned();
        let json = annotation.unwrap_or_else(|| "{}".to_owned());
        if json != self.node.saved_json || !self.node.restored {
            match serde_json::from_str(&json) {
                Ok(ledger) => self.node.saved = ledger,
                Err(error) => {
                    warn!(node = self.node.name, %error, "the ledger annotation is not readable; it is made anew");
                    self.node.saved = Ledger::default();
                }
            }
            self.node.saved_json = json;
        }
        // Only the first sight restores: from then on this process is the one who writes.
        if !std::mem::replace(&mut self.node.restored, true) && self.base.ledger == Ledger::default() {
            self.base.ledger = self.node.saved.clone();
        }
        if self.base.info.is_none() {
            self.base.info = info_from(&object);
        }
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|key, _| key == names::LEDGER);
        }
        self.node.object = Some(object);
        self.node.echo_until = None;
    }

    pub(super) fn node_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        let deleting = std::mem::take(&mut self.node.deleting);
        // A conflict means that the watch is about to deliver something newer.
        let harmless = matches!(&result, Err(e) if e.is_conflict() || e.is_gone());
        self.node.writing.ended(result.is_ok(), now);
        match result {
            Ok(_) if deleting => self.node.gone(),
            Err(error) if error.is_gone() && deleting => self.node.gone(),
            Ok(_) => self.node.echo_until = Some(now + ECHO),
            Err(error) if !harmless => warn!(node = self.node.name, %error, "cannot write the Node, trying again"),
            Err(_) => {}
        }
    }

    pub(super) fn lease_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        match result {
            Ok(_) => {
                self.node.lease_exists = true;
                self.node.lease.ended(true, now);
            }
            Err(error) if error.is_gone() => {
                self.node.lease_exists = false;
                self.node.lease.ended(true, now);
                self.node.renew_at = Some(now);
            }
            Err(error) if error.is_conflict() => {
                self.node.lease_exists = true;
                self.node.lease.ended(true, now);
                self.node.renew_at = Some(now);
            }
            Err(error) => {
                warn!(node = self.node.name, %error, "cannot renew the Lease, trying again");
                self.node.lease.ended(false, now);
                self.node.renew_at = Some(now);
            }
        }
    }
}

impl World {
    /// Does what the base's Node needs next. Returns when to look again.
    pub(super) fn keep_node(&mut self, id: &BaseId, writer: &Writer, now: Instant) -> Option<Instant> {
        let config = std::sync::Arc::clone(&self.config);
        let record = self.bases.get_mut(id)?;
        let reachability = record.base.reachability(now);
        let mut wake = Wake::default();
        if record.base.info.is_none() {
            let master = record.health.as_ref().and_then(|h| h.master.clone());
            if now < record.created + WAIT_FOR_HEARTBEAT {
                wake.at(record.created + WAIT_FOR_HEARTBEAT);
            } else if let Some((name, version)) = master {
                let fits = names::is_label_value(&name) && names::is_label_value(&version);
                record.base.info = fits.then(|| BaseInfo { name, version, ..BaseInfo::default() });
            }
        }
        let Some(info) = record.base.info.clone() else {
            return if reachability == Reachability::Dead {
                self.forget_base(id);
                None
            } else {
                wake.0
            };
        };

        let ledger_due = record.ledger_due(&mut wake, now);
        if let Err(at) = record.node.writing.may_start(now) {
            wake.maybe(at);
            return wake.0;
        }
        if let Some(at) = record.node.echo_until.filter(|at| *at > now) {
            wake.at(at);
            return wake.0;
        }
        let ledger_json = if ledger_due {
            serde_json::to_string(&record.base.ledger).unwrap_or_else(|_| record.node.saved_json.clone())
        } else {
            record.node.saved_json.clone()
        };
        let health = record.health.as_ref();
        let writes = NodeWriter {
            name: &record.node.name,
            env: &config.env,
            info: &info,
            max_metaspace: health.and_then(|h| h.max_metaspace),
            java_version: health.and_then(|h| h.java_version.as_deref()),
            max_pods: config.max_pods,
            zone_per_base: config.zone_per_base,
            env_taint: config.env_taint,
            ledger: &ledger_json,
            now: Timestamp::now(),
        };
        let request = match (&record.node.object, reachability) {
            (None, Reachability::Dead) => {
                self.forget_base(id);
                return None;
            }
            (None, Reachability::Online) => {
                if health.is_none() && now < record.created + WAIT_FOR_HEALTH {
                    wake.at(record.created + WAIT_FOR_HEALTH);
                    return wake.0;
                }
                info!(node = record.node.name, "creating the Node");
                record.node.refresh_at = Some(now + STATUS_EVERY);
                Ready::from(reachability)
                    .map(|ready| Request::create("/api/v1/nodes".to_owned(), &writes.create(ready)))
            }
            (None, _) => None,
            (Some(node), Reachability::Dead) => {
                info!(node = record.node.name, "the base is gone for good, deleting the Node");
                record.node.deleting = true;
                let uid = node.metadata.uid.as_deref().unwrap_or_default();
                Some(Request::delete(format!("/api/v1/nodes/{}", record.node.name), uid))
            }
            (Some(node), _) => {
                let path = format!("/api/v1/nodes/{}", record.node.name);
                if let Some(patch) = writes.metadata_patch(node) {
                    Some(Request::strategic_patch(path, &patch))
                } else {
                    // After a restart the capacity is not known before the base has been asked again.
                    let known = health.is_some() || reachability != Reachability::Online;
                    let wanted = writes.status(Some(node), Ready::from(reachability));
                    let wanted = if health.is_some() { wanted } else { without_capacity(wanted) };
                    let refresh = record.node.refresh_at.get_or_insert(now + STATUS_EVERY);
                    let due = *refresh <= now;
                    if due || (known && reachability != Reachability::Unknown && !node_is_current(node, &wanted)) {
                        *refresh = now + STATUS_EVERY;
                        let body = json!({ "metadata": { "uid": node.metadata.uid }, "status": wanted });
                        Some(Request::strategic_patch(format!("{path}/status"), &body))
                    } else {
                        wake.at(*refresh);
                        None
                    }
                }
            }
        };
        if let Some(request) = request {
            if writer.submit(Key::Node(id.clone()), request) {
                record.node.writing.in_flight = true;
            } else {
                self.metrics.overflow(writer.name());
                record.node.deleting = false;
                wake.at(now + Duration::from_millis(100));
            }
        }
        wake.0
    }

    /// Renews the Lease of a Node that is there; the first renewal creates it.
    pub(super) fn keep_lease(&mut self, id: &BaseId, writer: &Writer, now: Instant) -> Option<Instant> {
        let record = self.bases.get_mut(id)?;
        let node = record.node.object.as_ref()?;
        let renew_at = record.node.renew_at.unwrap_or(now);
        if let Err(at) = record.node.lease.may_start(now) {
            return at;
        }
        if renew_at > now {
            return Some(renew_at);
        }
        let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let spec = json!({
            "holderIdentity": self.config.client_id,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        });
        let request = if record.node.lease_exists {
            Request::merge_patch(format!("{collection}/{}", record.node.name), &json!({ "spec": spec }))
        } else {
            let owner = json!({
                "apiVersion": "v1", "kind": "Node", "name": record.node.name, "uid": node.metadata.uid,
            });
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": record.node.name, "ownerReferences": [owner] },
                "spec": spec,
            });
            Request::create(collection.to_owned(), &lease)
        };
        if writer.submit(Key::Lease(id.clone()), request) {
            record.node.lease.in_flight = true;
            record.node.renew_at = Some(now + RENEW_EVERY);
        } else {
            self.metrics.overflow(writer.name());
            record.node.renew_at = Some(now + Duration::from_millis(100));
        }
        record.node.renew_at
    }
}

impl BaseRecord {
    fn ledger_due(&mut self, wake: &mut Wake, now: Instant) -> bool {
        if self.node.has_saved(&self.base.ledger) {
            self.node.unsaved_since = None;
            return false;
        }
        let due = *self.node.unsaved_since.get_or_insert(now) + LEDGER_SETTLES;
        if due > now {
            wake.at(due);
        }
        due <= now
    }

    /// Whether the ledger is still to be saved; then it is, without delay.
    pub(super) fn must_save(&mut self, now: Instant) -> bool {
        let unsaved = self.node.exists() && !self.node.has_saved(&self.base.ledger);
        if unsaved {
            self.node.unsaved_since = now.checked_sub(LEDGER_SETTLES);
        }
        unsaved
    }
}

/// The earliest of several times.
#[derive(Default)]
struct Wake(Option<Instant>);

impl Wake {
    fn at(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |old| old.min(at)));
    }

    fn maybe(&mut self, at: Option<Instant>) {
        if let Some(at) = at {
            self.at(at);
        }
    }
}

fn without_capacity(mut status: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|key, _| key == "conditions" || key == "addresses");
    }
    status
}

/// What a Node tells of its base: all there is after a restart, until the base is heard.
fn info_from(node: &Node) -> Option<BaseInfo> {
    let labels = node.metadata.labels.as_ref()?;
    let label = |key: &str| labels.get(key).cloned();
    let addresses = node.status.iter().filter_map(|s| s.addresses.as_ref()).flatten();
    let address = |type_: &str| addresses.clone().find(|a| a.type_ == type_).map(|a| a.address.clone());
    Some(BaseInfo {
        name: label(names::BASE_NAME)?,
        version: label(names::BASE_VERSION)?,
        cluster: label(names::BASE_CLUSTER),
        ip: address("InternalIP"),
        host_name: address("Hostname").or_else(|| label(names::BASE_HOST)),
    })
}
