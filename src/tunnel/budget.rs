//! How much is read of one base, decided before its message is decoded: one that floods must not slow the others.
//!
//! What we ask for is always read: each question and each command allows for its answers. The rest, which a base says by
//! itself, has an allowance that is far above what real bases say.

#[cfg(test)]
mod tests;

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
/// One base's refused messages are logged once in this time,
const LOGS_EVERY: Duration = Duration::from_secs(60);
/// and those of all bases so many at once, and then so many in a second.
const LOGS: Allowance = allowance(50.0, 2.0);

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
    logged: Option<Instant>,
    unlogged: u64,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            unasked: [Bucket::default(); KINDS],
            bytes: Bucket::default(),
            answers: [0; KINDS],
            logged: None,
            unlogged: 0,
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
        let logged = self.logged.is_some_and(|at| now.saturating_duration_since(at) < LOGS_EVERY);
        let used = self.unasked.iter().chain([&self.bytes]).any(|bucket| bucket.used > 0.0);
        !logged && !used && self.answers == [0; KINDS]
    }
}

/// What may still be read of each base.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    accounts: HashMap<BaseId, Account>,
    logs: Bucket,
    logs_at: Option<Instant>,
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

    /// A message of the base was refused. Returns how many there were since that was last logged, if it is to be logged
    /// now.
    pub(super) fn logs(&mut self, base: &BaseId, now: Instant) -> Option<u64> {
        let account = self.account(base, now);
        account.unlogged = account.unlogged.saturating_add(1);
        let lately = account.logged.is_some_and(|at| now.saturating_duration_since(at) < LOGS_EVERY);
        if lately || !self.may_log(now) {
            return None;
        }
        let account = self.account(base, now);
        account.logged = Some(now);
        Some(std::mem::take(&mut account.unlogged))
    }

    /// The same for somebody who is no base at all.
    pub(super) fn may_log(&mut self, now: Instant) -> bool {
        let passed = self.logs_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.logs_at = Some(now);
        self.logs.refill(passed, LOGS);
        self.logs.take(1.0, LOGS)
    }
}
