//! Why a module does not serve, in the words that its Pod's status has.

use super::{
    context::Context,
    module::{Module, Want},
    orders::{self, Next},
    replace, room, web,
};
use crate::domain::{
    Claim, Command, ModuleId, ModuleSpec, ModuleState, Pod, Reason, Strategy, known::in_use, times::so_far,
};

/// Why the wanted version does not serve, for its Pod's status.
pub(super) fn why_not_active(module: &Module<'_, '_>, pod: &Pod, spec: &ModuleSpec) -> (Reason, String) {
    let base = module.cx.base;
    if let Some(said) = replace::why(module, pod) {
        return said;
    }
    let want = Want { pod, spec };
    if pod.replaces
        && let Some(said) = why_no_room(module, want)
    {
        return said;
    }
    if module.clashes(want) {
        return why_in_use(module, want);
    }
    let failure = base.failures.of(spec);
    if failure.is_none_or(|f| f.reason != Reason::WebContextInUse)
        && let Some(holder) = web::keeps_out(module, want)
    {
        return (Reason::WebContextInUse, in_use(&spec.id, Some(holder.id), &holder.path));
    }
    if let Some(failure) = failure {
        let waits = (failure.retry_at <= module.cx.now).then(|| why_no_room(module, want)).flatten();
        return waits.unwrap_or_else(|| (failure.reason, failure.message.clone()));
    }
    if module.state(&spec.id.version) == Some(ModuleState::Deactivated)
        && let Some(foreign) = module.foreign_active()
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
    if let Some(said) = why_no_room(module, want) {
        return said;
    }
    let operation = base.conversation.operation(&spec.id.name);
    let switching = operation.is_some_and(|o| *o.order.id() == spec.id && o.order.is_switch());
    if switching || base.conversation.has_started(&spec.id) {
        let message = format!("{} has started and takes over from the version before", spec.id);
        return (Reason::Switching, message);
    }
    if web::tried_elsewhere(module, spec).is_some() {
        return (Reason::Installing, format!("waits: another base tries whether {} loads beside what serves", spec.id));
    }
    if let Some(message) = why_no_place(module, spec) {
        return (Reason::BaseBusy, message);
    }
    let lasted = base.installing_since.get(&spec.id).map(|since| module.cx.now.saturating_duration_since(*since));
    let so_far = lasted.and_then(so_far).map_or_else(String::new, |words| format!(", {words}"));
    if want.has_run() && module.state(&spec.id.version).is_none() {
        return (Reason::ModuleGone, format!("the base no longer lists {}; installing it again{so_far}", spec.id));
    }
    (Reason::Installing, format!("installing {} from {}{so_far}", spec.id, spec.shown_url()))
}

/// It waits for room in the base's metaspace.
fn why_no_room(module: &Module<'_, '_>, want: Want<'_>) -> Option<(Reason, String)> {
    let is_loaded = || module.state(&want.spec.id.version).is_some();
    let command = match orders::install(module, want) {
        _ if want.pod.replaces => replace::in_its_place(want.spec),
        Next::Order(command) => command,
        Next::Wait | Next::Skip if is_loaded() => return None,
        // Another version comes or goes first.
        Next::Wait | Next::Skip => Command::Install(want.spec.clone(), Strategy::InstallOnly),
    };
    Some((Reason::InsufficientMetaspace, room::why(module, want, &command)?))
}

/// Another Pod has the version, from another jar; or this one had it, and is changed.
fn why_in_use(module: &Module<'_, '_>, want: Want<'_>) -> (Reason, String) {
    let id = &want.spec.id;
    let has_it = |p: &&&Pod| p.uid != want.pod.uid && module.is_kept_by(p, id);
    let Some(other) = module.pods().iter().find(has_it) else {
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
fn why_no_place(module: &Module<'_, '_>, spec: &ModuleSpec) -> Option<String> {
    let base = module.cx.base;
    if base.free_places(module.cx.now) > 0 || base.conversation.operation(&spec.id.name).is_some() {
        return None;
    }
    let lasting = base.conversation.lasting(module.cx.now);
    let lasts = so_far(lasting.iter().map(|(_, lasted)| *lasted).min()?)?;
    let names: Vec<_> = lasting.iter().map(|(id, _)| id.to_string()).collect();
    Some(format!("waits: the base is busy with {} {lasts}", names.join(", ")))
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
