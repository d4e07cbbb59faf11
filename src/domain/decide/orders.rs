//! What to order next about a module name.

use super::{
    context::Context,
    module::{Module, Want},
    plan::Plan,
    room, web,
};
use crate::domain::{Command, Ledger, ModuleId, ModuleSpec, ModuleState, Strategy};

/// The version of `name` that a fresh base should have first.
pub(super) fn first_wanted<'a>(cx: &'a Context<'a>, name: &str, ledger: &Ledger) -> Option<&'a ModuleSpec> {
    let module = Module::new(cx, name, ledger);
    let first = module.wants().into_iter().find(|w| w.spec.unresolved.is_none() && !module.is_held(w));
    first.map(|w| w.spec)
}

/// The next command about `name`, if one is due.
pub(super) fn next_command(cx: &Context<'_>, name: &str, ledger: &Ledger, plan: &mut Plan) -> Option<Command> {
    let base = cx.base;
    if base.conversation.operation(name).is_some() {
        return None;
    }
    let module = Module::new(cx, name, ledger);
    for listed in module.listed().filter(|m| m.state != ModuleState::Resolved && ledger.installed(&m.id)) {
        if !module.is_kept(&listed.id) || makes_room(&module, &listed.id) || module.is_restarted(&listed.id) {
            let failure = base.failures.of_uninstall(&listed.id);
            if !failure.is_some_and(|f| plan.waits_until(f.retry_at, cx.now)) {
                return Some(Command::Uninstall(listed.id.clone()));
            }
        }
    }
    for pod in cx.pods_of(name).iter().filter(|p| p.superseded) {
        plan.waits_until(module.drains_until(pod), cx.now);
    }
    for want in module.wants() {
        let id = &want.spec.id;
        if module.replacement().is_some_and(|r| !r.may_install(want.pod)) || module.clashes(want) {
            continue;
        }
        if want.spec.unresolved.is_some() || module.is_held(&want) || module.is_active(&id.version) {
            continue;
        }
        if web::is_kept_out(&module, want) {
            continue; // until the other version goes
        }
        if module.restart(want.pod, id).is_some_and(|restart| plan.waits_until(restart.at, cx.now)) {
            continue;
        }
        let failure = base.failures.of(want.spec).filter(|f| f.tried_for.contains(&want.pod.uid));
        if failure.is_some_and(|f| plan.waits_until(f.retry_at, cx.now)) {
            continue;
        }
        if let Some(until) = web::tried_elsewhere(&module, want.spec) {
            plan.wake_at(until);
            plan.waits_for_a_trial = true;
            continue;
        }
        match install(&module, want) {
            Next::Order(command) if !room::has_room(&module, want, &command, plan) => {}
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

pub(super) enum Next {
    Order(Command),
    /// The base is at work on this name.
    Wait,
    /// Nothing can be done for this Pod now.
    Skip,
}

/// What is to be done for a Pod's module that does not serve.
pub(super) fn install(module: &Module<'_, '_>, want: Want<'_>) -> Next {
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
        Some(ModuleState::Deactivated) if others_active && !module.cx.base.conversation.has_started(&spec.id) => {
            Next::Order(Command::Uninstall(spec.id.clone()))
        }
        // At one context path a switch would leave the path to nobody when the other version goes.
        Some(ModuleState::Deactivated)
            if others_active && module.cx.base.link.offers_switch && web::holder(module, want).is_none() =>
        {
            Next::Order(Command::Switch(spec.clone()))
        }
        // The switch takes the other version away before it fetches the jar: that it still can be is looked at first.
        Some(ModuleState::Deactivated) if others_active && !module.cx.base.conversation.can_switch_to(&spec.id) => {
            Next::Order(Command::Install(spec.clone(), Strategy::InstallOnly))
        }
        Some(ModuleState::Deactivated) => Next::Order(Command::Install(spec.clone(), Strategy::UninstallThenInstall)),
        // Installing over it would be refused, and uninstallThenInstall would take the other versions with it.
        Some(ModuleState::Broken | ModuleState::Unknown) => Next::Order(Command::Uninstall(spec.id.clone())),
        Some(ModuleState::Activated | ModuleState::Resolved) => Next::Wait,
    }
}
