//! Commands that failed, why, and when they are tried again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Instant,
};

use crate::domain::{Backoff, Ledger, ModuleId, ModuleSpec, Origin, Pod, PodUid, Reason, times::Later};

/// The annotation that has the old version make room; see `k8s::names`.
const UPDATE: &str = "modulet.koupleless.io/update";

/// An install or uninstall that failed.
#[derive(Clone, Debug)]
pub(in crate::domain) struct Failure {
    /// What was tried; a changed Pod does not wait for the old try's back-off. None: an uninstall.
    pub(in crate::domain) spec: Option<ModuleSpec>,
    /// Pods that share this failure's back-off.
    pub(in crate::domain) tried_for: BTreeSet<PodUid>,
    pub(in crate::domain) count: u32,
    pub(in crate::domain) retry_at: Instant,
    pub(in crate::domain) reason: Reason,
    pub(in crate::domain) message: String,
}

impl Failure {
    fn new(reason: Reason, count: u32, now: Instant) -> Self {
        Self { spec: None, tried_for: BTreeSet::new(), count, retry_at: now, reason, message: String::new() }
    }

    fn again(&mut self, message: String, backoff: &Backoff, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.retry_at = now.later(backoff.delay(self.count));
        self.message = message;
    }
}

/// What failed on one base.
#[derive(Clone, Debug, Default)]
pub(in crate::domain) struct Failures {
    /// By what they were made from too: two Pods may ask for one version of a module, and each backs off on its own.
    installs: HashMap<(ModuleId, Origin), Failure>,
    uninstalls: HashMap<ModuleId, Failure>,
    /// Installs that were not answered once.
    unanswered: BTreeSet<ModuleId>,
}

impl Failures {
    /// Why the install of exactly this failed last.
    pub(in crate::domain) fn of(&self, spec: &ModuleSpec) -> Option<&Failure> {
        let failure = self.installs.get(&(spec.id.clone(), spec.origin));
        failure.filter(|f| f.spec.as_ref() == Some(spec))
    }

    /// Why it could not be uninstalled last.
    pub(in crate::domain) fn of_uninstall(&self, id: &ModuleId) -> Option<&Failure> {
        self.uninstalls.get(id)
    }

    /// Installs that failed.
    pub(in crate::domain) fn installs(&self) -> impl Iterator<Item = (&ModuleId, &Failure)> {
        self.installs.iter().map(|((id, _), failure)| (id, failure))
    }

    /// Uninstalls that failed.
    pub(in crate::domain) fn uninstalls(&self) -> impl Iterator<Item = (&ModuleId, &Failure)> {
        self.uninstalls.iter()
    }

    /// It is there.
    pub(super) fn installed(&mut self, id: &ModuleId) {
        self.unanswered.remove(id);
        self.installs.retain(|(of, _), _| of != id);
    }

    /// It is gone, and what it kept out can be tried now.
    pub(super) fn uninstalled(&mut self, id: &ModuleId, now: Instant) {
        self.uninstalls.remove(id);
        for ((of, _), failure) in &mut self.installs {
            if of.name == id.name && failure.reason == Reason::WebContextInUse {
                failure.retry_at = now;
            }
        }
    }

    /// An install failed. `failed_before`: as often as that for all that the Pods' restart counts remember, which
    /// counts where this process does not know better.
    pub(super) fn install_failed(
        &mut self,
        spec: ModuleSpec,
        (reason, message): (Reason, String),
        mut tried_for: BTreeSet<PodUid>,
        failed_before: u32,
        (backoff, now): (&Backoff, Instant),
    ) {
        let key = (spec.id.clone(), spec.origin);
        let failure = self.installs.entry(key).or_insert_with(|| Failure::new(reason, failed_before, now));
        if failure.spec.as_ref().is_some_and(|s| *s != spec) {
            failure.count = 0;
        }
        failure.again(message, backoff, now);
        failure.tried_for.append(&mut tried_for);
        failure.reason = reason;
        failure.spec = Some(spec);
    }

    /// An uninstall failed.
    pub(super) fn uninstall_failed(&mut self, id: ModuleId, message: String, backoff: &Backoff, now: Instant) {
        let failure = self.uninstalls.entry(id).or_insert_with(|| Failure::new(Reason::Uninstalling, 0, now));
        failure.again(message, backoff, now);
    }

    /// An install went unanswered; says whether that is the first time. Once may be bad luck.
    pub(super) fn unanswered(&mut self, id: &ModuleId) -> bool {
        self.unanswered.insert(id.clone())
    }

    /// A Pod shares the next try.
    pub(super) fn tried_for(&mut self, spec: &ModuleSpec, pod: &PodUid) {
        if let Some(failure) = self.installs.get_mut(&(spec.id.clone(), spec.origin)) {
            failure.tried_for.insert(pod.clone());
        }
    }

    /// What failed says nothing about the next try.
    pub(in crate::domain) fn forget_install(&mut self, spec: &ModuleSpec) {
        self.installs.remove(&(spec.id.clone(), spec.origin));
    }

    /// What nobody asks for any more is forgotten.
    pub(super) fn retain_for(&mut self, pods: &[&Pod], ledger: &Ledger) {
        let uids: HashSet<_> = pods.iter().map(|p| &p.uid).collect();
        let asked: HashSet<_> = pods.iter().flat_map(|p| p.modules()).map(|m| (&m.id, m.origin)).collect();
        self.unanswered.retain(|id| ledger.installed(id));
        self.uninstalls.retain(|id, _| ledger.installed(id));
        self.installs.retain(|(id, origin), failure| {
            failure.tried_for.retain(|uid| uids.contains(uid));
            asked.contains(&(id, *origin)) || ledger.origin(id) == Some(*origin)
        });
    }
}

/// A failure whose cause is known says what to do. `other_version`: the base lists another one of that name.
pub(super) fn recognised(id: &ModuleId, other_version: bool, reason: Reason, message: String) -> (Reason, String) {
    let in_use = message.split_once("Child name ").is_some_and(|(_, rest)| rest.contains(" is not unique"));
    if !in_use {
        return (reason, message);
    }
    let name = &id.name;
    let message = if other_version {
        format!(
            "the base serves another version of {name} at the same context path, and cannot load two ({message}). \
             Ways out: a Deployment with maxSurge 0, lifecycle.preStop.sleep and anti-affinity on the module's name \
             alone, so that the old version goes first, as in examples/strategies/web-module.yaml; the annotation \
             {UPDATE}: replace in the Pod template; or a context path for each version; see \
             docs/strategies/traffic.md"
        )
    } else {
        format!(
            "another module of the base, or the base itself, has the context path of {name} ({message}). Give one of \
             them another path"
        )
    };
    (Reason::WebContextInUse, message)
}
