//! A world in miniature: one base, the wire to it, the Pods on it, and a clock.

mod checks;
mod statuses;
mod wire;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::jvm::{FromBase, Jvm, Mode};
use crate::domain::*;

/// Everything together.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct World {
    /// Nothing stands between it and us: it can be told to switch, and what is lost is told of.
    pub(super) direct: bool,
    pub(super) jvm: Jvm,
    pub(super) base: Base,
    /// What all bases have shown of web modules.
    pub(super) contexts: WebContexts,
    /// What they took.
    pub(super) needs: Needs,
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
            direct: false,
            jvm: Jvm::new(mode),
            base: Base::new(BaseId::new("base-1"), Arc::clone(&settings), now),
            contexts: WebContexts::default(),
            needs: Needs::default(),
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

    /// With a Pod whose module serves: revision 1 of the workload a, version 1 of biz1.
    pub(super) fn serving(mode: Mode) -> (Self, PodUid) {
        let mut world = Self::new(mode);
        let pod = world.pod("a", 1, &[("biz1", "1")]);
        world.settle();
        (world, pod)
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
                probes: None,
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
            ignores_metaspace: false,
            shown_ready: false,
            held_back: None,
            lingers: false,
            not_done: Vec::new(),
            trace: None,
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
        let plan = self.base.step(&pods, &self.link(), &self.contexts, &self.needs, self.now);
        self.contexts.learn(&plan.lessons, self.now);
        plan.needs.iter().cloned().for_each(|took| self.needs.learn(took));
        self.unrecorded.clone_from(&plan.unrecorded);
        for command in &plan.commands {
            if matches!(
                command,
                Command::Install(..) | Command::Switch(_) | Command::Uninstall(_) | Command::Baseline(_)
            ) {
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
        self.contexts = WebContexts::default();
        self.needs = Needs::default();
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

    /// The same, and the next one hears the base.
    pub(super) fn restart_controller_and_hear(&mut self) {
        self.restart_controller();
        self.base.liveness.heard(self.now);
    }

    /// Somebody changes a Pod.
    pub(super) fn change(&mut self, uid: &PodUid, change: impl Fn(&mut Pod)) {
        self.pods.iter_mut().filter(|pod| pod.uid == *uid).for_each(change);
    }

    /// Long enough for everything but back-offs.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_secs(5));
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

/// Another jar of the same version, as `kubectl set image` asks for it.
pub(super) fn change_jar(pod: &mut Pod) {
    let Content::Modules(containers) = &mut pod.content else { panic!("no modules") };
    for container in containers {
        let Role::Module(spec) = &mut container.role else { continue };
        spec.url.push_str("-fixed");
        spec.origin = Origin::of(&spec.url);
    }
}

/// What is on a base.
pub(super) fn listed(modules: &[(&str, ModuleState)]) -> Vec<(String, ModuleState)> {
    modules.iter().map(|(id, s)| ((*id).to_owned(), *s)).collect()
}
