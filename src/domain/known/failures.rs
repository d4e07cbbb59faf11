//! Commands that failed, why, and when they are tried again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Instant,
};

use super::contexts::{in_use, taken_path};
use crate::domain::{Backoff, Ledger, ListedModule, ModuleId, ModuleSpec, Origin, Pod, PodUid, Reason, times::Later};

/// An install or uninstall that failed.
#[derive(Clone, Debug)]
pub(in crate::domain) struct Failure {
    /// What was tried; a changed Pod does not wait for the old try's back-off. None: an uninstall.
    pub(in crate::domain) spec: Option<ModuleSpec>,
    /// Pods that share this failure's back-off.
    pub(in crate::domain) tried_for: BTreeSet<PodUid>,
    pub(in crate::domain) count: u32,
    /// When it failed last.
    pub(in crate::domain) at: Instant,
    pub(in crate::domain) retry_at: Instant,
    pub(in crate::domain) reason: Reason,
    pub(in crate::domain) message: String,
    /// The context path that was taken, where that was the cause.
    pub(in crate::domain) context: Option<String>,
}

/// Why an install failed.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) reason: Reason,
    pub(super) message: String,
    context: Option<String>,
}

impl Failure {
    fn new(reason: Reason, count: u32, now: Instant) -> Self {
        let (message, context) = (String::new(), None);
        Self { spec: None, tried_for: BTreeSet::new(), count, at: now, retry_at: now, reason, message, context }
    }

    fn again(&mut self, message: String, backoff: &Backoff, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.at = now;
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
    unanswered: HashSet<ModuleId>,
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
    pub(in crate::domain) fn installs(&self) -> impl Iterator<Item = &Failure> {
        self.installs.values()
    }

    /// All that failed: the command's name on the wire, and what it was about.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &ModuleId, &Failure)> {
        let installs = self.installs.iter().map(|((id, _), failure)| ("installBiz", id, failure));
        installs.chain(self.uninstalls.iter().map(|(id, failure)| ("uninstallBiz", id, failure)))
    }

    /// It is there.
    pub(super) fn installed(&mut self, id: &ModuleId) {
        self.unanswered.remove(id);
        self.installs.retain(|(of, _), _| of != id);
    }

    /// It is gone, and what it may have kept out can be tried now.
    pub(super) fn uninstalled(&mut self, id: &ModuleId, now: Instant) {
        self.uninstalls.remove(id);
        for failure in self.installs.values_mut() {
            if failure.reason == Reason::WebContextInUse {
                failure.retry_at = now;
            }
        }
    }

    /// An install failed. `failed_before`: as often as that for all that the Pods' restart counts remember, which
    /// counts where this process does not know better.
    pub(super) fn install_failed(
        &mut self,
        spec: ModuleSpec,
        Cause { reason, message, context }: Cause,
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
        (failure.reason, failure.context) = (reason, context);
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

    pub(super) fn give_back_room(&mut self) {
        self.installs.shrink_to_fit();
        self.uninstalls.shrink_to_fit();
        self.unanswered.shrink_to_fit();
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

/// A failure whose cause is known says what to do. `list`: what the base has.
pub(super) fn recognised<'a>(
    id: &ModuleId,
    list: impl Iterator<Item = &'a ListedModule> + Clone,
    reason: Reason,
    message: String,
) -> Cause {
    let Some(path) = taken_path(&message) else { return Cause { reason, message, context: None } };
    let others = list.filter(|m| m.id != *id);
    let at_path = others.clone().find(|m| m.context_path.as_deref() == Some(path));
    let holder = at_path.or_else(|| others.clone().find(|m| m.id.name == id.name));
    let says = in_use(id, holder.map(|m| &m.id), path);
    Cause { reason: Reason::WebContextInUse, message: says, context: Some(path.to_owned()) }
}
