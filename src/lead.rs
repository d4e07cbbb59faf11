//! Whether this replica may act: it leads, and that was renewed a moment ago.
//!
//! Every effect asks at the moment in which it leaves its queue, so that one that waited, or a process that stood still,
//! does nothing in the name of a lead that is another replica's by now. The clock goes on while the machine is
//! suspended; the one of the standard library does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Who has not renewed for this long does nothing any more. Others wait for longer ([`Lead::LASTS`]).
const ACTS_FOR: Duration = Duration::from_secs(7);

/// Time since the machine started, also while it was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Self(Duration::new(secs, nanos))
    }

    /// That much later.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// How long it is until then; zero if it is over.
    pub fn until(self, then: Self) -> Duration {
        then.0.saturating_sub(self.0)
    }

    fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// For tests, which have a clock of their own.
    #[cfg(test)]
    pub(crate) fn at(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// What this replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// It knows what the leader knows, and does nothing.
    Standby,
    /// It leads.
    Leader,
    /// It led, and this one does now: what it has in its hands is void.
    Lost(String),
}

/// The lead, as the edges ask for it.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Milliseconds of [`Moment`] until which it may act.
    acts_until: Arc<AtomicU64>,
    role: watch::Sender<Role>,
    /// There are no others: nothing has to be renewed.
    alone: bool,
}

impl Lead {
    /// For so long others wait for a renewal before they take over.
    pub const LASTS: Duration = Duration::from_secs(10);

    /// There is no election: it leads for ever.
    pub fn alone() -> Self {
        Self::new(u64::MAX, Role::Leader, true)
    }

    /// One that has to be elected.
    pub fn standby() -> Self {
        Self::new(0, Role::Standby, false)
    }

    fn new(until: u64, role: Role, alone: bool) -> Self {
        Self { acts_until: Arc::new(AtomicU64::new(until)), role: watch::Sender::new(role), alone }
    }

    /// Whether no election is held.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether it may act at this moment.
    pub fn may_act(&self) -> bool {
        self.alone || Moment::now().millis() < self.acts_until.load(Ordering::SeqCst)
    }

    /// Whether it leads, though it may not have been able to renew that.
    pub fn leads(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Waits until it leads.
    pub async fn gained(&self) {
        let mut role = self.role.subscribe();
        // The sender lives as long as we.
        let _ = role.wait_for(|role| *role == Role::Leader).await;
    }

    /// Waits until it may act.
    pub async fn acts(&self) {
        let mut role = self.role.subscribe();
        // Each renewal is told; the sender lives as long as we.
        while !self.may_act() && role.changed().await.is_ok() {}
    }

    /// Waits until another leads, and says who.
    pub async fn lost(&self) -> String {
        let mut role = self.role.subscribe();
        // The sender lives as long as we.
        match role.wait_for(|role| matches!(role, Role::Lost(_))).await.as_deref() {
            Ok(Role::Lost(to)) => to.clone(),
            _ => String::new(),
        }
    }

    /// The API server took a renewal that was `begun` then.
    pub(crate) fn renew(&self, begun: Moment) {
        self.acts_until.store(begun.later(ACTS_FOR).millis(), Ordering::SeqCst);
        // Told each time, also where it led before: who waits until it may act looks again.
        self.role.send_replace(Role::Leader);
    }

    /// Nothing is done any more.
    pub(crate) fn close(&self) {
        self.acts_until.store(0, Ordering::SeqCst);
    }

    /// Another leads.
    pub(crate) fn lose(&self, to: &str) {
        self.close();
        self.role.send_replace(Role::Lost(to.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn it_acts_for_as_long_as_others_wait_at_most_and_not_a_moment_after_it_lost() {
        assert!(ACTS_FOR < Lead::LASTS);
        let lead = Lead::standby();
        assert!(!lead.may_act() && !lead.leads());
        lead.renew(Moment::now());
        assert!(lead.may_act() && lead.leads());
        // The renewal took so long that it is over by now: it still leads, and does nothing before the next.
        lead.renew(Moment(Moment::now().0.saturating_sub(ACTS_FOR)));
        assert!(!lead.may_act() && lead.leads());
        lead.renew(Moment::now());
        assert_eq!(lead.lost().now_or_never(), None);
        lead.lose("other");
        assert!(!lead.may_act() && !lead.leads());
        assert_eq!(lead.lost().now_or_never().as_deref(), Some("other"));
    }

    #[tokio::test]
    async fn who_leads_and_could_not_renew_that_waits_for_a_renewal() {
        let lead = Lead::standby();
        assert_eq!((lead.gained().now_or_never(), lead.acts().now_or_never()), (None, None));
        lead.renew(Moment(Moment::now().0.saturating_sub(ACTS_FOR)));
        assert_eq!((lead.gained().now_or_never(), lead.acts().now_or_never()), (Some(()), None));
        let wait = tokio::spawn({
            let lead = lead.clone();
            async move { lead.acts().await }
        });
        tokio::task::yield_now().await;
        lead.renew(Moment::now());
        wait.await.unwrap();
        assert_eq!(Lead::alone().acts().now_or_never(), Some(()));
    }

    #[test]
    fn the_clock_goes_on() {
        let (before, after) = (Moment::now(), Moment::now());
        assert!(before <= after && before.0 > Duration::ZERO);
        assert_eq!(before.until(before.later(ACTS_FOR)), ACTS_FOR);
        assert_eq!(before.later(ACTS_FOR).until(before), Duration::ZERO);
    }
}
