//! What the statuses of Pods should say.

use super::{
    context::{Context, lingers_until, pre_stop_ends},
    module::{Module, Want},
    plan::Plan,
    replace, why,
};
use crate::domain::{
    Container, ContainerOutcome, Content, Ledger, ModuleSpec, Phase, Pod, PodOutcome, Reachability, Reason, Role,
    known::PodMemory, times::Later,
};

/// What a Pod's status should say, or that the Pod is done with.
pub(super) fn conclude(cx: &Context<'_>, pod: &Pod, ledger: &Ledger, plan: &mut Plan) {
    let memory = cx.memory(pod);
    if pod.deleting.is_some() {
        if !plan.waits_until(pre_stop_ends(pod, memory, cx.now), cx.now) {
            if pod.modules().all(|spec| is_gone_for(cx, pod, spec, ledger)) {
                return plan.finished.push(pod.uid.clone());
            }
            if let Some(outcome) = uninstall_failed(cx, pod, memory) {
                return plan.pods.push(outcome);
            }
        }
        lingers_until(pod, memory, cx.now).filter(|at| *at > cx.now).into_iter().for_each(|at| plan.wake_at(at));
        // Its workload may delete the old Pod as soon as the new one is Ready: it still says what it gave way to.
        if !pod.terminal {
            plan.pods.extend(outcome(cx, pod, memory, ledger).filter(|o| o.phase == Phase::Failed));
        }
        return;
    }
    if pod.superseded {
        let ttl = cx.base.settings.superseded_ttl.max(pod.grace);
        let expires = memory.superseded_seen.unwrap_or(cx.now).later(ttl);
        let serves = |spec: &ModuleSpec| {
            let module = Module::new(cx, &spec.id.name, ledger);
            // Another Pod may have brought the version back; then it does not go with this one.
            let stays = |other: &&Pod| other.is_live() && module.is_kept_by(other, &spec.id);
            module.is_active(&spec.id.version)
                && module.waits_for_successor(&spec.id)
                && !cx.pods_of(&spec.id.name).iter().any(stays)
        };
        if !plan.waits_until(expires, cx.now) && !pod.modules().any(serves) {
            plan.expired.push(pod.uid.clone());
        }
    }
    if pod.terminal {
        return;
    }
    plan.pods.extend(outcome(cx, pod, memory, ledger));
}

/// The base refuses to uninstall a module of a Pod that is being deleted: its status says why it is still there.
fn uninstall_failed(cx: &Context<'_>, pod: &Pod, memory: &PodMemory) -> Option<PodOutcome> {
    let failure = |c: &Container| cx.base.failures.of_uninstall(&c.module()?.id);
    pod.containers().iter().find_map(failure).filter(|_| !pod.terminal)?;
    let containers = pod.containers().iter().map(|c| {
        let restarts = memory.containers.get(&c.name).map_or(0, |m| m.restarts);
        let why = failure(c).map_or_else(|| "waits for another module of its Pod".to_owned(), |f| f.message.clone());
        let message = format!("cannot be uninstalled: {why}");
        ContainerOutcome::Waiting { reason: Reason::UninstallFailed, message, restarts }
    });
    Some(PodOutcome::new(pod.uid.clone(), phase_so_far(pod, memory), containers.collect()))
}

fn outcome(cx: &Context<'_>, pod: &Pod, memory: &PodMemory, ledger: &Ledger) -> Option<PodOutcome> {
    if let Content::Foreign(message) = &pod.content {
        let container = ContainerOutcome::Waiting { reason: Reason::NotAModule, message: message.clone(), restarts: 0 };
        return Some(PodOutcome::new(pod.uid.clone(), Phase::Pending, vec![container]));
    }
    match cx.reachability {
        Reachability::Online if cx.base.conversation.list().is_some() => {}
        // Not knowing is no reason to change what the status says.
        Reachability::Online | Reachability::Unknown => return None,
        Reachability::Unreachable | Reachability::Stopped | Reachability::Dead => {
            let outcome = PodOutcome::new(pod.uid.clone(), phase_so_far(pod, memory), Vec::new());
            return Some(PodOutcome { reachable: false, ..outcome });
        }
    }
    let containers: Vec<_> = pod.containers().iter().map(|c| container_outcome(cx, pod, c, memory, ledger)).collect();
    let superseded = containers.iter().any(|c| matches!(c, ContainerOutcome::Superseded { .. }));
    let has_run = |(c, o): (&Container, &ContainerOutcome)| {
        *o == ContainerOutcome::SideCar || o.active() || memory.containers.get(&c.name).is_some_and(|m| m.has_run)
    };
    let phase = if superseded {
        Phase::Failed
    } else if pod.containers().iter().zip(&containers).all(has_run) {
        Phase::Running
    } else {
        Phase::Pending
    };
    let makes_room = |c: &Container| {
        let name = &c.module()?.id.name;
        cx.replacements.get(name).filter(|r| r.lasts() && !r.is_for(pod))?;
        replace::why(&Module::new(cx, name, ledger), pod).map(|(_, message)| message)
    };
    let leaving = pod.containers().iter().find_map(makes_room);
    Some(PodOutcome { leaving, ..PodOutcome::new(pod.uid.clone(), phase, containers) })
}

fn phase_so_far(pod: &Pod, memory: &PodMemory) -> Phase {
    let ran = |c: &Container| c.role == Role::SideCar || memory.containers.get(&c.name).is_some_and(|m| m.has_run);
    if pod.containers().iter().all(ran) { Phase::Running } else { Phase::Pending }
}

fn container_outcome(
    cx: &Context<'_>,
    pod: &Pod,
    container: &Container,
    memory: &PodMemory,
    ledger: &Ledger,
) -> ContainerOutcome {
    let past = memory.containers.get(&container.name).cloned().unwrap_or_default();
    let restarts = past.restarts;
    let waiting = |reason, message| ContainerOutcome::Waiting { reason, message, restarts };
    let spec = match &container.role {
        Role::Module(spec) => spec,
        Role::SideCar => return ContainerOutcome::SideCar,
        Role::Unusable(message) => return waiting(Reason::InvalidModule, message.clone()),
    };
    let module = Module::new(cx, &spec.id.name, ledger);
    let knows = past.has_run || memory.first_seen.is_none_or(|at| cx.base.conversation.knows(at));
    if let Some(restart) = module.restart(pod, &spec.id) {
        return waiting(Reason::Unhealthy, restart.message.clone());
    }
    if module.serves(&Want { pod, spec }) && knows {
        let health = past.probed.health(container.probes.as_deref());
        return ContainerOutcome::Active { restarts, health };
    }
    if let Some(holder) = module.held_by(&pod.workload, &spec.id) {
        let message = why::describe_holder(cx, &spec.id, holder);
        return if past.has_run { ContainerOutcome::Superseded { message } } else { waiting(Reason::Held, message) };
    }
    if let Some(awaits) = &pod.held_back {
        return waiting(Reason::AwaitingBatch, awaits.to_string());
    }
    let (reason, message) = why::why_not_active(&module, pod, spec);
    waiting(reason, message)
}

/// Whether nothing of the module is left on the base that only `pod` accounted for.
fn is_gone_for(cx: &Context<'_>, pod: &Pod, spec: &ModuleSpec, ledger: &Ledger) -> bool {
    if !matches!(cx.reachability, Reachability::Online)
        || cx.base.conversation.operation(&spec.id.name).is_some_and(|o| o.order.id() == &spec.id)
    {
        return false;
    }
    let Some(list) = cx.base.conversation.list() else { return false };
    if pod.evicted && cx.base.handed_over.contains_key(&spec.id) {
        return true; // its object must go, else anti-affinity keeps its successor away
    }
    let module = Module::new(cx, &spec.id.name, ledger);
    let kept_by_another =
        cx.pods_of(&spec.id.name).iter().any(|other| other.uid != pod.uid && module.is_kept_by(other, &spec.id));
    !list.contains_key(&spec.id) || kept_by_another || module.is_deferred(&spec.id) || !ledger.installed(&spec.id)
}
