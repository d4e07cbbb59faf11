//! Who has the claim on a module name of a base.

use std::collections::BTreeSet;

use super::{
    context::Context,
    module::{Module, Want},
    plan::Plan,
};
use crate::domain::{
    Ledger, ModuleId, ModuleState,
    known::{has_a_pod, is_awaited},
    times::Later,
};

/// Brings the claims on `name` in line with what is active.
pub(super) fn claim(cx: &Context<'_>, name: &str, ledger: &mut Ledger, plan: &mut Plan) {
    let settles = cx.base.settings.claim_settles;
    ledger.end_claims(name, |claim| {
        if has_a_pod(claim, name, cx.pods_of(name)) || is_awaited(claim, name, cx.pods_of(name)) {
            return true;
        }
        let ends = cx.base.without_pod_since(name, claim).unwrap_or(cx.now).later(settles);
        plan.waits_until(ends, cx.now)
    });

    ledger.drop_what_newer_revisions_say(name, |claim| has_a_pod(claim, name, cx.pods_of(name)));
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
        } else if !held && lost_to_a_later_claim(&module, *want, &active) {
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
fn lost_to_a_later_claim(module: &Module<'_, '_>, want: Want<'_>, active: &BTreeSet<&str>) -> bool {
    let ModuleId { name, version } = &want.spec.id;
    let mut later = module.ledger.claims(name).iter().skip_while(|c| !c.is_of(&want.pod.workload, version)).skip(1);
    let deactivated = module.state(version) == Some(ModuleState::Deactivated);
    deactivated && later.any(|c| !c.superseded && active.contains(c.version.as_str()))
}
