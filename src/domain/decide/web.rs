//! Web modules that cannot be loaded beside each other: what a base shows of them, and what is known of them before
//! anything is tried.

use std::time::Instant;

use super::{
    context::Context,
    module::{Module, Want},
};
use crate::domain::{
    Ledger, ListedModule, ModuleId, ModuleSpec, ModuleState,
    known::{Lesson, WebContext},
};

/// What has the context path of a wanted module.
pub(super) struct Holder<'c> {
    pub(super) id: &'c ModuleId,
    /// As the wanted module has it: that is what its Pod's status keeps for another process.
    pub(super) path: String,
    /// It is not known whether the wanted jar can be fetched: to try it beside the holder does no harm, and shows it.
    pub(super) is_tried_first: bool,
}

/// What this base shows of web modules that is news.
pub(super) fn lessons(cx: &Context<'_>, ledger: &Ledger) -> Vec<Lesson> {
    let mut lessons = Vec::new();
    let failures = cx.base.failures.installs();
    let refused = failures.filter_map(|f| Some((f.spec.as_ref()?, f.context.as_deref()?, Some(f.at))));
    let asked = cx.by_name.iter().flat_map(|(name, pods)| pods.iter().map(move |pod| (*name, *pod)));
    let shown = asked.filter_map(|(name, pod)| {
        let container = pod.containers().iter().find(|c| c.module().is_some_and(|m| m.id.name == *name))?;
        Some((container.module()?, container.history.kept_out.as_deref()?, None))
    });
    for (spec, path, fetched) in refused.chain(shown) {
        lessons.extend(cx.contexts.lesson(spec, path, fetched));
        let holder = sole_holder(cx, spec, path, ledger).and_then(|held| asked_for(cx, &held.id, ledger));
        lessons.extend(holder.and_then(|held| cx.contexts.lesson(held, path, None)));
    }
    let wanted = cx.by_name.values().flatten().flat_map(|pod| pod.modules());
    lessons.extend(wanted.filter_map(|spec| {
        let fine = cx.contexts.loads_beside(spec, cx.now)?;
        let module = Module::new(cx, &spec.id.name, ledger);
        let loaded = module.listed().filter(|m| is_loaded(m) && m.state != ModuleState::Resolved);
        (loaded.count() > 1 && module.state(&spec.id.version).is_some() && module.fits(spec)).then_some(fine)
    }));
    lessons
}

/// A web module of the same name is loaded, and nobody knows of this version yet: most likely it cannot be loaded beside.
pub(super) fn is_to_be_tried(module: &Module<'_, '_>, spec: &ModuleSpec) -> bool {
    let cx = module.cx;
    let known_web = |m: &ListedModule| {
        let held = asked_for(cx, &m.id, module.ledger).and_then(|held| cx.context_of(held));
        is_loaded(m) && m.id != spec.id && held.is_some()
    };
    cx.base.has_web_server != Some(false)
        && spec.context_path_by_args().is_none()
        && cx.context_of(spec).is_none()
        && module.state(&spec.id.version).is_none()
        && module.listed().any(known_web)
}

/// Until when this base waits for another one that tries it.
pub(super) fn tried_elsewhere(module: &Module<'_, '_>, spec: &ModuleSpec) -> Option<Instant> {
    let until = module.cx.contexts.tried_until(spec, module.cx.now)?;
    let tries_it = module.cx.base.conversation.operation(&spec.id.name).is_some();
    (!tries_it && is_to_be_tried(module, spec)).then_some(until)
}

/// The only one on the base that can have the path, if there is one.
fn sole_holder<'c>(cx: &Context<'c>, of: &ModuleSpec, path: &str, ledger: &Ledger) -> Option<&'c ListedModule> {
    let has_it = |m: &&ListedModule| {
        let by_args = asked_for(cx, &m.id, ledger).and_then(ModuleSpec::context_path_by_args);
        match by_args.or(m.context_path.as_deref()) {
            Some(other) => other == path,
            None => m.id.name == of.id.name, // over MQTT lists do not say
        }
    };
    let mut all = cx.base.conversation.list()?.values().filter(|m| is_loaded(m) && m.id != of.id).filter(has_it);
    all.next().filter(|_| all.next().is_none())
}

/// It has a context in the web server, if it has one at all.
fn is_loaded(module: &ListedModule) -> bool {
    matches!(module.state, ModuleState::Activated | ModuleState::Deactivated | ModuleState::Resolved)
}

/// What a loaded module was made from, as a Pod here tells.
fn asked_for<'c>(cx: &Context<'c>, id: &ModuleId, ledger: &Ledger) -> Option<&'c ModuleSpec> {
    let fits = |spec: &&ModuleSpec| {
        spec.id == *id && spec.unresolved.is_none() && ledger.origin(id).is_none_or(|origin| origin == spec.origin)
    };
    cx.pods_of(&id.name).iter().copied().flat_map(crate::domain::Pod::modules).find(fits)
}

/// It cannot be loaded beside what is: it was tried here, or that is known before.
pub(super) fn is_kept_out(module: &Module<'_, '_>, want: Want<'_>) -> bool {
    module.was_kept_out(want) || keeps_out(module, want).is_some()
}

/// The same, and what keeps it out is another version, which could make room.
pub(super) fn is_kept_out_by_a_version(module: &Module<'_, '_>, want: Want<'_>) -> bool {
    module.was_kept_out(want) || keeps_out(module, want).is_some_and(|holder| holder.id.name == want.spec.id.name)
}

/// What is known to keep a module out that is not loaded. For one that asks for room it does not count before its jar
/// could be fetched.
pub(super) fn keeps_out<'c>(module: &Module<'c, '_>, want: Want<'_>) -> Option<Holder<'c>> {
    let id = &want.spec.id;
    let holder = holder(module, want).filter(|_| module.state(&id.version).is_none());
    holder.filter(|h| !(h.is_tried_first && want.pod.replaces && h.id.name == id.name))
}

/// What is loaded at the path of the wanted module, where both are known to be web modules; none where that is not
/// known, or the base has no web server for modules.
///
/// What names its path in its args has that one, also if it was never tried. A path that differs by a slash alone is
/// loaded, takes the other's requests, and has none when the other goes (protocol fact), so that is the same.
pub(super) fn holder<'c>(module: &Module<'c, '_>, want: Want<'_>) -> Option<Holder<'c>> {
    let cx = module.cx;
    if cx.base.has_web_server == Some(false) {
        return None;
    }
    let spec = want.spec;
    let (known, by_args) = (cx.context_of(spec), spec.context_path_by_args());
    if known.is_none() && by_args.is_none() {
        return None;
    }
    let holds = |m: &'c ListedModule| {
        let held: &WebContext = cx.context_of(asked_for(cx, &m.id, module.ledger)?)?;
        let by_args = by_args.filter(|path| m.id.name == spec.id.name && held.is_at(path));
        let path = known.map(|k| &*k.path).filter(|path| held.is_at(path)).or(by_args)?;
        let was_fetched = known.is_some_and(|known| known.was_fetched_lately(cx.now));
        let is_tried_first = *path == *held.path && !was_fetched;
        Some(Holder { id: &m.id, path: path.into(), is_tried_first })
    };
    let list = cx.base.conversation.list()?;
    list.values().filter(|m| is_loaded(m) && m.id != spec.id).find_map(holds)
}
