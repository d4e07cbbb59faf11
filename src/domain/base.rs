//! A base: what it said, what it was told, what is remembered about it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Answer, Command, Conversation, Ledger, Link, ListedModule, Liveness, ModuleId, ModuleSpec, Origin, Plan, Pod,
    PodUid, Reachability, Reason, Reply, Settings, Strategy,
    conversation::Settled,
    health::{JvmKnowledge, Metaspace},
    memory::{ContainerMemory, Failure, PodMemory},
    pod::by_module_name,
    reconcile,
    replace::Replacement,
    times::Later,
};

/// A command that is this late does not arrive any more.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// A module whose Pod was evicted while the base could not be reached waits this long for a successor.
const HANDED_OVER_FOR: Duration = Duration::from_secs(120);

/// The annotation that has the old version make room; see `k8s::names`.
const UPDATE: &str = "modulet.koupleless.io/update";

/// A module that came with a baseline waits this long for its Pod.
const EXPECTED_FOR: Duration = Duration::from_secs(60);

/// A base's identity, as it stands in its topics. Made by the tunnel only from valid ones.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseId(Arc<str>);

impl BaseId {
    /// Wraps an identity that has been checked.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a base tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseInfo {
    /// Name of the application (master biz).
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its cluster, where it has one.
    pub cluster: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Its host's name.
    pub host_name: Option<String>,
}

/// One base and all that is known about it.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its identity.
    pub id: BaseId,
    /// What is known of its JVM.
    pub(super) jvm: JvmKnowledge,
    /// Known since its first heartbeat, or from its Node.
    pub info: Option<BaseInfo>,
    /// Whether it can be reached.
    pub liveness: Liveness,
    /// The record that outlives Pods and restarts.
    pub ledger: Ledger,
    pub(super) talk: Conversation,
    /// By what they were made from too: two Pods may ask for one version of a module, and each backs off on its own.
    failures: HashMap<(ModuleId, Origin), Failure>,
    pub(super) uninstall_failures: HashMap<ModuleId, Failure>,
    /// Installs that were not answered once.
    unanswered: BTreeSet<ModuleId>,
    /// When the first command for an install that is under way was sent.
    pub(super) installing_since: BTreeMap<ModuleId, Instant>,
    /// Modules of Pods that were evicted while the base could not be reached: they stay for a successor until then.
    pub(super) handed_over: BTreeMap<ModuleId, Instant>,
    /// Installs that are on record where a death of this process does not reach them.
    recorded: BTreeSet<ModuleId>,
    pub(super) pods: HashMap<PodUid, PodMemory>,
    /// Module name and claim: since when no Pod stands for it.
    pub(super) unheld: Vec<(String, super::Claim, Instant)>,
    /// Modules that were part of a baseline before their Pods.
    expected: Vec<ModuleSpec>,
    pub(super) expected_until: Instant,
    /// Since when a module on record as installed is not listed.
    absent: BTreeMap<ModuleId, Instant>,
    /// Updates that need the old version out of the way first, by module name.
    pub(super) replacements: BTreeMap<String, Replacement>,
    /// It has a Node. Before it is told which modules belong on it: anybody can say a name.
    pub admitted: bool,
    pub(super) settings: Arc<Settings>,
}

impl Base {
    /// A base of which nothing is known yet.
    pub fn new(id: BaseId, settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            id,
            info: None,
            jvm: JvmKnowledge::new(now),
            liveness: Liveness::new(now),
            ledger: Ledger::default(),
            talk: Conversation::default(),
            failures: HashMap::new(),
            uninstall_failures: HashMap::new(),
            unanswered: BTreeSet::new(),
            installing_since: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            recorded: BTreeSet::new(),
            pods: HashMap::new(),
            unheld: Vec::new(),
            expected: Vec::new(),
            expected_until: now,
            absent: BTreeMap::new(),
            replacements: BTreeMap::new(),
            admitted: true,
            settings,
        }
    }

    /// Whether it can be reached.
    pub fn reachability(&self, now: Instant) -> Reachability {
        self.liveness.at(&self.settings, now)
    }

    /// Why the install of exactly this failed last.
    pub(super) fn failure(&self, spec: &ModuleSpec) -> Option<&Failure> {
        let failure = self.failures.get(&(spec.id.clone(), spec.origin));
        failure.filter(|f| f.spec.as_ref() == Some(spec))
    }

    /// Installs that failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&ModuleId, &Failure)> {
        self.failures.iter().map(|((id, _), failure)| (id, failure))
    }

    /// All its workers are occupied by our own commands.
    pub(super) fn is_busy(&self) -> bool {
        self.talk.in_flight() >= self.settings.commands_in_flight
    }

    /// How many more commands may be on their way.
    pub(super) fn free_places(&self, now: Instant) -> usize {
        let occupied = self.talk.in_flight().saturating_sub(self.talk.hanging(now));
        self.settings.commands_in_flight.saturating_sub(occupied)
    }

    /// It was asked, and is silent over a link that has proven alive, for so long that it would be given up if we did
    /// not suspect ourselves.
    pub fn is_overdue(&self, link: &Link, now: Instant) -> bool {
        self.liveness.is_overdue(&self.settings, self.is_busy(), link, now)
    }

    /// It was asked some seconds ago and has not answered.
    pub fn is_unanswered(&self, now: Instant) -> bool {
        self.liveness.is_unanswered(&self.settings, now)
    }

    /// It has been asked in vain for so long that what is remembered of it can go.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.liveness.is_forgotten(&self.settings, now)
    }

    /// Health came; `complete`: it names the JVM.
    pub fn health_answered(&mut self, complete: bool) {
        self.jvm.answered(complete);
    }

    /// Its health tells of its metaspace: none where there is no limit. Says whether that is about this JVM, and not a
    /// late word of the one before.
    pub fn measured(&mut self, metaspace: Option<Metaspace>, now: Instant) -> bool {
        let counts = self.jvm.is_complete();
        if counts {
            self.jvm.measured(metaspace, now);
        }
        counts
    }

    /// Whether health that leaves the JVM out may be completed by what was known before.
    pub fn knows_its_jvm(&self) -> bool {
        self.jvm.is_complete()
    }

    /// The modules it listed last, if it has since we started.
    pub fn modules(&self) -> Option<impl Iterator<Item = &ListedModule>> {
        self.talk.last_list().map(|list| list.values())
    }

    /// Commands the base has not answered yet.
    pub fn in_flight(&self) -> usize {
        self.talk.in_flight()
    }

    /// It answered the question for its modules, or sent its list unasked.
    pub fn listed(&mut self, modules: Vec<ListedModule>, now: Instant) {
        let before: Vec<_> = self.talk.list().into_iter().flat_map(|list| list.keys().cloned()).collect();
        let all_settled = self.talk.listed(modules, now);
        let went = |id: &ModuleId| all_settled.iter().any(|s| matches!(s, Settled::Uninstalled(gone) if gone == id));
        let stayed = before.into_iter().filter(|id| !went(id)).collect();
        if self.lost_all(stayed) {
            // A JVM that restarted without a word: what was sent to the one before is void.
            self.jvm.is_new(now);
            self.talk.commands_uncertain();
        }
        for settled in all_settled {
            self.settle(settled, now);
        }
        self.forget_absent(now);
    }

    /// Of these, which it listed before and was not told to uninstall, it has none any more: of ours, if there are any
    /// of ours among them. A JVM may bring modules of its own.
    fn lost_all(&self, before: Vec<ModuleId>) -> bool {
        let (ours, others): (Vec<_>, Vec<_>) = before.into_iter().partition(|id| self.ledger.installed(id));
        let looked_for = if ours.is_empty() { others } else { ours };
        let Some(list) = self.talk.list().filter(|_| !looked_for.is_empty()) else { return false };
        looked_for.iter().all(|id| !list.contains_key(id))
    }

    /// A module that was told to be installed and is not listed may still come: commands can be
    /// late. Its record goes when it has not come for a long time.
    fn forget_absent(&mut self, now: Instant) {
        let Some(list) = self.talk.list() else { return };
        let mut absent = BTreeMap::new();
        for id in self.ledger.all_installed().filter(|id| !list.contains_key(id)) {
            let since = self.absent.get(&id).copied().unwrap_or(now);
            absent.insert(id, since);
        }
        self.absent = absent;
        for (id, since) in &self.absent {
            if self.talk.operation(&id.name).is_none() && now >= since.later(FORGET_AFTER) {
                self.ledger.forget_install(id);
            }
        }
        self.ledger.tidy();
    }

    /// It answered a command.
    pub fn replied(&mut self, reply: Reply) {
        if let Answer::Done { actual: Some(actual) } = &reply.answer
            && reply.module.as_ref().is_some_and(|asked| asked != actual)
            && self.talk.ends_an_install(&reply)
        {
            // The jar is another module than the Pod says. It came by our command, since what had been
            // there before would have been refused as repeated (protocol fact): ours to remove.
            self.ledger.install(actual);
        }
        self.talk.replied(reply);
    }

    /// These installs are on record now, so they can be ordered.
    pub fn recorded(&mut self, installs: impl IntoIterator<Item = ModuleId>) {
        self.recorded.extend(installs);
    }

    pub(super) fn is_recorded(&self, install: &ModuleId) -> bool {
        self.recorded.contains(install)
    }

    /// It asked which modules belong on it: a fresh JVM, or one that was never answered. `expected`
    /// are modules whose Pods will come to this base but are not bound to it yet.
    pub fn asked_for_baseline(&mut self, expected: Vec<ModuleSpec>, now: Instant) {
        self.liveness.beat(now);
        self.jvm.is_new(now);
        self.expects(expected, now);
        self.replacements.clear();
        self.installing_since.clear();
        self.talk.asked_for_baseline();
    }

    /// Modules whose Pods will come to it are known later than its question.
    pub fn expects(&mut self, expected: Vec<ModuleSpec>, now: Instant) {
        self.expected = expected;
        self.expected_until = now.later(EXPECTED_FOR);
    }

    /// A module that is to wait on the base for its Pod.
    pub(super) fn expected(&self, now: Instant) -> &[ModuleSpec] {
        if now < self.expected_until { &self.expected } else { &[] }
    }

    /// Our connection to the broker was lost: what was sent may not have arrived.
    pub fn connection_lost(&mut self, now: Instant) {
        self.liveness.deaf(now);
        self.talk.connection_lost();
    }

    /// Commands could not be handed over: ask, and send again what the list does not show.
    pub fn commands_lost(&mut self) {
        self.talk.connection_lost();
        self.liveness.not_asked();
    }

    /// A command can't be sent, and never will be as it is: it has failed.
    pub fn undeliverable(&mut self, command: &Command, why: &str, now: Instant) {
        let message = why.to_owned();
        match command {
            Command::Install(spec, _) => {
                self.talk.forget_operation(&spec.id);
                let spec = spec.clone();
                self.settle(Settled::InstallFailed { spec, reason: Reason::InstallFailed, message }, now);
            }
            // Its modules are installed one by one, and only the one that is too large fails.
            Command::Baseline(specs) => specs.iter().for_each(|spec| self.talk.forget_operation(&spec.id)),
            Command::Uninstall(id) => {
                self.talk.forget_operation(id);
                self.settle(Settled::UninstallFailed { id: id.clone(), message }, now);
            }
            Command::QueryModules | Command::QueryHealth => {}
        }
    }

    /// Our connection to the broker is there again.
    pub fn connection_back(&mut self, now: Instant) {
        self.liveness.listening(now);
        self.talk.ask_now();
    }

    /// When it is to be asked for its list, and when for its health.
    pub(super) fn asks_at(&self, now: Instant) -> (Option<Instant>, Option<Instant>) {
        if self.liveness.is_deaf() || self.liveness.is_stopped() {
            return (None, None);
        }
        let alive = self.liveness.ask_at(&self.settings);
        if self.liveness.is_lost() {
            // One that is away is asked for a sign of life only: its JVM may be another one when it is back.
            return (None, alive);
        }
        (Some(self.talk.ask_at(&self.settings, now)), alive.into_iter().chain(self.jvm.ask_at()).min())
    }

    /// Takes note of the Pods and of the time, decides, and takes the commands of the plan as sent.
    pub fn step(&mut self, pods: &[&Pod], link: &Link, now: Instant) -> Plan {
        let busy = self.is_busy();
        let settings = Arc::clone(&self.settings);
        self.liveness.tick(&settings, busy, link, now);
        if self.liveness.is_lost() {
            self.talk.away();
            self.jvm.is_new(now);
        }
        self.observe_pods(pods, now);
        let mut plan = reconcile(self, pods, now);
        if let Some(ledger) = &plan.ledger {
            self.ledger = ledger.clone();
        }
        // What is on record of it may be another origin.
        self.recorded.retain(|id| !plan.unrecorded.contains(id));
        for (name, replacement) in &plan.replacements {
            let before = self.replacements.get(name).is_some_and(Replacement::empties);
            if replacement.empties() && !before {
                // That it failed beside the others says nothing of it alone.
                self.failures.remove(&(replacement.spec.id.clone(), replacement.spec.origin));
                let tried = self.pods.get_mut(&replacement.pod).and_then(|p| p.containers.get_mut(name));
                tried.into_iter().for_each(|c| c.failed = false);
            }
        }
        self.replacements.clone_from(&plan.replacements);
        for command in &plan.commands {
            self.sent(command, pods, now);
        }
        // What was sent now may be lost: it is looked after, whatever else happens.
        let (list_at, health_at) = self.asks_at(now);
        list_at.into_iter().chain(health_at).filter(|at| *at > now).for_each(|at| plan.wake_at(at));
        self.remember_runs(&plan, pods);
        plan
    }

    /// What is active now has run, whatever comes.
    fn remember_runs(&mut self, plan: &Plan, pods: &[&Pod]) {
        let by_uid: HashMap<_, _> = pods.iter().map(|p| (&p.uid, *p)).collect();
        for outcome in &plan.pods {
            let containers = by_uid.get(&outcome.uid).map_or(&[][..], |p| p.containers());
            for (container, _) in containers.iter().zip(&outcome.containers).filter(|(_, said)| said.active()) {
                let memory = self.pods.entry(outcome.uid.clone()).or_default();
                if let Some(c) = memory.containers.get_mut(&container.name) {
                    c.has_run = true;
                }
            }
        }
    }

    fn observe_pods(&mut self, pods: &[&Pod], now: Instant) {
        let uids: HashSet<&PodUid> = pods.iter().map(|p| &p.uid).collect();
        self.pods.retain(|uid, _| uids.contains(uid));
        // What has its Pod goes with its Pod.
        self.expected.retain(|e| !pods.iter().any(|p| p.modules().any(|m| m.id == e.id)));
        self.unanswered.retain(|id| self.ledger.installed(id));
        self.installing_since.retain(|id, _| self.ledger.installed(id));
        self.handed_over.retain(|id, until| *until > now && self.ledger.installed(id));
        self.recorded.retain(|id| self.ledger.installed(id));
        let asked: HashSet<_> = pods.iter().flat_map(|p| p.modules()).map(|m| (&m.id, m.origin)).collect();
        self.failures.retain(|(id, origin), f| {
            f.tried_for.retain(|uid| uids.contains(uid));
            asked.contains(&(id, *origin)) || self.ledger.origin(id) == Some(*origin)
        });
        self.uninstall_failures.retain(|id, _| self.ledger.installed(id));
        for pod in pods {
            let memory = self.pods.entry(pod.uid.clone()).or_default();
            let first_seen = *memory.first_seen.get_or_insert(now);
            if pod.deleting.is_some() {
                memory.deletion_seen.get_or_insert(now);
            }
            // An active module that the Pod finds may be gone already: it is asked for once more.
            let finds = |m: &ModuleSpec| self.talk.list().is_some_and(|list| list.contains_key(&m.id));
            if pod.is_live() && pod.modules().any(finds) {
                self.talk.needs_newer_list(first_seen);
            }
            if pod.evicted && pod.deleting.is_some() {
                for module in pod.modules() {
                    self.handed_over.entry(module.id.clone()).or_insert(now.later(HANDED_OVER_FOR));
                }
            }
            if pod.superseded {
                memory.superseded_seen.get_or_insert(now);
            }
            for container in pod.containers() {
                let c = memory.containers.entry(container.name.clone()).or_default();
                c.module = container.module().map(|m| m.id.clone());
                c.has_run |= container.history.has_run;
                c.failed |= container.history.failed;
                c.restarts = c.restarts.max(container.history.restarts);
            }
        }
        let by_name = by_module_name(pods);
        let mut unheld = Vec::new();
        for name in self.ledger.names() {
            let pods = by_name.get(name).map_or(&[][..], Vec::as_slice);
            for claim in self.ledger.claims(name).iter().filter(|c| !is_held_by_a_pod(c, name, pods)) {
                unheld.push((name.to_owned(), claim.clone(), self.unheld_since(name, claim).unwrap_or(now)));
            }
        }
        self.unheld = unheld;
    }

    /// Since when no Pod stands for the claim.
    pub(super) fn unheld_since(&self, name: &str, claim: &super::Claim) -> Option<Instant> {
        let known = self.unheld.iter().find(|(n, c, _)| n == name && c.is_same(claim));
        known.map(|(_, _, since)| *since)
    }

    fn sent(&mut self, command: &Command, pods: &[&Pod], now: Instant) {
        match command {
            Command::QueryHealth => {
                self.liveness.asked(now);
                self.jvm.asked(now);
            }
            Command::Install(spec, Strategy::InstallOnly) => self.starts(spec, pods, now),
            Command::Baseline(specs) => specs.iter().for_each(|spec| self.starts(spec, pods, now)),
            Command::Install(_, Strategy::UninstallThenInstall) | Command::Uninstall(_) | Command::QueryModules => {}
        }
        self.talk.sent(command, now);
    }

    /// Counts a start for every container that stands for the module, and shares its back-off among them.
    fn starts(&mut self, spec: &ModuleSpec, pods: &[&Pod], now: Instant) {
        // What was lost on its way, or was part of a baseline that was, started nothing: it is one start with the repeat.
        // And to look whether the jar can be fetched again starts nothing.
        let repeat = self.installing_since.contains_key(&spec.id) || self.talk.proven(&spec.id);
        self.installing_since.entry(spec.id.clone()).or_insert(now);
        for pod in pods.iter().filter(|p| p.is_live()) {
            for container in pod.containers().iter().filter(|c| c.module() == Some(spec)) {
                let memory = self.pods.entry(pod.uid.clone()).or_default();
                let c = memory.containers.entry(container.name.clone()).or_default();
                if (c.has_run || c.failed) && !repeat {
                    c.restarts = c.restarts.saturating_add(1);
                }
                if let Some(failure) = self.failures.get_mut(&(spec.id.clone(), spec.origin)) {
                    failure.tried_for.insert(pod.uid.clone());
                }
            }
        }
    }

    fn settle(&mut self, settled: Settled, now: Instant) {
        if matches!(settled, Settled::Installed(_) | Settled::InstallFailed { .. } | Settled::Unanswered(_)) {
            self.jvm.install_ended(now);
        }
        match settled {
            Settled::Installed(id) => {
                self.unanswered.remove(&id);
                self.installing_since.remove(&id);
                self.failures.retain(|(of, _), _| *of != id);
            }
            Settled::Uninstalled(id) => {
                self.uninstall_failures.remove(&id);
                self.ledger.forget_install(&id);
                // What it kept out can be tried now.
                let kept_out = |((of, _), f): &(&(ModuleId, Origin), &mut Failure)| {
                    of.name == id.name && f.reason == Reason::WebContextInUse
                };
                self.failures.iter_mut().filter(kept_out).for_each(|(_, f)| f.retry_at = now);
            }
            Settled::InstallFailed { spec, reason, message } => {
                self.installing_since.remove(&spec.id);
                self.ledger.settle_origin(&spec.id, spec.origin);
                let (reason, message) = self.recognised(&spec.id, reason, message);
                let mut tried_for = BTreeSet::new();
                for (uid, memory) in &mut self.pods {
                    let same = |c: &&mut ContainerMemory| c.module.as_ref() == Some(&spec.id);
                    if let Some(c) = memory.containers.get_mut(&spec.id.name).filter(same) {
                        c.failed = true;
                        tried_for.insert(uid.clone());
                    }
                }
                // Of a container that has run, most restarts are no failed starts.
                let own = self.pods.values().filter_map(|p| p.containers.get(&spec.id.name));
                let own = own.filter(|c| c.module.as_ref() == Some(&spec.id) && !c.has_run);
                let restarts = own.map(|c| c.restarts).max();
                let failure = self.failures.entry((spec.id.clone(), spec.origin)).or_insert_with(|| Failure {
                    spec: None,
                    tried_for: BTreeSet::new(),
                    // Tries before a restart of this process count: the Pod's restartCount remembers them.
                    count: restarts.unwrap_or(0),
                    retry_at: now,
                    reason,
                    message: String::new(),
                });
                if failure.spec.as_ref().is_some_and(|s| *s != spec) {
                    failure.count = 0;
                }
                failure.count = failure.count.saturating_add(1);
                failure.retry_at = now.later(self.settings.backoff.delay(failure.count));
                failure.tried_for.append(&mut tried_for);
                failure.reason = reason;
                failure.message = message;
                failure.spec = Some(spec);
            }
            Settled::UninstallFailed { id, message } => {
                let failure = self.uninstall_failures.entry(id).or_insert_with(|| Failure {
                    spec: None,
                    tried_for: BTreeSet::new(),
                    count: 0,
                    retry_at: now,
                    reason: Reason::Uninstalling,
                    message: String::new(),
                });
                failure.count = failure.count.saturating_add(1);
                failure.retry_at = now.later(self.settings.backoff.delay(failure.count));
                failure.message = message;
            }
            Settled::Lost => {}
            Settled::Unanswered(spec) => {
                // Once may be bad luck. Bases up to 2.1.6 say nothing when a module throws at its start.
                if !self.unanswered.insert(spec.id.clone()) {
                    let message = "the base answers no install of it, and does not list it".to_owned();
                    let (id, origin) = (spec.id.clone(), spec.origin);
                    self.settle(Settled::InstallFailed { spec, reason: Reason::InstallFailed, message }, now);
                    // It may still arrive.
                    self.ledger.install_from(&id, origin);
                }
            }
        }
    }

    /// A failure whose cause is known says what to do.
    fn recognised(&self, id: &ModuleId, reason: Reason, message: String) -> (Reason, String) {
        let in_use = message.split_once("Child name ").is_some_and(|(_, rest)| rest.contains(" is not unique"));
        if !in_use {
            return (reason, message);
        }
        let name = &id.name;
        let mut listed = self.modules().into_iter().flatten();
        let message = if listed.any(|m| m.id.name == *name && m.id != *id) {
            format!(
                "the base serves another version of {name} at the same context path, and cannot load two ({message}). \
                 Ways out: a Deployment with maxSurge 0, lifecycle.preStop.sleep and anti-affinity on the module's name \
                 alone, so that the old version goes first, as in examples/strategies/web-module.yaml; the annotation \
                 {UPDATE}: replace in the Pod template; or a context path for each version; see \
                 docs/strategies/traffic.md"
            )
        } else {
            format!(
                "another module of the base, or the base itself, has the context path of {name} ({message}). Give one of \
                 them another path"
            )
        };
        (Reason::WebContextInUse, message)
    }
}

/// Whether one of these Pods on the base stands for the claim.
pub(super) fn is_held_by_a_pod(claim: &super::Claim, name: &str, pods: &[&Pod]) -> bool {
    pods.iter().any(|p| {
        !p.terminal
            && *p.workload.uid == *claim.workload
            && p.workload.revision == claim.revision
            && p.modules().any(|m| m.id.name == name && m.id.version == claim.version)
    })
}
