//! Updates that need the old version out of the way first.
//!
//! A base cannot load two web modules with one context path, nor one version twice. A Pod that asks for it has the old
//! version make room: the Pods that serve become not Ready, requests end, the old version is uninstalled, the new one
//! installed. The new version has been tried beside the old one before, or lately on another base, so its jar could be
//! fetched a moment ago. If it does not start all the same, what the old Pods ask for is installed again, and this Pod does not try a second time:
//! each try costs the module's callers an outage.

use std::time::Duration;

use super::{
    context::Context,
    module::{Module, Want},
    plan::Plan,
    room, web,
};
use crate::domain::{
    Command, Ledger, ModuleId, ModuleSpec, Pod, Reason, Strategy,
    known::{Replacement, Stage},
    times::Later,
};

/// How long requests have to end where the old Pod has no `lifecycle.preStop.sleep`: proxies learn within seconds that
/// an endpoint is gone.
const DRAINS_FOR: Duration = Duration::from_secs(5);

/// Where the replacement of what is loaded under `name` stands, if there is one.
pub(super) fn replacement(cx: &Context<'_>, name: &str, ledger: &Ledger, plan: &mut Plan) -> Option<Replacement> {
    if !cx.pods_of(name).iter().any(|pod| pod.replaces) {
        return None;
    }
    let module = Module::new(cx, name, ledger);
    let wants = module.wants();
    let known = cx.base.replacements.get(name);
    let goes_on = |known: &Replacement| {
        let mut same = wants.iter().filter(|w| w.pod.uid == known.pod && *w.spec == known.spec);
        same.find(|w| !module.is_held(w) && !module.serves(w)).copied()
    };
    let Some((known, want)) = known.and_then(|known| Some((known, goes_on(known)?))) else {
        return begins(&module, &wants, Stage::Leaving, plan);
    };
    let stage = match known.stage {
        Stage::Leaving | Stage::Draining(_) => return begins(&module, &wants, known.stage, plan),
        Stage::Emptying if module.others_of_ours(want).any(|id| refuses_to_go(cx, id)) => Stage::Failed,
        // The failure is of the try without the others: that of the try beside them was dropped before it.
        Stage::Installing if cx.base.failures.of(want.spec).is_some() => Stage::Failed,
        // Also what comes late, by a command from before.
        Stage::Emptying | Stage::Installing if module.others_of_ours(want).next().is_some() => Stage::Emptying,
        Stage::Emptying | Stage::Installing => Stage::Installing,
        // What others ask for stays; alone it is tried like any other.
        Stage::Failed if wants.iter().any(|o| o.pod.uid != want.pod.uid && !module.is_held(o)) => Stage::Failed,
        Stage::Failed => return None,
    };
    Some(Replacement { stage, ..known.clone() })
}

fn begins(module: &Module<'_, '_>, wants: &[Want<'_>], stage: Stage, plan: &mut Plan) -> Option<Replacement> {
    let asks = |w: &&Want<'_>| w.pod.replaces && is_in_the_way(module, **w) && !module.is_held(w);
    let want = wants.iter().find(asks)?;
    // Before anything goes: what serves does.
    room::has_room(module, *want, &in_its_place(want.spec), plan).then_some(())?;
    let stage = clear(module, *want, stage, plan);
    Some(Replacement { pod: want.pod.uid.clone(), spec: want.spec.clone(), stage })
}

/// What a replacement comes to.
pub(super) fn in_its_place(spec: &ModuleSpec) -> Command {
    Command::Install(spec.clone(), Strategy::UninstallThenInstall)
}

/// What is loaded keeps the wanted version out, and it has not failed in its place before.
fn is_in_the_way(module: &Module<'_, '_>, want: Want<'_>) -> bool {
    let tried = want.container().is_some_and(|c| c.history.failed);
    let kept_out = web::is_kept_out_by_a_version(module, want) && module.foreign_active().is_none();
    !tried && (kept_out || module.clashes(want) && module.ledger.claim_of(&want.spec.id, &want.pod.workload).is_none())
}

/// The base has said lately that it cannot uninstall it.
fn refuses_to_go(cx: &Context<'_>, id: &ModuleId) -> bool {
    cx.base.failures.of_uninstall(id).is_some_and(|f| f.retry_at > cx.now)
}

/// The next step towards an empty place, before anything is uninstalled.
fn clear(module: &Module<'_, '_>, want: Want<'_>, before: Stage, plan: &mut Plan) -> Stage {
    let now = module.cx.now;
    let others = || module.pods().iter().filter(|pod| pod.uid != want.pod.uid && pod.is_live());
    if others().any(|pod| pod.shown_ready) {
        return Stage::Leaving;
    }
    let drain = || others().map(|pod| pod.drain).max().filter(|drain| !drain.is_zero()).unwrap_or(DRAINS_FOR);
    let drained = if let Stage::Draining(until) = before { until } else { now.later(drain()) };
    if plan.waits_until(drained, now) {
        return Stage::Draining(drained);
    }
    plan.wake_at(now); // the failure beside the others is forgotten by then
    Stage::Emptying
}

/// What a Pod says whose module makes room for another, or waits for it.
pub(super) fn why(module: &Module<'_, '_>, pod: &Pod) -> Option<(Reason, String)> {
    let replacement = module.replacement()?;
    let new = &replacement.spec.id;
    if !replacement.lasts() {
        let failure = module.cx.base.failures.of(&replacement.spec);
        let cause = failure.map_or("the base does not uninstall it", |f| f.message.as_str());
        let message = format!(
            "{new} could not take the place of what serves: {cause}. What other Pods ask for is back; a new Pod tries again"
        );
        return replacement.is_for(pod).then_some((Reason::InstallFailed, message));
    }
    let message = match (replacement.is_for(pod), replacement.stage) {
        (true, Stage::Leaving | Stage::Draining(_)) => {
            format!("the base cannot load {new} beside what serves; it takes its place when requests have ended")
        }
        (true, _) => {
            format!("installing {new} from {} in the place of what served before", replacement.spec.shown_url())
        }
        (false, _) => format!("makes room for {new}, which the base cannot load beside it"),
    };
    Some((Reason::Replacing, message))
}
