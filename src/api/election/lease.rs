//! The Lease of an environment, as we read and write it.

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use crate::{k8s::names, lead::Lead};

/// The leader has no broker: who has it may claim the lead.
const WITHOUT_BROKER: &str = "modulet.koupleless.io/without-broker";
/// A standby that has the broker, for a leader that has none.
const CLAIMED_BY: &str = "modulet.koupleless.io/claimed-by";
/// What separates a Pod's name from what tells one of its processes from the others.
const SEPARATOR: char = '_';

/// The name of an environment's Lease.
pub fn lease_name(env: &str) -> String {
    format!("modulet-{env}")
}

/// The replica that a holder of it is a process of.
pub fn replica_of(holder: &str) -> &str {
    holder.rsplit_once(SEPARATOR).map_or(holder, |(replica, _)| replica)
}

/// What the Lease is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Ours.
    Held {
        /// And the bases can be reached.
        has_broker: bool,
    },
    /// The leader's, which is asked to give it up.
    Claimed,
    /// Nobody's.
    Released,
}

/// Who writes it.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    /// Who we are, as the Lease says it.
    pub(super) me: String,
    pub(super) name: String,
    pub(super) namespace: String,
    env: String,
    /// The Pod we run in. Of its processes only one lives at a time.
    pod: Option<String>,
}

impl Hand {
    /// This `process` of the replica, in `pod` if it runs in one.
    pub(super) fn new(env: &str, namespace: &str, replica: &str, process: &str, pod: Option<&str>) -> Self {
        Self {
            me: format!("{}{SEPARATOR}{process}", pod.unwrap_or(replica)),
            name: lease_name(env),
            namespace: namespace.to_owned(),
            env: env.to_owned(),
            pod: pod.map(str::to_owned),
        }
    }

    /// Who holds it; empty: nobody.
    pub(super) fn holder(lease: &Lease) -> &str {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    /// Whether that was a process before us in this very Pod.
    pub(super) fn is_predecessor(&self, holder: &str) -> bool {
        holder != self.me && self.pod.as_deref().is_some_and(|pod| pod == replica_of(holder))
    }

    /// Who has claimed it, since it has the broker.
    pub(super) fn claimed(lease: &Lease) -> Option<&str> {
        Self::annotation(lease, CLAIMED_BY)
    }

    /// Whether its holder can reach bases.
    pub(super) fn says_it_has_broker(lease: &Lease) -> bool {
        Self::annotation(lease, WITHOUT_BROKER).is_none()
    }

    fn annotation<'l>(lease: &'l Lease, name: &str) -> Option<&'l str> {
        lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The Lease as it is wanted, made of the one that is there.
    pub(super) fn write(&self, known: Option<&Lease>, wanted: Wanted, now: Timestamp) -> Box<Lease> {
        let mut lease = known.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some([(names::ENV.to_owned(), self.env.clone())].into()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let mut annotations = lease.metadata.annotations.take().unwrap_or_default();
        let mut spec = lease.spec.take().unwrap_or_default();
        let now = Some(MicroTime(now));
        let lasts = i32::try_from(Lead::LASTS.as_secs()).unwrap_or(i32::MAX);
        match wanted {
            Wanted::Claimed => {
                annotations.insert(CLAIMED_BY.to_owned(), self.me.clone());
            }
            Wanted::Released => {
                annotations.remove(CLAIMED_BY);
                // A Lease that was given back is over at once, also for other libraries.
                (spec.holder_identity, spec.lease_duration_seconds, spec.renew_time) =
                    (Some(String::new()), Some(1), now);
            }
            Wanted::Held { has_broker } => {
                if has_broker {
                    annotations.remove(WITHOUT_BROKER);
                    annotations.remove(CLAIMED_BY);
                } else {
                    annotations.insert(WITHOUT_BROKER.to_owned(), "true".to_owned());
                }
                if spec.holder_identity.as_ref() != Some(&self.me) {
                    annotations.remove(CLAIMED_BY);
                    spec.acquire_time.clone_from(&now);
                    let before = spec.lease_transitions.unwrap_or(0);
                    spec.lease_transitions = Some(before.saturating_add(i32::from(known.is_some())));
                }
                spec.holder_identity = Some(self.me.clone());
                (spec.lease_duration_seconds, spec.renew_time) = (Some(lasts), now);
            }
        }
        lease.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        // Who wrote what is the API server's business.
        lease.metadata.managed_fields = None;
        lease.spec = Some(spec);
        Box::new(lease)
    }
}

/// Which version of it this is; the API server counts up.
pub(super) fn version(lease: &Lease) -> u64 {
    lease.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
