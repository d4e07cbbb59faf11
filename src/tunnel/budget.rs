//! How much is read of one base, decided before its message is decoded: one that floods must not slow the others.
//!
//! What we ask for is always read: each question and each command allows for its answers. The rest, which a base says by
//! itself, has an allowance that is far above what real bases say.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::Kind;
use crate::domain::{BaseId, Command};

/// So many at once, and then so many in a second.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    burst: f64,
    per_second: f64,
}

const fn allowance(burst: f64, per_second: f64) -> Allowance {
    Allowance { burst, per_second }
}

/// Messages that nothing asked for. Real bases beat every 10 s and ask for their baseline once in a JVM's life; the
/// rest are answers. Answers that come twice, or to questions of the process before this one, are of these too.
const fn unasked(kind: Kind) -> Allowance {
    match kind {
        Kind::Heart | Kind::Health | Kind::SimpleBiz | Kind::Biz => allowance(60.0, 1.0),
        Kind::BizOperation => allowance(200.0, 1.0),
        Kind::BatchInstallBizResponse => allowance(20.0, 0.1),
        Kind::QueryBaseline => allowance(20.0, 0.2),
    }
}

/// Bytes, of whatever kind, asked for or not.
const BYTES: Allowance = allowance(256.0 * 1024.0 * 1024.0, 8.0 * 1024.0 * 1024.0);
/// Answers that are still to come, of one kind; more are not waited for.
const ANSWERS: u16 = 4000;
/// Bases that an account is kept of. Those that were quiet for a time need none.
const ACCOUNTS: usize = 32 * 1024;
/// One base's refused messages are told of once in this time,
const TELLS_EVERY: Duration = Duration::from_secs(60);
/// and those of all bases so many at once, and then so many in a second.
const TELLS: Allowance = allowance(50.0, 2.0);

const KINDS: usize = Kind::ALL.len();

/// What is left of an allowance.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    used: f64,
}

impl Bucket {
    fn refill(&mut self, passed: Duration, allowance: Allowance) {
        self.used = passed.as_secs_f64().mul_add(-allowance.per_second, self.used).max(0.0);
    }

    /// Takes so much, if it is there.
    fn take(&mut self, much: f64, allowance: Allowance) -> bool {
        let fits = self.used + much <= allowance.burst;
        if fits {
            self.used += much;
        }
        fits
    }
}

/// One base's.
#[derive(Clone, Debug)]
struct Account {
    at: Instant,
    unasked: [Bucket; KINDS],
    bytes: Bucket,
    answers: [u16; KINDS],
    told: Option<Instant>,
    untold: u64,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            unasked: [Bucket::default(); KINDS],
            bytes: Bucket::default(),
            answers: [0; KINDS],
            told: None,
            untold: 0,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        for kind in Kind::ALL {
            self.unasked[kind as usize].refill(passed, unasked(kind));
        }
        self.bytes.refill(passed, BYTES);
    }

    /// A new account would say the same.
    fn is_idle(&mut self, now: Instant) -> bool {
        self.refill(now);
        let told = self.told.is_some_and(|at| now.saturating_duration_since(at) < TELLS_EVERY);
        let used = self.unasked.iter().chain([&self.bytes]).any(|bucket| bucket.used > 0.0);
        !told && !used && self.answers == [0; KINDS]
    }
}

/// What may still be read of each base.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    accounts: HashMap<BaseId, Account>,
    tells: Bucket,
    tells_at: Option<Instant>,
    swept: Option<Instant>,
}

impl Budgets {
    fn account(&mut self, base: &BaseId, now: Instant) -> &mut Account {
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(base) {
            self.make_room(now);
        }
        let account = self.accounts.entry(base.clone()).or_insert_with(|| Account::new(now));
        account.refill(now);
        account
    }

    fn make_room(&mut self, now: Instant) {
        let lately = self.swept.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1));
        if !lately {
            self.swept = Some(now);
            self.accounts.retain(|_, account| !account.is_idle(now));
        }
        if self.accounts.len() >= ACCOUNTS {
            // So many are invented. Nobody is refused for that: all begin anew.
            self.accounts.clear();
        }
    }

    /// The base is told this, and may answer.
    pub(super) fn asked(&mut self, base: &BaseId, command: &Command, now: Instant) {
        let installs = match command {
            Command::Baseline(specs) => specs.len(),
            _ => 1,
        };
        let installs = u16::try_from(installs).unwrap_or(ANSWERS);
        // Bases send their list after an install too, asked or not.
        let answers: &[Kind] = match command {
            Command::QueryHealth => &[Kind::Health],
            Command::QueryModules => &[Kind::SimpleBiz, Kind::Biz],
            Command::Install(..) | Command::Switch(_) | Command::Uninstall(_) => {
                &[Kind::BizOperation, Kind::SimpleBiz, Kind::Biz]
            }
            Command::Baseline(_) => &[Kind::BatchInstallBizResponse, Kind::BizOperation, Kind::SimpleBiz, Kind::Biz],
        };
        let account = self.account(base, now);
        for kind in answers {
            let open = &mut account.answers[*kind as usize];
            *open = open.saturating_add(installs).min(ANSWERS);
        }
    }

    /// Whether a message of that many bytes is read.
    pub(super) fn admits(&mut self, base: &BaseId, kind: Kind, bytes: usize, now: Instant) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "no message has 2^52 bytes")]
        let bytes = bytes as f64;
        let account = self.account(base, now);
        if account.bytes.used + bytes > BYTES.burst {
            return false;
        }
        let index = kind as usize;
        let asked = account.answers[index] > 0;
        if asked {
            account.answers[index] -= 1;
        } else if !account.unasked[index].take(1.0, unasked(kind)) {
            return false;
        }
        account.bytes.take(bytes, BYTES)
    }

    /// A message of the base was refused. Returns how many there were since that was last told, if it is to be told
    /// now.
    pub(super) fn tells(&mut self, base: &BaseId, now: Instant) -> Option<u64> {
        let account = self.account(base, now);
        account.untold = account.untold.saturating_add(1);
        if account.told.is_some_and(|at| now.saturating_duration_since(at) < TELLS_EVERY) {
            return None;
        }
        if !self.may_tell(now) {
            return None;
        }
        let account = self.account(base, now);
        account.told = Some(now);
        Some(std::mem::take(&mut account.untold))
    }

    /// The same for somebody who is no base at all.
    pub(super) fn may_tell(&mut self, now: Instant) -> bool {
        let passed = self.tells_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tells_at = Some(now);
        self.tells.refill(passed, TELLS);
        self.tells.take(1.0, TELLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ModuleId, ModuleSpec, Origin, Strategy};

    fn id(name: &str) -> BaseId {
        BaseId::new(name)
    }

    fn spec(number: usize) -> ModuleSpec {
        ModuleSpec {
            id: ModuleId::new(format!("biz{number}"), "1"),
            origin: Origin::default(),
            url: "https://modules.example.com/biz.jar".into(),
            args: Vec::new(),
            envs: std::collections::BTreeMap::new(),
            unresolved: None,
        }
    }

    #[test]
    fn a_flood_is_read_at_the_pace_of_its_allowance() {
        let (start, mut budgets) = (Instant::now(), Budgets::default());
        for (kind, burst, in_a_minute) in [
            (Kind::Heart, 60, 60),
            (Kind::SimpleBiz, 60, 60),
            (Kind::BizOperation, 200, 60),
            (Kind::QueryBaseline, 20, 12),
        ] {
            let read = (0..60_000_u64)
                .filter(|ms| budgets.admits(&id("loud"), kind, 100, start + Duration::from_millis(*ms)))
                .count();
            assert!((burst + in_a_minute - 1..=burst + in_a_minute).contains(&read), "{kind:?}: {read}");
        }
        assert!(budgets.admits(&id("quiet"), Kind::Heart, 100, start));
    }

    #[test]
    fn what_was_asked_for_is_read_however_much_it_is() {
        let (now, mut budgets, base) = (Instant::now(), Budgets::default(), id("base-1"));
        // All that it may say unasked is used up.
        while budgets.admits(&base, Kind::BizOperation, 100, now) {}
        while budgets.admits(&base, Kind::SimpleBiz, 100, now) {}
        for number in 0..1000 {
            budgets.asked(&base, &Command::Install(spec(number), Strategy::InstallOnly), now);
            budgets.asked(&base, &Command::QueryModules, now);
        }
        // All at the end, as when the link was away: a reply each, and two lists.
        for _ in 0..1000 {
            assert!(budgets.admits(&base, Kind::BizOperation, 12_000, now));
            assert!(budgets.admits(&base, Kind::SimpleBiz, 100_000, now));
            assert!(budgets.admits(&base, Kind::SimpleBiz, 100, now));
        }
        assert!(!budgets.admits(&base, Kind::BizOperation, 100, now));
        budgets.asked(&base, &Command::Baseline((0..1000).map(spec).collect()), now);
        assert!((0..1000).all(|_| budgets.admits(&base, Kind::BizOperation, 100, now)));
        assert!(budgets.admits(&base, Kind::BatchInstallBizResponse, 1_000_000, now));
    }

    #[test]
    fn a_base_that_is_asked_again_after_a_refusal_is_read() {
        let (now, mut budgets, base) = (Instant::now(), Budgets::default(), id("base-1"));
        while budgets.admits(&base, Kind::SimpleBiz, 4 << 20, now) {}
        // The question after next, 20 s later at most.
        let later = now + Duration::from_secs(20);
        budgets.asked(&base, &Command::QueryModules, later);
        assert!(budgets.admits(&base, Kind::SimpleBiz, 4 << 20, later));
    }

    #[test]
    fn a_heart_of_any_generation_is_always_read() {
        let (start, mut budgets) = (Instant::now(), Budgets::default());
        let read = |budgets: &mut Budgets, seconds| {
            budgets.admits(&id("base-1"), Kind::Heart, 400, start + Duration::from_secs(seconds))
        };
        assert!((0..3600).all(|beat| read(&mut budgets, 10 * beat)));
    }

    #[test]
    fn accounts_are_bounded_whoever_invents_identities() {
        let (start, mut budgets) = (Instant::now(), Budgets::default());
        for number in 0..100_000_u64 {
            let now = start + Duration::from_micros(100 * number);
            assert!(budgets.admits(&id(&format!("invented-{number}")), Kind::Heart, 400, now));
            assert!(budgets.accounts.len() <= ACCOUNTS);
        }
        // Quiet ones go first: nobody else loses an account.
        let mut budgets = Budgets::default();
        for number in 0..ACCOUNTS - 1 {
            budgets.admits(&id(&format!("quiet-{number}")), Kind::Heart, 400, start);
        }
        let now = start + Duration::from_secs(600);
        while budgets.admits(&id("loud"), Kind::QueryBaseline, 400, now) {}
        assert!(budgets.admits(&id("one-more"), Kind::Heart, 400, now));
        assert!(!budgets.admits(&id("loud"), Kind::QueryBaseline, 400, now));
        assert_eq!(budgets.accounts.len(), 2);
    }

    #[test]
    fn refusals_are_told_once_a_minute_for_a_base_and_not_too_many_in_all() {
        let (start, mut budgets) = (Instant::now(), Budgets::default());
        let told: Vec<_> = (0..600_000_u64)
            .step_by(10)
            .filter_map(|ms| budgets.tells(&id("loud"), start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(told.len(), 10);
        assert_eq!(told[..3], [1, 6000, 6000]);
        let now = start + Duration::from_secs(1000);
        let told = (0..10_000).filter(|n| budgets.tells(&id(&format!("invented-{n}")), now).is_some()).count();
        assert_eq!(told, 50);
    }
}
