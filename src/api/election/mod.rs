//! One leads, and the others stand by: a Lease in our own namespace says who.

mod decide;
mod lease;
mod mark;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{
    events::EventSink,
    forward::chain,
    note::{Note, Subject},
};
use crate::{
    lead::{Lead, Moment},
    metrics::Metrics,
    said::Said,
};
pub use lease::{lease_name, replica_of};

use decide::{Election, Gain, Step};
use lease::Hand;
use mark::Marks;

/// A request is answered within this, or has failed: a renewal must be tried again before the lead is over.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// The Lease is given back within this, or runs out by itself.
const RELEASES_WITHIN: Duration = Duration::from_secs(2);

/// Who stands for election, and for what.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Environment: each has a leader of its own.
    pub env: String,
    /// Where the Lease is.
    pub namespace: String,
    /// Name of this replica.
    pub replica: String,
    /// Tells this process from all others of that name.
    pub process: String,
    /// The Pod that it runs in.
    pub pod: Option<String>,
    /// Whether the leader's Pod has a label, for a Service that is the leader's.
    pub is_marked: bool,
}

/// Holds the election for ever: gains the lead when it is free, renews it, and tells `lead`. Ends when `stop` says so,
/// having given it back, or when another leads.
pub async fn elect(
    candidate: Candidate,
    client: Client,
    lead: Lead,
    mut broker: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
    events: EventSink,
    metrics: Arc<Metrics>,
) {
    let Candidate { env, namespace, replica, process, pod, is_marked } = candidate;
    let hand = Hand::new(&env, &namespace, &replica, &process, pod.as_deref());
    let marks = Marks::new(client.clone(), &namespace, pod.filter(|_| is_marked));
    let leases = Leases { api: Api::namespaced(client, &namespace), name: hand.name.clone(), said: Said::default() };
    let mut changes = leases.changes();
    let mut this = Holding { election: Election::new(hand, Moment::now()), leases, marks, lead, events, metrics };
    this.marks.put().await;
    loop {
        let now = Moment::now();
        this.election.broker(*broker.borrow_and_update(), now);
        match this.election.next(now, Timestamp::now()) {
            Step::Wait(until) => tokio::select! {
                () = sleep(now.until(until)) => {}
                Some(lease) = changes.next() => this.election.observed(lease, Moment::now()),
                // Where there is no broker nobody tells anything, which must not be taken for news without end.
                Ok(()) = broker.changed() => {}
                // Who could tell is gone only with the process.
                () = stop.wait_for(|stop| *stop).map(drop) => return this.release().await,
            },
            Step::Lost(to) => return this.lost(&to),
            step => this.perform(step).await,
        }
        if *stop.borrow() {
            return this.release().await;
        }
    }
}

struct Holding {
    election: Election,
    leases: Leases,
    marks: Marks,
    lead: Lead,
    events: EventSink,
    metrics: Arc<Metrics>,
}

impl Holding {
    async fn perform(&mut self, step: Step) {
        let begun = Moment::now();
        let answer = match step {
            Step::Look => self.leases.look().await.map(Answer::Seen),
            Step::Create(lease) => self.leases.create(&lease).await,
            Step::Replace(lease) => self.leases.replace(&lease).await,
            Step::GiveUp(lease) => {
                self.lead.close();
                info!(lease = self.leases.name, "another has the broker, and this one has not: giving up the lead");
                self.leases.replace(&lease).await
            }
            Step::Wait(_) | Step::Lost(_) => return,
        };
        let now = Moment::now();
        match answer {
            Ok(Answer::Seen(lease)) => self.election.observed(lease, now),
            Ok(Answer::Written(lease)) => {
                let uid = lease.metadata.uid.clone().unwrap_or_default();
                let gain = self.election.taken(lease, begun, now);
                if self.election.holds() {
                    self.lead.renew(begun);
                }
                if let Some(gain) = gain {
                    self.gained(&gain, uid);
                }
                self.marks.put().await;
                if self.leases.said.clear() {
                    info!(lease = self.leases.name, "the Lease can be read and written again");
                }
            }
            Ok(Answer::Outdated) => self.election.outdated(),
            Err(why) => {
                self.election.failed(now);
                if self.leases.said.is_new(&why) {
                    warn!(lease = self.leases.name, error = why, "cannot hold the election, trying again");
                }
            }
        }
    }

    /// It leads from now on, by the Lease with this uid.
    fn gained(&mut self, gain: &Gain, uid: String) {
        let before = if let Gain::Expired(before) = gain { Some(before.as_str()) } else { None };
        self.marks.leads(before.map(replica_of));
        let (Hand { name: lease, namespace, me, .. }, why) = (&self.election.hand, gain.why());
        info!(lease, me, before, "leading: {why}");
        // With the reason and the words of Kubernetes' own components.
        let subject = Subject::Lease(namespace.clone(), lease.clone(), uid);
        self.events.note(Note::of(subject, false, "LeaderElection", format!("{me} became leader: {why}")));
        self.metrics.leads.set(1);
        self.metrics.leader_changes.inc();
    }

    fn lost(self, to: &str) {
        let to = if to.is_empty() { "whoever has the broker" } else { to };
        error!(
            lease = self.leases.name,
            leader = to,
            "another replica leads: this process ends, to begin as its standby"
        );
        self.metrics.leads.set(0);
        self.lead.lose(to);
    }

    /// The next one need not wait until it is over.
    async fn release(self) {
        self.lead.close();
        self.metrics.leads.set(0);
        let Some(lease) = self.election.release(Timestamp::now()) else { return };
        match timeout(RELEASES_WITHIN, self.leases.replace(&lease)).await {
            Ok(Ok(Answer::Written(_))) => info!(lease = self.leases.name, "the lead is given back"),
            Ok(Ok(_)) => info!(lease = self.leases.name, "the lead is not ours any more"),
            Ok(Err(error)) => warn!(lease = self.leases.name, error, "the lead is not given back, and runs out"),
            Err(_) => warn!(lease = self.leases.name, "the lead is not given back in time, and runs out"),
        }
    }
}

/// What the API server says.
enum Answer {
    Seen(Option<Lease>),
    Written(Lease),
    /// Somebody else wrote meanwhile.
    Outdated,
}

/// The Lease at the API server.
struct Leases {
    api: Api<Lease>,
    name: String,
    said: Said,
}

impl Leases {
    /// Hints that it changed, so that nobody has to wait for what is said already. What they leave out the clock finds.
    fn changes(&self) -> impl Stream<Item = Option<Lease>> + Send + Unpin + 'static {
        let all = watcher::watch_object(self.api.clone(), &self.name).default_backoff();
        all.filter_map(|change| async { change.ok() }).boxed()
    }

    async fn look(&self) -> Result<Option<Lease>, String> {
        in_time(self.api.get_opt(&self.name)).await?.map_err(|error| chain(&error))
    }

    async fn create(&self, lease: &Lease) -> Result<Answer, String> {
        written(in_time(self.api.create(&PostParams::default(), lease)).await?)
    }

    async fn replace(&self, lease: &Lease) -> Result<Answer, String> {
        written(in_time(self.api.replace(&self.name, &PostParams::default(), lease)).await?)
    }
}

fn written(answer: Result<Lease, kube::Error>) -> Result<Answer, String> {
    match answer {
        Ok(lease) => Ok(Answer::Written(lease)),
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(Answer::Outdated),
        Err(error) => Err(chain(&error)),
    }
}

async fn in_time<T>(request: impl Future<Output = T>) -> Result<T, String> {
    timeout(ANSWERS_WITHIN, request).await.map_err(|_| format!("no answer within {} s", ANSWERS_WITHIN.as_secs()))
}
