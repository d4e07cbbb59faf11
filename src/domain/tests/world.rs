//! A world in miniature: one base, the wire to it, the Pods on it, and a clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::domain::*;

/// What a second version of a module does on the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It starts and stays deactivated.
    Default,
    /// It takes over.
    ActivateNew,
    /// Both are active.
    MultiActive,
}

/// A base as the recordings show it, answering at once.
#[derive(Debug)]
pub(crate) struct Jvm {
    pub(crate) mode: Mode,
    pub(crate) list: BTreeMap<ModuleId, ModuleState>,
    /// Versions that fail to start.
    pub(crate) broken: BTreeSet<String>,
    /// Modules are web contexts: two versions of one cannot be loaded.
    pub(super) web: bool,
    /// Versions whose jar can be fetched so often and not again.
    pub(super) fetches: BTreeMap<String, usize>,
    /// What each loaded module was made from.
    pub(super) urls: BTreeMap<ModuleId, String>,
    /// Uninstalls fail.
    pub(super) stuck: bool,
    /// An install of what is there already is not answered.
    pub(super) silent_repeats: bool,
    /// A context path that something else has.
    pub(super) holds_context: Option<String>,
}

/// A message from the base.
#[derive(Clone, Debug)]
pub(crate) enum FromBase {
    List(Vec<ListedModule>),
    Reply(Reply),
    AlsoAlive,
}

impl Jvm {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            list: BTreeMap::new(),
            broken: BTreeSet::new(),
            web: false,
            fetches: BTreeMap::new(),
            urls: BTreeMap::new(),
            stuck: false,
            silent_repeats: false,
            holds_context: None,
        }
    }

    pub(crate) fn handle(&mut self, command: &Command) -> FromBase {
        let reply = |module: &ModuleId, answer| {
            FromBase::Reply(Reply { command: command.name(), module: Some(module.clone()), answer })
        };
        match command {
            Command::Install(spec, strategy) => match self.install(spec, *strategy) {
                Answer::Repeat { .. } if self.silent_repeats => FromBase::AlsoAlive,
                answer => reply(&spec.id, answer),
            },
            Command::Uninstall(id) if self.stuck => reply(id, Answer::Failed("it will not end".into())),
            Command::Uninstall(id) => {
                let answer = self.list.remove(id).map_or(Answer::NotFound, |_| Answer::Done { actual: None });
                reply(id, answer)
            }
            Command::Baseline(specs) => {
                let failed = specs
                    .iter()
                    .filter(|s| !matches!(self.install(s, Strategy::InstallOnly), Answer::Done { .. }))
                    .count();
                let answer =
                    if failed == 0 { Answer::Done { actual: None } } else { Answer::Failed("one failed".into()) };
                FromBase::Reply(Reply { command: "baseline", module: None, answer })
            }
            Command::QueryModules => FromBase::List(
                self.list
                    .iter()
                    .map(|(id, state)| ListedModule { id: id.clone(), state: *state, message: None })
                    .collect(),
            ),
            Command::QueryHealth => FromBase::AlsoAlive,
        }
    }

    fn install(&mut self, spec: &ModuleSpec, strategy: Strategy) -> Answer {
        if strategy == Strategy::UninstallThenInstall {
            self.list.retain(|id, _| id.name != spec.id.name);
        }
        if let Some(left) = self.fetches.get_mut(&spec.id.version) {
            if *left == 0 {
                return Answer::Failed("java.io.FileNotFoundException: it is not there any more".into());
            }
            *left -= 1;
        }
        if self.list.contains_key(&spec.id) {
            return Answer::Repeat { actual: Some(spec.id.clone()) };
        }
        if self.broken.contains(&spec.id.version) {
            return Answer::Failed("java.lang.IllegalStateException: broken on purpose".into());
        }
        let taken = self.list.keys().map(|id| &id.name).chain(&self.holds_context).any(|name| *name == spec.id.name);
        if self.web && taken {
            return Answer::Failed(format!(
                "java.lang.IllegalStateException: Child name [{}] is not unique",
                spec.id.name
            ));
        }
        self.urls.insert(spec.id.clone(), spec.url.clone());
        let mut active =
            self.list.iter_mut().filter(|(id, s)| id.name == spec.id.name && **s == ModuleState::Activated);
        let state = match (self.mode, active.next()) {
            (Mode::Default, Some(_)) => ModuleState::Deactivated,
            (Mode::ActivateNew, Some((_, old))) => {
                *old = ModuleState::Deactivated;
                ModuleState::Activated
            }
            _ => ModuleState::Activated,
        };
        self.list.insert(spec.id.clone(), state);
        Answer::Done { actual: Some(spec.id.clone()) }
    }
}

/// Everything together.
pub(super) struct World {
    pub(super) jvm: Jvm,
    pub(super) base: Base,
    pub(super) pods: Vec<Pod>,
    pub(super) now: Instant,
    pub(super) to_base: VecDeque<Command>,
    pub(super) from_base: VecDeque<FromBase>,
    /// Every install and uninstall that was sent.
    pub(super) sent: Vec<Command>,
    /// The last outcome of each Pod.
    pub(super) outcomes: BTreeMap<PodUid, PodOutcome>,
    /// Statuses that the API server has not got yet.
    pub(super) unwritten: VecDeque<PodOutcome>,
    /// What a death of the controller does not reach: the ledger on the Node, and installs in the journal.
    pub(super) saved: Ledger,
    pub(super) journal: BTreeSet<ModuleId>,
    /// Installs that wait for being on record.
    unrecorded: Vec<ModuleId>,
    settings: Arc<Settings>,
    serial: usize,
    /// Workloads that replace Pods that failed, as replica sets do.
    pub(super) replaces: bool,
    pub(super) created: usize,
    pub(super) superseded: usize,
    /// Every word that a Pod's status had for a container, with its message.
    pub(super) words: BTreeSet<(PodUid, &'static str, String)>,
    /// An install takes this long, and the base lists nothing of it meanwhile.
    pub(super) slow: Option<Duration>,
    /// Installs that the base is at work on.
    pub(super) at_work: Vec<(Instant, Command)>,
    /// The base hears nothing and says nothing.
    pub(super) silent: bool,
    /// The broker hangs: what is sent waits in it, and nothing arrives from it.
    pub(super) hangs: bool,
    pub(super) hangs_since: Option<Instant>,
}

impl World {
    pub(super) fn new(mode: Mode) -> Self {
        Self::with(mode, Settings::default())
    }

    pub(super) fn with(mode: Mode, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let now = Instant::now();
        let mut world = Self {
            jvm: Jvm::new(mode),
            base: Base::new(BaseId::new("base-1"), Arc::clone(&settings), now),
            pods: Vec::new(),
            now,
            to_base: VecDeque::new(),
            from_base: VecDeque::new(),
            sent: Vec::new(),
            outcomes: BTreeMap::new(),
            unwritten: VecDeque::new(),
            saved: Ledger::default(),
            journal: BTreeSet::new(),
            unrecorded: Vec::new(),
            settings,
            serial: 0,
            replaces: false,
            created: 0,
            superseded: 0,
            words: BTreeSet::new(),
            slow: None,
            at_work: Vec::new(),
            silent: false,
            hangs: false,
            hangs_since: None,
        };
        world.base.health_answered(true);
        world.base.liveness.heard(now);
        world
    }

    /// A Pod of `workload`'s `revision` comes to the base.
    pub(super) fn pod(&mut self, workload: &str, revision: i64, modules: &[(&str, &str)]) -> PodUid {
        self.serial += 1;
        self.created += 1;
        let uid: PodUid = format!("{workload}-{revision}-{}", self.serial).into();
        let containers = modules
            .iter()
            .map(|(name, version)| Container {
                name: (*name).to_owned(),
                role: Role::Module(spec(name, version)),
                history: ContainerHistory::default(),
            })
            .collect();
        self.pods.push(Pod {
            uid: uid.clone(),
            name: format!("default/{uid}"),
            created: i64::try_from(self.serial).unwrap(),
            workload: Workload { uid: workload.into(), revision },
            content: Content::Modules(containers),
            deleting: None,
            evicted: false,
            terminal: false,
            superseded: false,
            grace: Duration::from_secs(30),
            drain: Duration::ZERO,
            replaces: false,
            shown_ready: false,
            not_done: Vec::new(),
        });
        uid
    }

    pub(super) fn delete(&mut self, uid: &PodUid) {
        if let Some(pod) = self.pods.iter_mut().find(|p| p.uid == *uid) {
            pod.deleting = Some(Duration::ZERO);
        }
    }

    /// Decides, again if something has come on record by that.
    pub(super) fn step(&mut self) -> Plan {
        let plan = self.decide();
        if plan.unrecorded.is_empty() {
            return plan;
        }
        self.record();
        self.decide()
    }

    /// Decides once, and puts the commands on the wire.
    pub(super) fn decide(&mut self) -> Plan {
        let pods: Vec<_> = self.pods.iter().collect();
        let plan = self.base.step(&pods, &self.link(), self.now);
        self.unrecorded.clone_from(&plan.unrecorded);
        for command in &plan.commands {
            if matches!(command, Command::Install(..) | Command::Uninstall(_) | Command::Baseline(_)) {
                self.check_command(command);
                self.check_record(command);
                self.sent.push(command.clone());
            }
            self.to_base.push_back(command.clone());
        }
        for outcome in &plan.pods {
            self.check_outcome(outcome);
            self.unwritten.push_back(outcome.clone());
        }
        self.pods.retain(|p| !plan.finished.contains(&p.uid));
        if self.saved == self.base.ledger {
            self.pods.retain(|p| !plan.expired.contains(&p.uid));
        }
        plan
    }

    /// No module that serves for a Pod is taken away from it.
    fn check_command(&self, command: &Command) {
        let Command::Uninstall(id) = command else { return };
        let active =
            self.base.conversation.list().and_then(|l| l.get(id)).is_some_and(|m| m.state == ModuleState::Activated);
        let fits = |m: &ModuleSpec| m.id == *id && self.base.ledger.origin(id).is_none_or(|o| o == m.origin);
        let wanted = self.pods.iter().any(|p| p.is_live() && p.modules().any(fits));
        let makes_room =
            self.base.replacements.get(&id.name).is_some_and(|r| {
                r.empties() && (r.spec.id != *id || self.base.ledger.origin(id) != Some(r.spec.origin))
            });
        assert!(makes_room || !(active && wanted), "uninstall of {id}, which is active and wanted by a Pod");
    }

    /// Nothing is installed that the next controller would not know of.
    fn check_record(&self, command: &Command) {
        for id in command.installs().iter().map(|spec| &spec.id) {
            assert!(self.saved.installed(id) || self.journal.contains(id), "{id} is ordered and not on record");
        }
    }

    /// Ready is what the base's own list says, if that is newer than the Pod.
    fn check_outcome(&self, outcome: &PodOutcome) {
        let pod = self.pods.iter().find(|p| p.uid == outcome.uid).unwrap();
        for (container, said) in pod.containers().iter().zip(&outcome.containers) {
            let spec = container.module().unwrap();
            let id = &spec.id;
            let fits = self.base.ledger.origin(id).is_none_or(|origin| origin == spec.origin);
            let listed = self.base.conversation.list().and_then(|l| l.get(id)).map(|m| m.state);
            let memory = &self.base.pods[&pod.uid];
            let has_run = memory.containers.get(&container.name).is_some_and(|c| c.has_run);
            let newer = has_run || memory.first_seen.is_none_or(|at| self.base.conversation.knows(at));
            assert_eq!(said.active(), newer && fits && listed == Some(ModuleState::Activated), "{id} of {}", pod.name);
        }
    }

    /// The API server gets the oldest status that it has not.
    pub(super) fn write_status(&mut self) {
        let Some(outcome) = self.unwritten.pop_front() else { return };
        let Some(pod) = self.pods.iter_mut().find(|p| p.uid == outcome.uid) else { return };
        if pod.terminal {
            return;
        }
        if let Content::Modules(containers) = &mut pod.content {
            for (container, said) in containers.iter_mut().zip(&outcome.containers) {
                match said {
                    ContainerOutcome::Active { restarts } => {
                        container.history.has_run = true;
                        container.history.restarts = *restarts;
                    }
                    ContainerOutcome::Waiting { reason, restarts, .. } => {
                        container.history.restarts = *restarts;
                        container.history.failed |= *reason == Reason::InstallFailed;
                    }
                    ContainerOutcome::Superseded { .. } | ContainerOutcome::SideCar => {}
                }
            }
        }
        pod.shown_ready = outcome.ready();
        if outcome.phase == Phase::Failed {
            (pod.terminal, pod.superseded) = (true, true);
            self.superseded += 1;
            if self.replaces && pod.deleting.is_none() {
                let (workload, modules) =
                    (pod.workload.clone(), pod.modules().map(|m| m.id.clone()).collect::<Vec<_>>());
                let modules: Vec<_> = modules.iter().map(|m| (m.name.as_str(), m.version.as_str())).collect();
                self.pod(&workload.uid, workload.revision, &modules);
            }
        }
        for container in &outcome.containers {
            if let ContainerOutcome::Waiting { reason, message, .. } = container {
                self.words.insert((outcome.uid.clone(), reason.as_str(), message.clone()));
            }
        }
        self.outcomes.insert(outcome.uid.clone(), outcome);
    }

    /// Something arrives at each moment, unless there is no connection or the broker hangs.
    fn link(&self) -> Link {
        let proven = if self.hangs { self.hangs_since } else { Some(self.now) };
        Link { proven: proven.filter(|_| !self.base.liveness.is_deaf()), suspected: false }
    }

    /// The oldest command reaches the base.
    pub(super) fn deliver_command(&mut self) {
        if self.hangs {
            return;
        }
        let Some(command) = self.to_base.pop_front().filter(|_| !self.silent) else { return };
        if let Command::Install(spec, _) = &command {
            let same = |(_, c): &(Instant, Command)| c.installs().iter().any(|s| s.id == spec.id);
            if self.at_work.iter().any(same) {
                let (module, answer) = (Some(spec.id.clone()), Answer::Conflict);
                self.from_base.push_back(FromBase::Reply(Reply { command: "installBiz", module, answer }));
                return;
            }
            if let Some(slow) = self.slow {
                self.at_work.push((self.now + slow, command));
                return;
            }
        }
        let answer = self.jvm.handle(&command);
        self.from_base.push_back(answer);
    }

    /// What the base was at work on until now ends.
    fn end_work(&mut self) {
        let (ended, at_work): (Vec<_>, _) =
            std::mem::take(&mut self.at_work).into_iter().partition(|(end, _)| *end <= self.now);
        self.at_work = at_work;
        for (_, command) in ended {
            let answer = self.jvm.handle(&command);
            self.from_base.push_back(answer);
        }
    }

    /// The oldest answer reaches us.
    pub(super) fn deliver_answer(&mut self, twice: bool) {
        if self.hangs {
            return;
        }
        let Some(answer) = self.from_base.pop_front() else { return };
        for _ in 0..=usize::from(twice) {
            self.base.liveness.heard(self.now);
            match answer.clone() {
                FromBase::List(modules) => self.base.listed(modules, self.now),
                FromBase::Reply(reply) => self.base.replied(reply),
                FromBase::AlsoAlive => {}
            }
        }
    }

    /// What waits for being on record comes into the journal.
    pub(super) fn record(&mut self) {
        self.journal.extend(self.unrecorded.iter().cloned());
        self.base.recorded(self.unrecorded.drain(..));
    }

    /// The ledger is saved, which makes the journal superfluous.
    pub(super) fn save(&mut self) {
        self.saved = self.base.ledger.clone();
        self.journal.clear();
        self.base.recorded(self.saved.all_installed());
    }

    /// The controller dies and another one starts from what the world remembers.
    pub(super) fn restart_controller(&mut self) {
        self.base = Base::new(BaseId::new("base-1"), Arc::clone(&self.settings), self.now);
        self.base.health_answered(true);
        self.base.ledger = self.saved.clone();
        for id in &self.journal {
            self.base.ledger.install(id);
            self.base.ledger.forget_origin(id);
        }
        let on_record: Vec<_> = self.base.ledger.all_installed().collect();
        self.base.recorded(on_record);
        self.unrecorded.clear();
        self.unwritten.clear();
        self.from_base.clear();
    }

    /// The base dies and a fresh JVM starts.
    pub(super) fn restart_base(&mut self, asks_for_baseline: bool) {
        self.jvm.list.clear();
        self.at_work.clear();
        self.to_base.clear();
        self.from_base.clear();
        self.base.liveness.heard(self.now);
        if asks_for_baseline {
            self.base.asked_for_baseline(Vec::new(), self.now);
        }
    }

    /// Somebody changes a Pod.
    pub(super) fn change(&mut self, uid: &PodUid, change: impl Fn(&mut Pod)) {
        self.pods.iter_mut().filter(|pod| pod.uid == *uid).for_each(change);
    }

    /// What was ordered, as `install 1` and the like.
    pub(super) fn orders(&self) -> Vec<String> {
        let order = |command: &Command| match command {
            Command::Install(spec, Strategy::InstallOnly) => Some(format!("install {}", spec.id.version)),
            Command::Install(spec, _) => Some(format!("switch {}", spec.id.version)),
            Command::Uninstall(id) => Some(format!("uninstall {}", id.version)),
            Command::Baseline(_) => Some("baseline".to_owned()),
            _ => None,
        };
        self.sent.iter().filter_map(order).collect()
    }

    /// Everything works at once until nothing is left to do before `later`.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(
                rounds < 20_000,
                "it never comes to rest: {:?} {:?}",
                self.base.ledger,
                self.sent.iter().rev().take(6).collect::<Vec<_>>()
            );
            self.end_work();
            let plan = self.step();
            let mut moved = false;
            while !(self.hangs || self.to_base.is_empty() && self.from_base.is_empty()) {
                self.deliver_command();
                self.deliver_answer(false);
                moved = true;
            }
            while !self.unwritten.is_empty() {
                self.write_status();
            }
            moved |= self.saved != self.base.ledger;
            self.save();
            moved |= !plan.finished.is_empty() || !plan.expired.is_empty();
            if moved {
                continue;
            }
            let ends = self.at_work.iter().map(|(end, _)| *end).min();
            let next = plan.wake.into_iter().chain(ends).min().unwrap_or(end).max(self.now + Duration::from_millis(1));
            if next >= end {
                self.now = end;
                self.step();
                return;
            }
            self.now = next;
        }
    }

    /// Long enough for everything but back-offs.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_secs(5));
    }

    pub(super) fn is_ready(&self, uid: &PodUid) -> bool {
        self.outcomes.get(uid).is_some_and(PodOutcome::ready)
    }

    /// The first container's word for its state.
    pub(super) fn says(&self, uid: &PodUid) -> &'static str {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Active { .. }) => "Active",
            Some(ContainerOutcome::Waiting { reason, .. }) => reason.as_str(),
            Some(ContainerOutcome::Superseded { .. }) => "Superseded",
            Some(ContainerOutcome::SideCar) => "SideCar",
            None => "nothing",
        }
    }

    /// Whether a Pod's status ever had this word.
    pub(super) fn ever_said(&self, uid: &PodUid, word: &str) -> bool {
        self.words.iter().any(|(pod, said, _)| pod == uid && *said == word)
    }

    /// The first container's message.
    pub(super) fn message(&self, uid: &PodUid) -> String {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Waiting { message, .. } | ContainerOutcome::Superseded { message }) => {
                message.clone()
            }
            _ => String::new(),
        }
    }

    pub(super) fn restarts(&self, uid: &PodUid) -> u32 {
        match self.outcomes.get(uid).and_then(|o| o.containers.first()) {
            Some(ContainerOutcome::Active { restarts } | ContainerOutcome::Waiting { restarts, .. }) => *restarts,
            _ => 0,
        }
    }

    pub(super) fn exists(&self, uid: &PodUid) -> bool {
        self.pods.iter().any(|p| p.uid == *uid)
    }

    /// `name:version` → state, as the base has it.
    pub(super) fn on_base(&self) -> Vec<(String, ModuleState)> {
        self.jvm.list.iter().map(|(id, state)| (id.to_string(), *state)).collect()
    }

    pub(super) fn installs(&self) -> usize {
        self.sent.iter().filter(|c| matches!(c, Command::Install(..))).count()
    }

    pub(super) fn uninstalls(&self) -> usize {
        self.sent.iter().filter(|c| matches!(c, Command::Uninstall(_))).count()
    }

    pub(super) fn set_revision(&mut self, workload: &str, from: i64, to: i64) {
        for pod in self.pods.iter_mut().filter(|p| *p.workload.uid == *workload && p.workload.revision == from) {
            pod.workload.revision = to;
        }
    }
}

pub(super) fn spec(name: &str, version: &str) -> ModuleSpec {
    ModuleSpec {
        id: ModuleId::new(name, version),
        origin: Origin::default(),
        url: format!("https://modules.example.com/{name}-{version}-ark-biz.jar"),
        args: Vec::new(),
        envs: BTreeMap::new(),
        unresolved: None,
    }
}
