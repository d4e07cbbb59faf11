//! All versions of one module name on one base: who has the claim, what to order next.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Base, Claim, Command, Container, Ledger, ListedModule, ModuleId, ModuleSpec, ModuleState, Plan, Pod, Reason,
    Strategy, Workload,
    base::is_held_by_a_pod,
    conversation::Order,
    plan::Phase,
    reconcile::{Context, pre_stop_ends},
    replace::{self, Replacement},
    times::{Later, so_far},
};

/// A module name on a base, with the claims on it.
pub(super) struct Module<'c, 'l> {
    cx: &'c Context<'c>,
    name: &'l str,
    ledger: &'l Ledger,
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

    fn has_run(&self) -> bool {
        self.container().is_some_and(|c| c.history.has_run)
    }
}

impl<'c, 'l> Module<'c, 'l> {
    pub(super) fn new(cx: &'c Context<'c>, name: &'l str, ledger: &'l Ledger) -> Self {
        Self { cx, name, ledger }
    }

    /// All listed versions of the name.
    fn listed(&self) -> impl Iterator<Item = &'c ListedModule> + use<'c, 'l> {
        let name = self.name;
        let from = ModuleId::new(name, "");
        let list = self.cx.base.talk.list().into_iter().flat_map(move |list| list.range(from.clone()..));
        list.map(|(_, m)| m).take_while(move |m| m.id.name == name)
    }

    fn state(&self, version: &str) -> Option<ModuleState> {
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

    pub(super) fn has_claim(&self, want: Want<'_>) -> bool {
        self.ledger.claim_of(&want.spec.id, &want.pod.workload).is_some()
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

    pub(super) fn base(&self) -> &'c Base {
        self.cx.base
    }

    pub(super) fn now(&self) -> Instant {
        self.cx.now
    }

    pub(super) fn pods(&self) -> &[&'c Pod] {
        self.cx.pods_of(self.name)
    }

    fn active(&self) -> BTreeSet<&'c str> {
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
        let mut wants: Vec<Want<'c>> = self
            .cx
            .pods_of(self.name)
            .iter()
            .copied()
            .filter(|p| p.is_live())
            .flat_map(|pod| pod.modules().filter(|s| s.id.name == self.name).map(move |spec| Want { pod, spec }))
            .collect();
        // Claims first, in their order: what ran before runs again before anything new is tried.
        wants.sort_by_cached_key(|w| {
            let place = self.ledger.claims(self.name).iter().position(|c| c.is_of(&w.pod.workload, &w.spec.id.version));
            (place.unwrap_or(usize::MAX), !w.has_run(), w.pod.created, w.pod.workload.revision, w.pod.uid.clone())
        });
        wants
    }

    /// Whether a listed version must stay: a Pod wants it, or its Pod is on its way out.
    fn is_kept(&self, id: &ModuleId) -> bool {
        let expected = self.cx.base.expected(self.cx.now).iter().any(|e| e.id == *id);
        let handed_over = self.cx.base.handed_over.get(id).is_some_and(|until| *until > self.cx.now);
        expected || handed_over || self.cx.pods_of(self.name).iter().any(|pod| self.is_kept_by(pod, id))
    }

    fn is_kept_by(&self, pod: &Pod, id: &ModuleId) -> bool {
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
            return pre_stop_ends(pod, memory, self.cx.now) > self.cx.now;
        }
        pod.superseded && (self.drains_until(pod) > self.cx.now || !self.has_successor(id))
    }

    /// Another version serves.
    pub(super) fn has_successor(&self, id: &ModuleId) -> bool {
        self.active().iter().any(|version| *version != id.version)
    }

    /// A superseded version may finish its requests until its Pod's grace period is over.
    fn drains_until(&self, pod: &Pod) -> Instant {
        self.cx.memory(pod).superseded_seen.unwrap_or(self.cx.now).later(pod.grace)
    }

    /// A version that is active although no Pod here asks for it and we did not install it.
    pub(super) fn foreign_active(&self) -> Option<&'c ListedModule> {
        self.listed().find(|m| {
            m.state == ModuleState::Activated
                && !self.ledger.installed(&m.id)
                && !self.cx.pods_of(self.name).iter().any(|p| p.modules().any(|s| s.id == m.id))
        })
    }

    /// Why the wanted version does not serve, for its Pod's status.
    pub(super) fn why_not_active(&self, pod: &Pod, spec: &ModuleSpec) -> (Reason, String) {
        let base = self.cx.base;
        if let Some(said) = replace::why(self, pod) {
            return said;
        }
        let want = Want { pod, spec };
        if self.clashes(want) {
            return self.why_in_use(want);
        }
        if let Some(failure) = base.failure(spec) {
            return (failure.reason, failure.message.clone());
        }
        if self.state(&spec.id.version) == Some(ModuleState::Deactivated)
            && let Some(foreign) = self.foreign_active()
        {
            let message = format!(
                "{} is active on the base and was not installed by Kubernetes; it is left alone, so {} stays deactivated",
                foreign.id, spec.id
            );
            return (Reason::ForeignModule, message);
        }
        if let Some(message) = &spec.unresolved {
            return (Reason::ConfigError, message.clone());
        }
        let switching = base.talk.operation(self.name).is_some_and(|o| {
            o.order.id() == &spec.id && matches!(o.order, Order::Install(_, Strategy::UninstallThenInstall))
        });
        if switching || base.talk.proven(&spec.id) {
            let message = format!("{} has started and takes over from the version before", spec.id);
            return (Reason::Switching, message);
        }
        if let Some(message) = self.why_no_place(spec) {
            return (Reason::BaseBusy, message);
        }
        let has_run = pod.containers().iter().any(|c| c.name == spec.id.name && c.history.has_run);
        let lasted = base.installing_since.get(&spec.id).map(|since| self.cx.now.saturating_duration_since(*since));
        let so_far = lasted.and_then(so_far).map_or_else(String::new, |words| format!(", {words}"));
        if has_run && self.state(&spec.id.version).is_none() {
            return (Reason::ModuleGone, format!("the base no longer lists {}; installing it again{so_far}", spec.id));
        }
        (Reason::Installing, format!("installing {} from {}{so_far}", spec.id, spec.shown_url()))
    }

    /// Another Pod has the version, from another jar; or this one had it, and is changed.
    fn why_in_use(&self, want: Want<'_>) -> (Reason, String) {
        let id = &want.spec.id;
        let has_it = |p: &&&Pod| p.uid != want.pod.uid && self.is_kept_by(p, id);
        let Some(other) = self.pods().iter().find(has_it) else {
            return (Reason::Replacing, format!("installing {id} anew, from {}", want.spec.shown_url()));
        };
        let message = format!(
            "the base has {id} for Pod {} with another image, and cannot have it twice. Give the module \
             another version, or let that Pod go first (a Deployment with maxSurge 0)",
            other.name
        );
        (Reason::VersionInUse, message)
    }

    /// All places are taken by commands that last.
    fn why_no_place(&self, spec: &ModuleSpec) -> Option<String> {
        let base = self.cx.base;
        if base.free_places(self.cx.now) > 0 || base.talk.operation(&spec.id.name).is_some() {
            return None;
        }
        let lasting = base.talk.lasting(self.cx.now);
        let lasts = so_far(lasting.iter().map(|(_, lasted)| *lasted).min()?)?;
        let names: Vec<_> = lasting.iter().map(|(id, _)| id.to_string()).collect();
        Some(format!("waits: the base is busy with {} {lasts}", names.join(", ")))
    }

    /// It was tried, and cannot be loaded beside the version that serves.
    pub(super) fn is_kept_out(&self, want: Want<'_>) -> bool {
        let in_use = self.cx.base.failure(want.spec).is_some_and(|f| f.reason == Reason::WebContextInUse);
        in_use && self.has_successor(&want.spec.id)
    }
}

/// Brings the claims on `name` in line with what is active.
pub(super) fn claim(cx: &Context<'_>, name: &str, ledger: &mut Ledger, plan: &mut Plan) {
    let settles = cx.base.settings.claim_settles;
    ledger.end_claims(name, |claim| {
        if is_held_by_a_pod(claim, name, cx.pods_of(name)) {
            return true;
        }
        let ends = cx.base.unheld_since(name, claim).unwrap_or(cx.now).later(settles);
        if ends > cx.now {
            plan.wake_at(ends);
        }
        ends > cx.now
    });

    ledger.drop_what_newer_revisions_say(name, |claim| is_held_by_a_pod(claim, name, cx.pods_of(name)));
    let module = Module::new(cx, name, ledger);
    let (wants, active) = (module.wants(), module.active());
    // What ran and has no claim lost its record: the process died before it was saved. It was there first.
    for want in wants.iter().rev().filter(|w| w.has_run() && !active.contains(w.spec.id.version.as_str())) {
        ledger.recall(&want.spec.id, &want.pod.workload);
    }
    for want in &wants {
        let (id, workload) = (&want.spec.id, &want.pod.workload);
        let module = Module::new(cx, name, ledger);
        let held = module.is_held(want);
        if module.clashes(*want) {
            continue; // what runs is another Pod's
        }
        if active.contains(id.version.as_str()) {
            let claimed = ledger.claim_of(id, workload).is_some_and(|c| !c.superseded);
            if !claimed && !held {
                ledger.take_over(id, workload, &active);
            }
        } else if !held && module_lost_to_a_later_claim(cx, name, ledger, *want, &active) {
            ledger.supersede(id, workload);
        }
    }
    adopt(cx, name, ledger);
}

/// What is there and a Pod asks for is Kubernetes' from then on, whoever installed it: it goes with its Pod.
fn adopt(cx: &Context<'_>, name: &str, ledger: &mut Ledger) {
    let listed: Vec<_> = Module::new(cx, name, ledger).listed().map(|m| &m.id).collect();
    for pod in cx.pods_of(name).iter().filter(|p| !p.terminal) {
        for container in pod.containers() {
            let Some(spec) = container.module().filter(|s| listed.contains(&&s.id)) else { continue };
            let held = Module::new(cx, name, ledger).held_by(&pod.workload, &spec.id).is_some();
            if container.history.has_run || !held {
                ledger.install(&spec.id);
            }
        }
    }
}

/// The base itself keeps the version deactivated because one with a later claim is active.
fn module_lost_to_a_later_claim(
    cx: &Context<'_>,
    name: &str,
    ledger: &Ledger,
    want: Want<'_>,
    active: &BTreeSet<&str>,
) -> bool {
    let id = &want.spec.id;
    let claims = ledger.claims(name);
    let Some(own) = claims.iter().position(|c| c.is_of(&want.pod.workload, &id.version)) else {
        return false;
    };
    let deactivated = Module::new(cx, name, ledger).state(&id.version) == Some(ModuleState::Deactivated);
    deactivated && claims.iter().skip(own).skip(1).any(|c| !c.superseded && active.contains(c.version.as_str()))
}

/// The version of `name` that a fresh base should have first.
pub(super) fn first_wanted<'a>(cx: &'a Context<'a>, name: &str, ledger: &Ledger) -> Option<&'a ModuleSpec> {
    let module = Module::new(cx, name, ledger);
    let first = module
        .wants()
        .into_iter()
        .find(|w| w.spec.unresolved.is_none() && module.held_by(&w.pod.workload, &w.spec.id).is_none());
    first.map(|w| w.spec)
}

/// The next command about `name`, if one is due.
pub(super) fn next_command(cx: &Context<'_>, name: &str, ledger: &Ledger, plan: &mut Plan) -> Option<Command> {
    let base = cx.base;
    if base.talk.operation(name).is_some() {
        return None;
    }
    let module = Module::new(cx, name, ledger);
    for listed in module.listed().filter(|m| m.state != ModuleState::Resolved && ledger.installed(&m.id)) {
        if !module.is_kept(&listed.id) || makes_room(&module, &listed.id) {
            match base.uninstall_failures.get(&listed.id).filter(|f| f.retry_at > cx.now) {
                Some(failure) => plan.wake_at(failure.retry_at),
                None => return Some(Command::Uninstall(listed.id.clone())),
            }
        }
    }
    for pod in cx.pods_of(name).iter().filter(|p| p.superseded) {
        let until = module.drains_until(pod);
        if until > cx.now {
            plan.wake_at(until);
        }
    }
    for want in module.wants() {
        let (id, unresolved) = (&want.spec.id, want.spec.unresolved.is_some());
        if module.replacement().is_some_and(|r| !r.may_install(want.pod)) || module.clashes(want) {
            continue;
        }
        if unresolved || module.held_by(&want.pod.workload, id).is_some() || module.is_active(&id.version) {
            continue;
        }
        if module.is_kept_out(want) {
            continue; // until the other version goes
        }
        if let Some(retry_at) = backs_off_until(cx, want) {
            plan.wake_at(retry_at);
            continue;
        }
        match install(&module, want) {
            Next::Order(command) => return Some(command),
            Next::Wait => return None,
            Next::Skip => {}
        }
    }
    None
}

/// It is in the way of a version that takes its place.
fn makes_room(module: &Module<'_, '_>, id: &ModuleId) -> bool {
    let replacement = module.replacement().filter(|r| r.empties());
    replacement.is_some_and(|r| *id != r.spec.id || !module.fits(&r.spec))
}

enum Next {
    Order(Command),
    /// The base is at work on this name.
    Wait,
    /// Nothing can be done for this Pod now.
    Skip,
}

fn install(module: &Module<'_, '_>, want: Want<'_>) -> Next {
    let spec = want.spec;
    if module.listed().any(|m| m.state == ModuleState::Resolved) {
        return Next::Wait;
    }
    let others_active = module.active().iter().any(|v| *v != spec.id.version);
    match module.state(&spec.id.version) {
        None => Next::Order(Command::Install(spec.clone(), Strategy::InstallOnly)),
        Some(ModuleState::Deactivated) if module.foreign_active().is_some() => Next::Skip,
        // A leftover of an earlier release: starting it anew first proves that it still starts,
        // while the other version goes on serving.
        Some(ModuleState::Deactivated) if others_active && !module.cx.base.talk.proven(&spec.id) => {
            Next::Order(Command::Uninstall(spec.id.clone()))
        }
        // The switch takes the other version away before it fetches the jar: that it still can be is looked at first.
        Some(ModuleState::Deactivated) if others_active && !module.cx.base.talk.fetchable(&spec.id) => {
            Next::Order(Command::Install(spec.clone(), Strategy::InstallOnly))
        }
        Some(ModuleState::Deactivated) => Next::Order(Command::Install(spec.clone(), Strategy::UninstallThenInstall)),
        // Installing over it would be refused, and uninstallThenInstall would take the other versions with it.
        Some(ModuleState::Broken | ModuleState::Unknown) => Next::Order(Command::Uninstall(spec.id.clone())),
        Some(ModuleState::Activated | ModuleState::Resolved) => Next::Wait,
    }
}

fn backs_off_until(cx: &Context<'_>, want: Want<'_>) -> Option<Instant> {
    let failure = cx.base.failure(want.spec)?;
    (failure.tried_for.contains(&want.pod.uid) && failure.retry_at > cx.now).then_some(failure.retry_at)
}

/// Whether nothing of the module is left on the base that only `pod` accounted for.
pub(super) fn is_gone_for(cx: &Context<'_>, pod: &Pod, spec: &ModuleSpec, ledger: &Ledger) -> bool {
    if !matches!(cx.reachability, super::Reachability::Online)
        || cx.base.talk.operation(&spec.id.name).is_some_and(|o| o.order.id() == &spec.id)
    {
        return false;
    }
    let Some(list) = cx.base.talk.list() else { return false };
    if pod.evicted && cx.base.handed_over.contains_key(&spec.id) {
        return true; // its object must go, else anti-affinity keeps its successor away
    }
    let module = Module::new(cx, &spec.id.name, ledger);
    let kept_by_another =
        cx.pods_of(&spec.id.name).iter().any(|other| other.uid != pod.uid && module.is_kept_by(other, &spec.id));
    !list.contains_key(&spec.id) || kept_by_another || !ledger.installed(&spec.id)
}

/// Names the version and the Pod that a held or superseded Pod gave way to.
pub(super) fn describe_holder(cx: &Context<'_>, id: &ModuleId, holder: &Claim) -> String {
    let stands_for_it = |p: &&&Pod| {
        p.is_live() && p.modules().any(|m| m.id.name == id.name && holder.is_of(&p.workload, &m.id.version))
    };
    let pod = cx.pods_of(&id.name).iter().find(stands_for_it);
    let by = pod.map_or_else(String::new, |p| format!(" by Pod {}", p.name));
    let newer = ModuleId::new(&id.name, &holder.version);
    format!("{newer} was installed later on this base{by}; {id} gives way to it for as long as it lasts")
}

impl Phase {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Failed => "Failed",
        }
    }
}
