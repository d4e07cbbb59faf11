//! Whether a module will fit into what is left of its base's metaspace.
//!
//! A JVM without metaspace hangs with all its modules, so what will not fit waits. It gives classes of modules that are
//! gone back when it collects them, if at all: what is used is all that is known. So an update needs room beside what
//! serves, also where that goes first.

use super::{
    context::Context,
    module::{Module, Want},
    plan::Plan,
};
use crate::domain::{Command, Lack, Strategy, Took, known::Room};

/// What a command needs, in bytes, where it loads classes for a Pod that waits if there is no room.
fn need(module: &Module<'_, '_>, want: Want<'_>, command: &Command) -> Option<u64> {
    let id = &want.spec.id;
    let loads = match command {
        Command::Install(_, Strategy::UninstallThenInstall) => true,
        Command::Install(..) => module.state(&id.version).is_none(),
        _ => false,
    };
    let container = want.container()?;
    // What ran in this Pod was there, and its place is its own: an outage of what is started anew would have no end.
    let memory = module.cx.memory(want.pod).containers.get(&container.name);
    let has_run = want.has_run() || memory.is_some_and(|memory| memory.has_run);
    // Room was made for it, and nothing serves.
    let is_cleared = module.replacement().is_some_and(|r| r.is_for(want.pod) && r.has_begun());
    if !loads || has_run || is_cleared || want.pod.ignores_metaspace || !module.cx.base.settings.metaspace.waits {
        return None;
    }
    module.cx.needs.of(id).or_else(|| container.history.lacks.map(Lack::need))
}

/// What the statuses of Pods show that modules need, where nobody knows any more.
pub(super) fn shown(cx: &Context<'_>) -> Vec<Took> {
    let containers = cx.by_name.values().flatten().flat_map(|pod| pod.containers());
    let lacking = containers.filter_map(|container| Some((container.module()?, container.history.lacks?)));
    let forgotten = lacking.filter(|(module, _)| cx.needs.of(&module.id).is_none());
    forgotten.map(|(module, lack)| Took { module: module.id.clone(), bytes: lack.need() }).collect()
}

/// Whether there is room, beside what is being loaded and what needs so many bytes.
fn room(module: &Module<'_, '_>, want: Want<'_>, command: &Command, ordered: u64) -> Room {
    let Some(need) = need(module, want, command) else { return Room::Enough };
    let Context { base, needs, now, .. } = module.cx;
    let loading = base.conversation.loading(*now).filter_map(|id| needs.of(id));
    let waited = want.container().is_some_and(|c| c.history.lacks.is_some());
    let rules = &base.settings.metaspace;
    base.jvm.room(need, loading.fold(ordered, u64::saturating_add), waited, rules, *now)
}

/// Whether a command may go out. If not, its Pod waits for room.
pub(super) fn has_room(module: &Module<'_, '_>, want: Want<'_>, command: &Command, plan: &mut Plan) -> bool {
    let room = room(module, want, command, plan.ordered);
    let has_room = matches!(room, Room::Enough | Room::AfterCollecting);
    if has_room {
        plan.must_collect |= room == Room::AfterCollecting;
        let needs = command.installs().iter().filter_map(|spec| module.cx.needs.of(&spec.id));
        plan.ordered = needs.fold(plan.ordered, u64::saturating_add);
    } else {
        plan.waits_for_room = true;
    }
    has_room
}

/// Why a command does not go out, in the words that the Pod's status has; what it says already stays for as long as the
/// module needs the same and the limit is the same.
pub(super) fn why(module: &Module<'_, '_>, want: Want<'_>, command: &Command) -> Option<String> {
    let id = &want.spec.id;
    if module.cx.base.conversation.operation(&id.name).is_some_and(|operation| operation.order.id() == id) {
        return None;
    }
    let said = want.container()?.history.lacks;
    let lack = match room(module, want, command, 0) {
        Room::Enough | Room::AfterCollecting => return None,
        Room::Unclear => said?,
        Room::Lacking(lack) => said.filter(|said| said.is_like(lack)).unwrap_or(lack),
    };
    Some(lack.words(id, module.cx.base.id.as_str()))
}
