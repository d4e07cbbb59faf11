//! What goes wrong: chosen by a seed, so that it can be tried again.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// How many bases there are.
pub(crate) const BASES: usize = 20;
/// Longer than a lead lasts without a renewal, and than a quiet connection is believed.
const LONG: std::ops::Range<u64> = 11_000..22_000;
const SHORT: std::ops::Range<u64> = 500..6_000;
/// Between two faults. The first may well still last when the second comes.
const PAUSE: std::ops::Range<u64> = 800..6_000;
/// How slow a slow connection is, each way.
const SLOWNESS: std::ops::Range<u64> = 100..1_500;
/// What is shorter is none.
const SHORTEST: Duration = Duration::from_millis(300);

/// Which replica, by what it is when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Standby,
}

/// Which of a replica's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Broker,
    ApiServer,
}

/// What is done to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// SIGKILL, and it is started again when the fault is over.
    Kill(Target),
    /// SIGTERM, and so on.
    Stop(Target),
    /// SIGSTOP, SIGCONT.
    Freeze(Target),
    /// All connections are closed, and no new ones work.
    Cut(Role, To),
    /// All that is sent is late.
    Slow(Role, To, Duration),
    /// What is sent on connections that are open now comes to nobody, and nobody is told; new ones work.
    HalfOpen(Role, To),
    /// The JVM dies and comes back without its modules; perhaps at another address.
    KillBase { base: usize, moves: bool },
    /// The JVM stands still.
    HangBase(usize),
    /// A base loses the broker.
    CutBase(usize),
    /// Its answers come late,
    DelayReplies(usize, Duration),
    /// twice,
    DoubleReplies(usize),
    /// or not at all.
    DropReplies(usize, usize),
    /// It beats no more, until it is started anew, and answers all the same.
    StopBeating(usize),
}

/// What can be killed and frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Replica(Role),
    Broker,
    ApiServer,
    Etcd,
}

/// A fault, when it comes and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) what: What,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:.1} s", self.what, self.lasts.as_secs_f64())
    }
}

impl What {
    /// The kind, for the report.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Kill(target) => format!("kill {target}"),
            Self::Stop(target) => format!("stop {target}"),
            Self::Freeze(target) => format!("freeze {target}"),
            Self::Cut(role, to) => format!("cut {role:?} from {to:?}"),
            Self::Slow(role, to, _) => format!("slow {role:?} to {to:?}"),
            Self::HalfOpen(role, to) => format!("half-open {role:?} to {to:?}"),
            Self::KillBase { moves: true, .. } => "base restarts elsewhere".into(),
            Self::KillBase { .. } => "base restarts".into(),
            Self::HangBase(_) => "base hangs".into(),
            Self::CutBase(_) => "base loses the broker".into(),
            Self::DelayReplies(..) => "late replies".into(),
            Self::DoubleReplies(_) => "doubled replies".into(),
            Self::DropReplies(..) => "dropped replies".into(),
            Self::StopBeating(_) => "base beats no more".into(),
        }
    }

    /// One of each kind.
    fn all(rng: &mut Rng) -> Vec<Self> {
        let mut all = vec![
            Self::Kill(Target::Broker),
            Self::Stop(Target::Broker),
            Self::Freeze(Target::Broker),
            Self::Kill(Target::ApiServer),
            Self::Freeze(Target::ApiServer),
            Self::Kill(Target::Etcd),
            Self::Freeze(Target::Etcd),
        ];
        for role in [Role::Leader, Role::Standby] {
            let target = Target::Replica(role);
            all.extend([Self::Kill(target), Self::Stop(target), Self::Freeze(target)]);
            for to in [To::Broker, To::ApiServer] {
                let slow = Duration::from_millis(rng.u64(SLOWNESS));
                all.extend([Self::Cut(role, to), Self::Slow(role, to, slow), Self::HalfOpen(role, to)]);
            }
        }
        let mut base = || rng.usize(..BASES);
        all.extend([
            Self::KillBase { base: base(), moves: false },
            Self::KillBase { base: base(), moves: true },
            Self::HangBase(base()),
            Self::CutBase(base()),
            Self::DoubleReplies(base()),
            Self::StopBeating(base()),
        ]);
        let (late, drops) = (base(), base());
        all.push(Self::DelayReplies(late, Duration::from_millis(rng.u64(500..8_000))));
        all.push(Self::DropReplies(drops, rng.usize(1..6)));
        rng.shuffle(&mut all);
        all
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(role) => write!(f, "{role:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Faults, one after the other and some at a time. Each kind comes before one comes again.
#[derive(Debug)]
pub(crate) struct Plan {
    rng: Rng,
    bag: Vec<What>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), bag: Vec::new() }
    }

    /// All of the next round, which is that long. None lasts longer than the round.
    pub(crate) fn round(&mut self, length: Duration) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut at = self.millis(PAUSE);
        while at + SHORTEST < length {
            let what = self.bag.pop().unwrap_or_else(|| {
                self.bag = What::all(&mut self.rng);
                self.bag.pop().unwrap_or(What::HangBase(0))
            });
            let lasts = if self.rng.u8(..3) == 0 { self.millis(LONG) } else { self.millis(SHORT) };
            faults.push(Fault { at, lasts: lasts.min(length.saturating_sub(at)), what });
            at += self.millis(PAUSE);
        }
        faults
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_makes_the_same_faults_again_and_another_one_others() {
        let of = |seed| Plan::new(seed).round(Duration::from_secs(60));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn all_kinds_come_and_each_ends_with_its_round() {
        let round = Duration::from_secs(45);
        for seed in 0..50 {
            let mut plan = Plan::new(seed);
            let faults: Vec<_> = (0..4).flat_map(|_| plan.round(round)).collect();
            let kinds: BTreeSet<_> = faults.iter().map(|fault| fault.what.kind()).collect();
            assert_eq!(kinds.len(), 33, "{kinds:?}");
            assert!(faults.iter().all(|fault| fault.at + fault.lasts <= round && fault.lasts >= SHORTEST));
        }
    }
}
