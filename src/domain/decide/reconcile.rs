//! The heart: what is wanted and what was seen → what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{claims, context::Context, module::Module, orders, outcomes, plan::Plan, replace, room, web};
use crate::domain::{
    Base, Command, Ledger, ModuleSpec, Needs, Pod, Reachability, Strategy, WebContexts, pod::by_module_name,
};

/// Decides what to tell the base and what to tell Kubernetes. Pure: the same facts at the same
/// time give the same plan, and a plan that has been carried out and seen gives an empty one.
///
/// `pods` are all Pods bound to the base's Node, whatever they are. `contexts` is what all bases have shown of web modules, and `needs` what
/// modules took there.
pub fn reconcile(base: &Base, pods: &[&Pod], contexts: &WebContexts, needs: &Needs, now: Instant) -> Plan {
    let mut cx = Context {
        base,
        contexts,
        lessons: Vec::new(),
        needs,
        now,
        reachability: base.reachability(now),
        by_name: by_module_name(pods),
        replacements: BTreeMap::new(),
    };
    let mut plan = Plan::default();
    let mut ledger = base.ledger.clone();

    if !base.expected(now).is_empty() {
        plan.wake_at(base.expected_until);
    }
    base.handed_over.values().for_each(|until| plan.wake_at(*until));
    ask(&cx, &mut plan);
    if base.conversation.list().is_some() {
        cx.lessons = web::lessons(&cx, &ledger);
        plan.needs = room::shown(&cx);
        let mut replacements = BTreeMap::new();
        for name in names(&cx) {
            claims::claim(&cx, name, &mut ledger, &mut plan);
            if let Some(replacement) = replace::replacement(&cx, name, &ledger, &mut plan) {
                replacements.insert(name.to_owned(), replacement);
            }
        }
        cx.replacements = replacements;
    }
    if !base.liveness.is_deaf() && cx.reachability == Reachability::Online {
        order(&cx, &mut ledger, &mut plan);
    }
    for command in &plan.commands {
        if let Command::Install(spec, Strategy::InstallOnly) = command
            && web::is_to_be_tried(&Module::new(&cx, &spec.id.name, &ledger), spec)
        {
            plan.lessons.push(cx.contexts.trial(spec));
        }
    }
    for pod in pods {
        outcomes::conclude(&cx, pod, &ledger, &mut plan);
    }
    ledger.tidy();
    if ledger != base.ledger {
        plan.ledger = Some(ledger);
    }
    plan.replacements = cx.replacements;
    plan.lessons.append(&mut cx.lessons);
    plan
}

/// Module names that a Pod, the base's list or the ledger speaks of.
fn names<'a>(cx: &Context<'a>) -> BTreeSet<&'a str> {
    let listed = cx.base.conversation.list().into_iter().flatten().map(|(id, _)| id.name.as_str());
    cx.by_name.keys().copied().chain(listed).chain(cx.base.ledger.names()).collect()
}

/// Questions: for the list, and for a sign of life.
fn ask(cx: &Context<'_>, plan: &mut Plan) {
    let Context { base, now, .. } = *cx;
    let (list_at, health_at) = base.asks_at(now);
    for (at, question) in [(list_at, Command::QueryModules), (health_at, Command::QueryHealth)] {
        if at.is_some_and(|at| !plan.waits_until(at, now)) {
            plan.commands.push(question);
        }
    }
    if let Some(at) = base.liveness.changes_at(&base.settings, base.is_busy(), now) {
        plan.waits_until(at, now);
    }
}

/// Installs and uninstalls: one in flight for each module name, a few for each base. An install that is not
/// on record waits until it is.
fn order(cx: &Context<'_>, ledger: &mut Ledger, plan: &mut Plan) {
    let mut commands = Vec::new();
    if cx.base.conversation.baseline_wanted() {
        if !cx.base.admitted {
            return; // what belongs on it is not known before its Node is there
        }
        let wanted = names(cx).into_iter().filter_map(|name| orders::first_wanted(cx, name, ledger));
        let expected = cx.base.expected(cx.now).iter().filter(|e| cx.pods_of(&e.id.name).is_empty());
        let specs = wanted.chain(expected).cloned().collect();
        commands.push(Command::Baseline(specs));
    } else if cx.base.conversation.list().is_some() {
        let free = cx.base.free_places(cx.now);
        for name in names(cx) {
            if commands.len() >= free {
                break;
            }
            commands.extend(orders::next_command(cx, name, ledger, plan));
        }
    }
    for command in commands {
        let mut unrecorded = Vec::new();
        for ModuleSpec { id, origin, .. } in command.installs() {
            if ledger.install_from(id, *origin) || !cx.base.recorded.contains(id) {
                unrecorded.push(id.clone());
            }
        }
        if unrecorded.is_empty() {
            plan.commands.push(command);
        } else {
            plan.unrecorded.extend(unrecorded);
        }
    }
}
