//! The Node of a base.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tracing::{info, warn};

use super::{
    Edges,
    act::AGAIN,
    journal::Journal,
    lease::LeaseRecord,
    world::{BaseRecord, World, Writing, version},
};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    domain::{BaseId, BaseInfo, Ledger, ModuleId, Reachability},
    k8s::{NodeWriter, Ready, names, node_is_current},
    tunnel::Health,
};

/// A status that has not changed is written this often, like a kubelet's `nodeStatusReportFrequency`.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// A ledger whose changes are told elsewhere too (by the Pods, or the journal) is saved after this and up to
/// ten seconds more: several changes in one write, and bases that changed together not all at once.
const LEDGER_SETTLES: Duration = Duration::from_secs(10);
/// A new base's Node waits this long for its health, so that it is born with its capacity.
const WAIT_FOR_HEALTH: Duration = Duration::from_millis(500);
/// A base that answers but sends no heartbeat (real ones stop after a broker outage) gets its Node from
/// what its health says.
const WAIT_FOR_HEARTBEAT: Duration = Duration::from_secs(11);

/// What is known about a Node.
#[derive(Debug)]
pub(super) struct NodeRecord {
    pub(super) name: String,
    pub(super) object: Option<Node>,
    writing: Writing,
    /// What the write on its way does.
    deleting: bool,
    /// Older versions from the watch are from before our own write.
    min_version: u64,
    /// A Node of that name is there, but without our labels: it is given them.
    adopts: bool,
    /// The ledger that the write on its way saves.
    saving: Option<(Ledger, String)>,
    refresh_at: Option<Instant>,
    /// What the Node was last found to say already; none after any change of it.
    settled: Option<(BaseInfo, Option<Health>, Reachability)>,
    saved: Ledger,
    saved_json: String,
    unsaved_since: Option<Instant>,
    restored: bool,
    pub(super) lease: LeaseRecord,
}

impl NodeRecord {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            object: None,
            writing: Writing::default(),
            deleting: false,
            min_version: 0,
            adopts: false,
            saving: None,
            refresh_at: None,
            settled: None,
            saved: Ledger::default(),
            saved_json: "{}".to_owned(),
            unsaved_since: None,
            restored: false,
            lease: LeaseRecord::default(),
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
        self.min_version = 0;
        self.settled = None;
        self.lease.exists = false;
        self.saved = Ledger::default();
        "{}".clone_into(&mut self.saved_json);
    }

    /// The watch has yet to show what the last write did.
    fn awaits_echo(&self) -> bool {
        self.min_version > self.object.as_ref().map_or(0, |node| version(&node.metadata))
    }

    /// The ledger on the Node says that we installed it, and the write on its way does not change that.
    pub(super) fn has_on_record(&self, install: &ModuleId) -> bool {
        let stays = self.saving.as_ref().is_none_or(|(ledger, _)| ledger.installed(install));
        self.object.is_some() && self.saved.installed(install) && stays
    }

    /// Nothing is in the way of a write.
    pub(super) fn can_be_written_now(&self) -> bool {
        self.object.is_some() && !self.writing.in_flight && !self.writing.is_failing() && !self.awaits_echo()
    }

    /// The ledger as it is on record, given what it is now.
    pub(super) fn has_saved(&self, ledger: &Ledger) -> bool {
        self.object.is_some() && self.saved == *ledger
    }
}

impl BaseRecord {
    /// The Node as the API server has it.
    pub(super) fn node_applied(&mut self, mut object: Node) {
        if version(&object.metadata) < self.node.min_version {
            return;
        }
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
        // Only the first sight restores: from then on this process is the one who writes. What is there
        // already is from the journal, or from a base that was quicker than its Node.
        if !std::mem::replace(&mut self.node.restored, true) && self.base.ledger.has_no_claims() {
            let known: Vec<_> = self.base.ledger.all_installed().collect();
            self.base.ledger = self.node.saved.clone();
            known.iter().for_each(|install| self.base.ledger.install(install));
        }
        if self.base.info.is_none() {
            self.base.info = info_from(&object);
        }
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|key, _| key == names::LEDGER);
        }
        self.node.object = Some(object);
        self.node.settled = None;
        let on_record: Vec<_> = self.node.saved.all_installed().filter(|id| self.node.has_on_record(id)).collect();
        self.base.recorded(on_record);
    }

    pub(super) fn node_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        let deleting = std::mem::take(&mut self.node.deleting);
        let saving = self.node.saving.take();
        self.node.settled = None;
        // A conflict means that the watch is about to deliver something newer.
        let harmless = matches!(&result, Err(e) if e.is_conflict() || e.is_gone());
        self.node.writing.ended(result.is_ok(), now);
        match result {
            Ok(_) if deleting => self.node.gone(),
            Err(error) if error.is_gone() && deleting => self.node.gone(),
            Ok(outcome) => {
                self.node.min_version = outcome.resource_version;
                if let Some((ledger, json)) = saving {
                    self.base.recorded(ledger.all_installed());
                    (self.node.saved, self.node.saved_json) = (ledger, json);
                }
            }
            Err(error) if error.is_conflict() && self.node.object.is_none() => {
                warn!(node = self.node.name, "a Node of this name is there without our labels; it is taken over");
                self.node.adopts = true;
            }
            Err(error) if !harmless => warn!(node = self.node.name, %error, "cannot write the Node, trying again"),
            Err(_) => {}
        }
    }
}

impl World {
    /// Does what the base's Node needs next; with `save` also what could wait. Returns when to look again.
    pub(super) fn keep_node(&mut self, id: &BaseId, save: bool, edges: &Edges, now: Instant) -> Option<Instant> {
        let config = std::sync::Arc::clone(&self.config);
        let record = self.bases.get_mut(id)?;
        let reachability = record.base.reachability(now);
        let mut wake = Wake::default();
        record.info_from_health(&mut wake, now);
        let Some(info) = record.base.info.clone() else {
            return if reachability == Reachability::Dead {
                self.forget_base(id);
                None
            } else {
                wake.0
            };
        };

        let save = save || record.is_ahead(&self.journal);
        let ledger_due = record.ledger_due(save, &mut wake, now);
        if let Err(at) = record.node.writing.may_start(now) {
            wake.maybe(at);
            return wake.0;
        }
        if record.node.awaits_echo() {
            return wake.0; // the watch will show what the last write did
        }
        let ledger_due = ledger_due || record.node.object.is_none();
        let says = (info.clone(), record.health.clone(), reachability);
        let fresh = record.node.refresh_at.is_some_and(|at| at > now);
        if !ledger_due && fresh && record.node.settled.as_ref() == Some(&says) {
            wake.maybe(record.node.refresh_at);
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
            (None, Reachability::Online) if record.node.adopts => {
                record.node.adopts = false;
                let labels = json!({ "metadata": { "labels": writes.labels() } });
                Some(Request::strategic_patch(format!("/api/v1/nodes/{}", record.node.name), &labels))
            }
            (None, Reachability::Online) => {
                if health.is_none() && now < record.created + WAIT_FOR_HEALTH {
                    wake.at(record.created + WAIT_FOR_HEALTH);
                    return wake.0;
                }
                info!(node = record.node.name, "creating the Node");
                record.node.refresh_at = Some(now + STATUS_EVERY + spread(id));
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
                let refresh_due = *record.node.refresh_at.get_or_insert(now + STATUS_EVERY + spread(id)) <= now;
                let request = update(node, &writes, health.is_some(), reachability, refresh_due);
                if refresh_due || request.is_some() {
                    record.node.refresh_at = Some(now + STATUS_EVERY + spread(id));
                }
                wake.maybe(record.node.refresh_at);
                record.node.settled = request.is_none().then_some(says);
                request
            }
        };
        if let Some(request) = request {
            let ledger = ledger_due.then(|| (record.base.ledger.clone(), ledger_json));
            wake.maybe(self.write_node(id, request, ledger, edges, now));
        }
        wake.0
    }

    /// Hands a write of the Node over; a ledger in it must neither wait behind a burst of statuses nor hold it up.
    fn write_node(
        &mut self,
        id: &BaseId,
        request: Request,
        ledger: Option<(Ledger, String)>,
        edges: &Edges,
        now: Instant,
    ) -> Option<Instant> {
        let node = &mut self.bases.get_mut(id)?.node;
        let writer = if ledger.is_some() && node.exists() { &edges.background } else { &edges.writer };
        if !writer.submit(Key::Node(id.clone()), request) {
            self.metrics.overflow(writer.name());
            node.deleting = false;
            return Some(now + AGAIN);
        }
        if ledger.is_some() {
            self.journal.saving.insert(id.clone());
        }
        node.writing.in_flight = true;
        node.saving = ledger;
        None
    }
}

/// What brings an existing Node up to date, if anything has to.
fn update(
    node: &Node,
    writes: &NodeWriter<'_>,
    health_known: bool,
    reachability: Reachability,
    refresh_due: bool,
) -> Option<Request> {
    let path = format!("/api/v1/nodes/{}", writes.name);
    if let Some(patch) = writes.metadata_patch(node) {
        return Some(Request::strategic_patch(path, &patch));
    }
    // After a restart the capacity is not known before the base has been asked again.
    let known = health_known || reachability != Reachability::Online;
    let mut wanted = writes.status(Some(node), Ready::from(reachability));
    if !health_known {
        wanted = without_capacity(wanted);
    }
    let differs = known && reachability != Reachability::Unknown && !node_is_current(node, &wanted);
    (refresh_due || differs).then(|| {
        let body = json!({ "metadata": { "uid": node.metadata.uid }, "status": wanted });
        Request::strategic_patch(format!("{path}/status"), &body)
    })
}

impl BaseRecord {
    /// A base that sends no heartbeats tells its name and version in its health.
    fn info_from_health(&mut self, wake: &mut Wake, now: Instant) {
        if self.base.info.is_some() {
            return;
        }
        let master = self.health.as_ref().and_then(|h| h.master.clone());
        if now < self.created + WAIT_FOR_HEARTBEAT {
            wake.at(self.created + WAIT_FOR_HEARTBEAT);
        } else if let Some((name, version)) = master {
            let fits = names::is_label_value(&name) && names::is_label_value(&version);
            self.base.info = fits.then(|| BaseInfo { name, version, ..BaseInfo::default() });
        }
    }

    fn ledger_due(&mut self, save: bool, wake: &mut Wake, now: Instant) -> bool {
        if self.node.has_saved(&self.base.ledger) {
            self.node.unsaved_since = None;
            return false;
        }
        let since = *self.node.unsaved_since.get_or_insert(now);
        let due = if save { since } else { since + LEDGER_SETTLES + 10 * spread(&self.base.id) };
        if due > now {
            wake.at(due);
        }
        due <= now
    }

    /// A death now would lose something of the ledger.
    pub(super) fn is_ahead(&self, journal: &Journal) -> bool {
        self.node.exists()
            && self.base.ledger.is_ahead_of(&self.node.saved, |install| journal.covers(&self.base.id, install))
    }
}

/// Up to a second, always the same for one base: bases that came together do not stay in step.
pub(super) fn spread(id: &BaseId) -> Duration {
    let sum = id.as_str().bytes().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    Duration::from_millis(sum % 1000)
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
