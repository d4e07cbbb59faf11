//! All versions of one module name on one base: who has the claim, what to order next.

use std::{collections::BTreeSet, time::Instant};

use super::context::{Context, lingers_until, pre_stop_ends};
use crate::domain::{
    Claim, Container, Ledger, ListedModule, ModuleId, ModuleSpec, ModuleState, Pod, Reason, Workload,
    known::{Replacement, Restart, is_in_release},
    times::Later,
};

/// A module name on a base, with the claims on it.
pub(super) struct Module<'c, 'l> {
    pub(super) cx: &'c Context<'c>,
    name: &'l str,
    pub(super) ledger: &'l Ledger,
}

/// A live Pod's wish for one version.
#[derive(Clone, Copy)]
pub(super) struct Want<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a ModuleSpec,
}

impl<'a> Want<'a> {
    /// The container that wants it.
    pub(super) fn container(&self) -> Option<&'a Container> {
        self.pod.containers().iter().find(|c| c.name == self.spec.id.name)
    }

    pub(super) fn has_run(&self) -> bool {
        self.container().is_some_and(|c| c.history.has_run)
    }
}

impl<'c, 'l> Module<'c, 'l> {
    pub(super) fn new(cx: &'c Context<'c>, name: &'l str, ledger: &'l Ledger) -> Self {
        Self { cx, name, ledger }
    }

    /// All listed versions of the name.
    pub(super) fn listed(&self) -> impl Iterator<Item = &'c ListedModule> + use<'c, 'l> {
        let name = self.name;
        let from = ModuleId::new(name, "");
        let list = self.cx.base.conversation.list().into_iter().flat_map(move |list| list.range(from.clone()..));
        list.map(|(_, m)| m).take_while(move |m| m.id.name == name)
    }

    pub(super) fn state(&self, version: &str) -> Option<ModuleState> {
        self.listed().find(|m| m.id.version == version).map(|m| m.state)
    }

    pub(super) fn is_active(&self, version: &str) -> bool {
        self.state(version) == Some(ModuleState::Activated)
    }

    /// What is loaded of that version was made from what this Pod asks for, as far as is known.
    pub(super) fn fits(&self, spec: &ModuleSpec) -> bool {
        self.ledger.origin(&spec.id).is_none_or(|origin| origin == spec.origin)
    }

    /// The base has that version, made from something else.
    pub(super) fn clashes(&self, want: Want<'_>) -> bool {
        self.state(&want.spec.id.version).is_some() && !self.fits(want.spec)
    }

    /// Exactly what is wanted is active.
    pub(super) fn serves(&self, want: &Want<'_>) -> bool {
        self.is_active(&want.spec.id.version) && self.fits(want.spec)
    }

    pub(super) fn is_held(&self, want: &Want<'_>) -> bool {
        self.held_by(&want.pod.workload, &want.spec.id).is_some()
    }

    /// What we installed under this name and is not what is wanted.
    pub(super) fn others_of_ours<'w>(&'w self, want: Want<'w>) -> impl Iterator<Item = &'c ModuleId> + use<'c, 'l, 'w> {
        let other = move |id: &ModuleId| *id != want.spec.id || !self.fits(want.spec);
        self.listed().map(|m| &m.id).filter(move |id| self.ledger.installed(id) && other(id))
    }

    /// Its replacement by a version that the base cannot load beside it.
    pub(super) fn replacement(&self) -> Option<&'c Replacement> {
        self.cx.replacements.get(self.name)
    }

    pub(super) fn pods(&self) -> &[&'c Pod] {
        self.cx.pods_of(self.name)
    }

    pub(super) fn active(&self) -> BTreeSet<&'c str> {
        self.listed().filter(|m| m.state == ModuleState::Activated).map(|m| m.id.version.as_str()).collect()
    }

    /// The claim that keeps Pods of `workload` waiting, if one does.
    ///
    /// Whoever took the name over from it does, and so does a newer revision of the same workload.
    /// A workload that never had the name here is not held: it takes over.
    pub(super) fn held_by(&self, workload: &Workload, id: &ModuleId) -> Option<&'l Claim> {
        match self.ledger.claim_of(id, workload) {
            Some(own) if own.superseded => self.ledger.holder(self.name),
            Some(_) => None,
            None => self.ledger.claim_of_newer(self.name, workload),
        }
    }

    pub(super) fn wants(&self) -> Vec<Want<'c>> {
        let may_come = self.pods().iter().copied().filter(|p| p.is_live() && p.held_back.is_none());
        let all = may_come.flat_map(|pod| pod.modules().map(move |spec| Want { pod, spec }));
        let mut wants: Vec<_> = all.filter(|w| w.spec.id.name == self.name).collect();
        // Claims first, in their order: what ran before runs again before anything new is tried.
        wants.sort_by_cached_key(|w| {
            let place = self.ledger.claims(self.name).iter().position(|c| c.is_of(&w.pod.workload, &w.spec.id.version));
            (place.unwrap_or(usize::MAX), !w.has_run(), w.pod.created, w.pod.workload.revision, w.pod.uid.clone())
        });
        wants
    }

    /// The last version that serves, while a Pod of the same workload here awaits its batch or was released and does not
    /// serve yet: it stays whoever asks for it, for what would take its place may not come yet, or not at all.
    pub(super) fn is_deferred(&self, id: &ModuleId) -> bool {
        let pods = self.pods();
        let mut claims =
            self.ledger.claims(self.name).iter().filter(|c| !c.superseded && c.version == id.version).peekable();
        let in_release: Vec<_> = pods.iter().filter(|pod| is_in_release(pod, self.name)).collect();
        let is_its = |claim: &Claim| in_release.iter().any(|pod| *pod.workload.uid == *claim.workload);
        // Its claim ends where the release is thought to be over, and another one begins before the base has a successor.
        let awaited = if claims.peek().is_none() { !in_release.is_empty() } else { claims.any(is_its) };
        awaited && self.is_active(&id.version) && !self.has_successor(id)
    }

    /// Whether a listed version must stay: a Pod wants it, or its Pod is on its way out.
    pub(super) fn is_kept(&self, id: &ModuleId) -> bool {
        let expected = self.cx.base.expected(self.cx.now).iter().any(|e| e.id == *id);
        let handed_over = self.cx.base.handed_over.get(id).is_some_and(|until| *until > self.cx.now);
        expected || handed_over || self.is_deferred(id) || self.pods().iter().any(|pod| self.is_kept_by(pod, id))
    }

    pub(super) fn is_kept_by(&self, pod: &Pod, id: &ModuleId) -> bool {
        let Some(spec) = pod.modules().find(|s| s.id == *id) else { return false };
        let memory = self.cx.memory(pod);
        if pod.is_live() {
            if !self.fits(spec) {
                return false; // it asks for another jar, and waits for this to go
            }
            // A Pod that ran and is held now is about to be superseded: its grace period is still to come.
            let has_run = memory.containers.get(self.name).is_some_and(|c| c.has_run);
            return has_run || self.held_by(&pod.workload, id).is_none() || self.is_active(&id.version);
        }
        if pod.deleting.is_some() {
            let lingers = lingers_until(pod, memory, self.cx.now).is_some_and(|until| until > self.cx.now);
            let is_last = self.is_active(&id.version) && !self.has_successor(id);
            return lingers && is_last || pre_stop_ends(pod, memory, self.cx.now) > self.cx.now;
        }
        pod.superseded && (self.drains_until(pod) > self.cx.now || self.waits_for_successor(id))
    }

    /// Some Pod here asks for another version, which does not serve yet: until it does this one stays, though its own
    /// Pod gave way. Where nobody asks for the module any more nothing would ever take its place.
    pub(super) fn waits_for_successor(&self, id: &ModuleId) -> bool {
        let other = |spec: &ModuleSpec| spec.id.name == id.name && spec.id.version != id.version;
        let asks = |pod: &&Pod| pod.is_live() && pod.modules().any(other);
        !self.has_successor(id) && self.pods().iter().any(asks)
    }

    /// Another version serves.
    pub(super) fn has_successor(&self, id: &ModuleId) -> bool {
        self.active().iter().any(|version| *version != id.version)
    }

    /// Its module is started anew for the Pod, because a probe failed: it goes, and comes again.
    pub(super) fn restart(&self, pod: &Pod, id: &ModuleId) -> Option<&'c Restart> {
        let restart = self.cx.memory(pod).containers.get(&id.name)?.restart.as_deref()?;
        let asks = pod.is_live() && pod.held_back.is_none() && pod.modules().any(|spec| spec.id == *id);
        (asks && self.held_by(&pod.workload, id).is_none()).then_some(restart)
    }

    /// Whether a listed version goes, to be started anew.
    pub(super) fn is_restarted(&self, id: &ModuleId) -> bool {
        self.pods().iter().any(|pod| self.restart(pod, id).is_some())
    }

    /// A superseded version may finish its requests until its Pod's grace period is over.
    pub(super) fn drains_until(&self, pod: &Pod) -> Instant {
        self.cx.memory(pod).superseded_seen.unwrap_or(self.cx.now).later(pod.grace)
    }

    /// A version that is active although no Pod here asks for it and we did not install it.
    pub(super) fn foreign_active(&self) -> Option<&'c ListedModule> {
        self.listed().find(|m| {
            m.state == ModuleState::Activated
                && !self.ledger.installed(&m.id)
                && !self.pods().iter().any(|p| p.modules().any(|s| s.id == m.id))
        })
    }

    /// It was tried, and cannot be loaded beside the version that serves.
    pub(super) fn was_kept_out(&self, want: Want<'_>) -> bool {
        let in_use = self.cx.base.failures.of(want.spec).is_some_and(|f| f.reason == Reason::WebContextInUse);
        in_use && self.has_successor(&want.spec.id)
    }
}
