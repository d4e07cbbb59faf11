//! The heart: what is wanted and what was seen → what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Base, Command, Ledger, ModuleSpec, Plan, Pod, PodOutcome, Reachability, Strategy,
    memory::PodMemory,
    modules,
    modules::{Module, Want},
    plan::{ContainerOutcome, Phase, Reason},
    pod::{Container, Content, Role, by_module_name},
    replace::{self, Replacement},
    times::Later,
};

/// Everything a decision may look at.
pub(super) struct Context<'a> {
    pub(super) base: &'a Base,
    pub(super) now: Instant,
    pub(super) reachability: Reachability,
    /// Pods by the names of their modules.
    by_name: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// Updates that need the old version out of the way, by module name.
    pub(super) replacements: BTreeMap<String, Replacement>,
}

/// What is remembered about a Pod that was never seen.
static NOTHING: PodMemory =
    PodMemory { first_seen: None, deletion_seen: None, superseded_seen: None, containers: BTreeMap::new() };

impl<'a> Context<'a> {
    fn new(base: &'a Base, pods: &'a [&'a Pod], now: Instant) -> Self {
        Self {
            base,
            now,
            reachability: base.reachability(now),
            by_name: by_module_name(pods),
            replacements: BTreeMap::new(),
        }
    }

    /// The Pods with a module of that name.
    pub(super) fn pods_of(&self, name: &str) -> &[&'a Pod] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn memory(&self, pod: &Pod) -> &'a PodMemory {
        self.base.pods.get(&pod.uid).unwrap_or(&NOTHING)
    }
}

/// Decides what to tell the base and what to tell Kubernetes. Pure: the same facts at the same
/// time give the same plan, and a plan that has been carried out and seen gives an empty one.
///
/// `pods` are all Pods bound to the base's Node, whatever they are.
pub fn reconcile(base: &Base, pods: &[&Pod], now: Instant) -> Plan {
    let mut cx = Context::new(base, pods, now);
    let mut plan = Plan::default();
    let mut ledger = base.ledger.clone();

    if !base.expected(now).is_empty() {
        plan.wake_at(base.expected_until);
    }
    base.handed_over.values().for_each(|until| plan.wake_at(*until));
    let connected = !base.liveness.is_deaf();
    if connected && !base.liveness.is_stopped() {
        ask(&cx, &mut plan);
    } else if let Some(at) = base.liveness.changes_at(&base.settings, false, now).filter(|at| *at > now) {
        plan.wake_at(at);
    }
    if base.talk.list().is_some() {
        let mut replacements = BTreeMap::new();
        for name in names(&cx) {
            modules::claim(&cx, name, &mut ledger, &mut plan);
            if let Some(replacement) = replace::replacement(&cx, name, &ledger, &mut plan) {
                replacements.insert(name.to_owned(), replacement);
            }
        }
        cx.replacements = replacements;
    }
    if connected && cx.reachability == Reachability::Online {
        order(&cx, &mut ledger, &mut plan);
    }
    for pod in pods {
        conclude(&cx, pod, &ledger, &mut plan);
    }
    ledger.tidy();
    if ledger != base.ledger {
        plan.ledger = Some(ledger);
    }
    plan.replacements = cx.replacements;
    plan
}

/// Module names that a Pod, the base's list or the ledger speaks of.
fn names<'a>(cx: &Context<'a>) -> BTreeSet<&'a str> {
    let listed = cx.base.talk.list().into_iter().flatten().map(|(id, _)| id.name.as_str());
    cx.by_name.keys().copied().chain(listed).chain(cx.base.ledger.names()).collect()
}

/// Questions: for the list, and for a sign of life.
fn ask(cx: &Context<'_>, plan: &mut Plan) {
    let Context { base, now, .. } = *cx;
    let (list_at, health_at) = base.asks_at(now);
    for (at, question) in [(list_at, Command::QueryModules), (health_at, Command::QueryHealth)] {
        match at {
            Some(at) if at <= now => plan.commands.push(question),
            Some(at) => plan.wake_at(at),
            None => {}
        }
    }
    if let Some(at) = base.liveness.changes_at(&base.settings, base.is_busy(), now).filter(|at| *at > now) {
        plan.wake_at(at);
    }
}

/// Installs and uninstalls: one in flight for each module name, a few for each base. An install that is not
/// on record waits until it is.
fn order(cx: &Context<'_>, ledger: &mut Ledger, plan: &mut Plan) {
    let mut commands = Vec::new();
    if cx.base.talk.baseline_wanted() {
        if !cx.base.admitted {
            return; // what belongs on it is not known before its Node is there
        }
        let wanted = names(cx).into_iter().filter_map(|name| modules::first_wanted(cx, name, ledger));
        let expected = cx.base.expected(cx.now).iter().filter(|e| cx.pods_of(&e.id.name).is_empty());
        let specs = wanted.chain(expected).cloned().collect();
        commands.push(Command::Baseline(specs));
    } else if cx.base.talk.list().is_some() {
        let free = cx.base.free_places(cx.now);
        for name in names(cx) {
            if commands.len() >= free {
                break;
            }
            commands.extend(modules::next_command(cx, name, ledger, plan));
        }
    }
    for command in commands {
        let mut unrecorded = Vec::new();
        for ModuleSpec { id, origin, .. } in command.installs() {
            if ledger.install_from(id, *origin) || !cx.base.is_recorded(id) {
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

/// What a Pod's status should say, or that the Pod is done with.
fn conclude(cx: &Context<'_>, pod: &Pod, ledger: &Ledger, plan: &mut Plan) {
    let memory = cx.memory(pod);
    if pod.deleting.is_some() {
        let waits_until = pre_stop_ends(pod, memory, cx.now);
        if waits_until > cx.now {
            plan.wake_at(waits_until);
        } else if pod.modules().all(|spec| modules::is_gone_for(cx, pod, spec, ledger)) {
            plan.finished.push(pod.uid.clone());
            return;
        } else if let Some(outcome) = uninstall_failed(cx, pod, memory) {
            plan.pods.push(outcome);
            return;
        }
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
            module.is_active(&spec.id.version) && !module.has_successor(&spec.id)
        };
        if expires <= cx.now && !pod.modules().any(serves) {
            plan.expired.push(pod.uid.clone());
        } else if expires > cx.now {
            plan.wake_at(expires);
        }
    }
    if pod.terminal {
        return;
    }
    plan.pods.extend(outcome(cx, pod, memory, ledger));
}

/// The base refuses to uninstall a module of a Pod that is being deleted: its status says why it is still there.
fn uninstall_failed(cx: &Context<'_>, pod: &Pod, memory: &PodMemory) -> Option<PodOutcome> {
    let failure = |c: &Container| cx.base.uninstall_failures.get(&c.module()?.id);
    pod.containers().iter().find_map(failure).filter(|_| !pod.terminal)?;
    let containers = pod.containers().iter().map(|c| {
        let restarts = memory.containers.get(&c.name).map_or(0, |m| m.restarts);
        let why = failure(c).map_or_else(|| "waits for another module of its Pod".to_owned(), |f| f.message.clone());
        let message = format!("cannot be uninstalled: {why}");
        ContainerOutcome::Waiting { reason: Reason::UninstallFailed, message, restarts }
    });
    let (uid, phase) = (pod.uid.clone(), phase_so_far(pod, memory));
    Some(PodOutcome { uid, phase, containers: containers.collect(), reachable: true, rejected: None, leaving: None })
}

fn outcome(cx: &Context<'_>, pod: &Pod, memory: &PodMemory, ledger: &Ledger) -> Option<PodOutcome> {
    let uid = pod.uid.clone();
    if let Content::Foreign(message) = &pod.content {
        let container = ContainerOutcome::Waiting { reason: Reason::NotAModule, message: message.clone(), restarts: 0 };
        return Some(PodOutcome {
            uid,
            phase: Phase::Pending,
            containers: vec![container],
            reachable: true,
            rejected: None,
            leaving: None,
        });
    }
    let reachable = match cx.reachability {
        Reachability::Online => true,
        // Not knowing is no reason to change what the status says.
        Reachability::Unknown => return None,
        Reachability::Unreachable | Reachability::Stopped | Reachability::Dead => false,
    };
    if cx.base.talk.list().is_none() || !reachable {
        return if reachable {
            None
        } else {
            Some(PodOutcome {
                uid,
                phase: phase_so_far(pod, memory),
                containers: Vec::new(),
                reachable,
                rejected: None,
                leaving: None,
            })
        };
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
    Some(PodOutcome { uid, phase, containers, reachable, rejected: None, leaving })
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
    let spec = match &container.role {
        Role::Module(spec) => spec,
        Role::SideCar => return ContainerOutcome::SideCar,
        Role::Unusable(message) => {
            let message = message.clone();
            return ContainerOutcome::Waiting { reason: Reason::InvalidModule, message, restarts };
        }
    };
    let module = Module::new(cx, &spec.id.name, ledger);
    let knows = past.has_run || memory.first_seen.is_none_or(|at| cx.base.talk.knows(at));
    if module.serves(&Want { pod, spec }) && knows {
        return ContainerOutcome::Active { restarts };
    }
    if let Some(holder) = module.held_by(&pod.workload, &spec.id) {
        let message = modules::describe_holder(cx, &spec.id, holder);
        return if past.has_run {
            ContainerOutcome::Superseded { message }
        } else {
            ContainerOutcome::Waiting { reason: Reason::Held, message, restarts }
        };
    }
    let (reason, message) = module.why_not_active(pod, spec);
    ContainerOutcome::Waiting { reason, message, restarts }
}

/// When `lifecycle.preStop.sleep` is over; counted from when this process saw the deletion, so
/// that no two machines' clocks are compared.
pub(super) fn pre_stop_ends(pod: &Pod, memory: &PodMemory, now: Instant) -> Instant {
    memory.deletion_seen.unwrap_or(now).later(pod.deleting.unwrap_or(Duration::ZERO))
}

impl Command {
    /// The modules that it brings to the base.
    pub(super) fn installs(&self) -> impl Iterator<Item = &ModuleSpec> {
        match self {
            Self::Install(spec, _) => std::slice::from_ref(spec),
            Self::Baseline(specs) => specs.as_slice(),
            Self::Uninstall(_) | Self::QueryModules | Self::QueryHealth => &[],
        }
        .iter()
    }

    /// A switch: the new version has started and is to take over.
    pub fn is_switch(&self) -> bool {
        matches!(self, Self::Install(_, Strategy::UninstallThenInstall))
    }
}
