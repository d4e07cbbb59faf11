//! What the engine knows of each base, for people who look: read without asking the engine.
//!
//! A picture of a base is a copy, and at fleet size copies made at each turn cost more than the turn. So they are made
//! only while somebody looks: a look asks for them for a minute, the engine then takes the picture of each base once, a
//! few at each turn, and after that only of bases that it plans anyway. When nobody has looked for that long, all are
//! dropped. While nobody looks the engine reads one number at each turn, and nothing else.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use dashmap::DashMap;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::{
    domain::{BaseId, BaseInfo, BaseView, Claim, CommandView, FailureView, Later, ListedModule, Reachability},
    metrics::BaseMetaspace,
};

/// Pictures are kept up to date for so long after the last look.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// A look waits this long for the engine to take them.
const PATIENCE: Duration = Duration::from_secs(3);

/// A base as it was when it was planned last.
#[derive(Clone, Debug)]
pub struct BasePicture {
    /// Its Node.
    pub node: String,
    /// What it says about itself.
    pub info: Option<BaseInfo>,
    /// Whether it can be reached.
    pub reachability: Reachability,
    /// Since when.
    pub reachability_since: Instant,
    /// What is known of its modules.
    pub view: BaseView,
    /// What it uses of its metaspace, where that has a limit.
    pub metaspace: Option<BaseMetaspace>,
    /// Its ledger is on record as it is.
    pub recorded: bool,
    /// Containers that wait.
    pub waiting: Vec<Wait>,
}

/// A container of a Pod that waits, by the Pod's status.
#[derive(Clone, Debug, Serialize)]
pub struct Wait {
    /// `namespace/name`.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Why.
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
}

/// The pictures of all bases.
#[derive(Debug)]
pub struct Pictures {
    bases: DashMap<BaseId, BasePicture>,
    begun: Instant,
    /// Milliseconds since then; 0: nobody has looked.
    wanted_until: AtomicU64,
    asked: Notify,
    /// There is one of each base.
    complete: watch::Sender<bool>,
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            bases: DashMap::new(),
            begun: Instant::now(),
            wanted_until: AtomicU64::new(0),
            asked: Notify::new(),
            complete: watch::Sender::new(false),
        }
    }
}

impl Pictures {
    /// All bases in short, by their identities. None if the engine takes no pictures.
    pub async fn summary(&self) -> Option<Value> {
        self.look(|bases, now| {
            let mut all: Vec<_> =
                bases.iter().map(|entry| (entry.key().clone(), entry.value().summary(entry.key(), now))).collect();
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all.into_iter().map(|(_, summary)| summary).collect()
        })
        .await
    }

    /// All of one base, if it is known. None if the engine takes no pictures.
    pub async fn of(&self, id: &BaseId) -> Option<Option<Value>> {
        self.look(|bases, now| bases.get(id).map(|picture| picture.all(id, now))).await
    }

    async fn look<T>(&self, read: impl Fn(&DashMap<BaseId, BasePicture>, Instant) -> T) -> Option<T> {
        let look = async {
            let mut complete = self.complete.subscribe();
            loop {
                self.want(Instant::now());
                complete.wait_for(|is| *is).await.ok()?;
                let seen = read(&self.bases, Instant::now());
                // They may have been dropped meanwhile.
                if !complete.has_changed().unwrap_or(true) {
                    return Some(seen);
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.ok().flatten()
    }

    /// Somebody looks.
    pub(crate) fn want(&self, now: Instant) {
        self.wanted_until.fetch_max(self.millis(now.later(WANTED_FOR)), Ordering::SeqCst);
        if !*self.complete.borrow() {
            self.asked.notify_one();
        }
    }

    /// What a look at one base shows.
    #[cfg(test)]
    pub(crate) fn peek(&self, id: &BaseId, now: Instant) -> Option<Value> {
        self.bases.get(id).map(|picture| picture.all(id, now))
    }

    /// How many there are, and whether these are all.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, bool) {
        (self.bases.len(), *self.complete.borrow())
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody looks, and there is not a picture of each base yet.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Somebody looks, or has lately.
    pub(crate) fn are_wanted(&self, now: Instant) -> bool {
        let until = self.wanted_until.load(Ordering::SeqCst);
        until > 0 && self.millis(now) <= until
    }

    /// The base as it is now.
    pub(crate) fn show(&self, id: &BaseId, picture: BasePicture) {
        self.bases.insert(id.clone(), picture);
    }

    /// The base is not known any more.
    pub(crate) fn forget(&self, id: &BaseId) {
        self.bases.remove(id);
    }

    /// There is one of each base; or else there are more to take at the next turn.
    pub(crate) fn taken(&self, all: bool) {
        if all {
            self.complete.send_if_modified(|is| !std::mem::replace(is, true));
        } else {
            self.asked.notify_one();
        }
    }

    /// Nobody looks any more.
    pub(crate) fn drop_all(&self) {
        self.complete.send_replace(false);
        self.bases.clear();
        self.bases.shrink_to_fit();
    }
}

/// Whole seconds since then.
fn since(at: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(at).as_secs()
}

impl BasePicture {
    fn summary(&self, id: &BaseId, now: Instant) -> Value {
        json!({
            "base": id.as_str(),
            "node": self.node,
            "reachability": self.reachability,
            "reachabilityForSeconds": since(self.reachability_since, now),
            "modules": self.view.modules.as_ref().map(Vec::len),
            "commands": self.view.commands.len(),
            "failures": self.view.failures.len(),
            "metaspaceUsedBytes": self.metaspace.map(|metaspace| metaspace.used),
            "metaspaceMaxBytes": self.metaspace.map(|metaspace| metaspace.max),
            "waiting": self.waiting.len(),
        })
    }

    fn all(&self, id: &BaseId, now: Instant) -> Value {
        let view = &self.view;
        let module = |module: &ListedModule| json!({ "module": module.id.to_string(), "state": module.state, "message": module.message });
        let command = |command: &CommandView| {
            json!({
                "command": command.command,
                "module": command.module.to_string(),
                "forSeconds": since(command.sent, now),
                "answered": command.answered,
                "mayBeLost": command.uncertain,
            })
        };
        let failure = |failure: &FailureView| {
            json!({
                "command": failure.command,
                "module": failure.module.to_string(),
                "reason": failure.reason,
                "message": failure.message,
                "failures": failure.count,
                "nextTryInSeconds": since(now, failure.retry_at),
            })
        };
        let claim = |(name, claim): &(String, Claim)| {
            json!({
                "module": format!("{name}:{}", claim.version),
                "workload": claim.workload,
                "revision": claim.revision,
                "superseded": claim.superseded,
            })
        };
        let info = self.info.as_ref();
        json!({
            "base": id.as_str(),
            "node": self.node,
            "application": info.map(|info| format!("{} {}", info.name, info.version)),
            "address": info.and_then(|info| info.ip.as_ref()),
            "reachability": self.reachability,
            "reachabilityForSeconds": since(self.reachability_since, now),
            "listedSecondsAgo": view.listed.map(|at| since(at, now)),
            "modules": view.modules.as_ref().map(|modules| modules.iter().map(module).collect::<Vec<_>>()),
            "commands": view.commands.iter().map(command).collect::<Vec<_>>(),
            "failures": view.failures.iter().map(failure).collect::<Vec<_>>(),
            "claims": view.claims.iter().map(claim).collect::<Vec<_>>(),
            "installed": view.installed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "metaspace": self.metaspace.map(|metaspace| json!({
                "usedBytes": metaspace.used,
                "maxBytes": metaspace.max,
                "loadedClasses": metaspace.classes,
                "leftBehindBytes": metaspace.left_behind,
            })),
            "recorded": self.recorded,
            "waiting": self.waiting,
        })
    }
}

#[cfg(test)]
mod tests;
