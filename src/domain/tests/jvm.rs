//! A base as the recordings show it, answering at once.

use std::collections::{BTreeMap, BTreeSet};

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

/// All of them.
pub(super) const MODES: [Mode; 3] = [Mode::Default, Mode::ActivateNew, Mode::MultiActive];

/// Its modules, and what goes wrong with them.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Jvm {
    pub(crate) mode: Mode,
    pub(crate) list: BTreeMap<ModuleId, ModuleState>,
    /// Versions that fail to start.
    pub(crate) broken: BTreeSet<String>,
    /// Modules are web contexts: two versions of one cannot be loaded.
    pub(super) web: bool,
    /// Lists name a context path for each module, as over HTTP: the one in its jar.
    pub(super) lists_paths: bool,
    /// The paths that modules really have.
    pub(super) contexts: BTreeMap<ModuleId, String>,
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
    /// Its metaspace, where that is limited.
    pub(super) metaspace: Option<Metaspace>,
    /// At its limit it collects what modules left behind; then it uses this much without them.
    pub(super) collects_to: Option<u64>,
    /// What it takes to load a module, by name.
    pub(super) takes: BTreeMap<String, u64>,
    /// Its health leaves that out.
    pub(super) says_no_metaspace: bool,
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
            lists_paths: false,
            contexts: BTreeMap::new(),
            fetches: BTreeMap::new(),
            urls: BTreeMap::new(),
            stuck: false,
            silent_repeats: false,
            holds_context: None,
            metaspace: None,
            collects_to: None,
            takes: BTreeMap::new(),
            says_no_metaspace: false,
        }
    }

    pub(crate) fn handle(&mut self, command: &Command) -> FromBase {
        let before = self.metaspace.map_or(0, |metaspace| metaspace.used);
        let answer = self.answer(command);
        let grew = self.metaspace.map(|metaspace| metaspace.used.saturating_sub(before));
        match answer {
            FromBase::Reply(reply) => FromBase::Reply(Reply { space: grew, ..reply }),
            other => other,
        }
    }

    fn answer(&mut self, command: &Command) -> FromBase {
        let reply = |module: &ModuleId, answer| {
            FromBase::Reply(Reply { command: command.name(), module: Some(module.clone()), answer, space: None })
        };
        match command {
            Command::Install(spec, strategy) => match self.install(spec, *strategy) {
                Answer::Repeat { .. } if self.silent_repeats => FromBase::AlsoAlive,
                answer => reply(&spec.id, answer),
            },
            Command::Switch(spec) => reply(&spec.id, self.switch(&spec.id)),
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
                FromBase::Reply(Reply { command: "baseline", module: None, answer, space: None })
            }
            Command::QueryModules => FromBase::List(
                self.list
                    .iter()
                    .map(|(id, state)| {
                        let context_path = self.lists_paths.then(|| id.name.as_str().into());
                        ListedModule { id: id.clone(), state: *state, context_path, message: None }
                    })
                    .collect(),
            ),
            Command::QueryHealth => FromBase::AlsoAlive,
        }
    }

    /// Classes of modules that are gone go, if they do.
    pub(super) fn collect(&mut self) {
        let loaded: u64 = self.list.keys().filter_map(|id| self.takes.get(&id.name)).sum();
        if let Some((without, metaspace)) = self.collects_to.zip(self.metaspace.as_mut()) {
            metaspace.used = metaspace.used.min(without + loaded);
        }
    }

    fn switch(&mut self, to: &ModuleId) -> Answer {
        if self.stuck {
            return Answer::Failed("it will not switch".into());
        }
        if !self.list.contains_key(to) {
            return Answer::NotFound;
        }
        for (id, state) in self.list.iter_mut().filter(|(id, _)| id.name == to.name) {
            *state = if id == to { ModuleState::Activated } else { ModuleState::Deactivated };
        }
        Answer::Done { actual: None }
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
        let path = spec.context_path_by_args().unwrap_or(&spec.id.name).to_owned();
        let taken = self.list.keys().filter_map(|id| self.contexts.get(id)).chain(&self.holds_context);
        if self.web && taken.into_iter().any(|held| *held == path) {
            return Answer::Failed(format!("java.lang.IllegalStateException: Child name [{path}] is not unique"));
        }
        let takes = self.takes.get(&spec.id.name).copied().unwrap_or_default();
        let room = self.metaspace.map_or(u64::MAX, |metaspace| metaspace.max - metaspace.used);
        if takes > room {
            self.collect();
        }
        if let Some(metaspace) = &mut self.metaspace {
            metaspace.used += takes;
            assert!(metaspace.used <= metaspace.max, "OutOfMemoryError: Metaspace, by {}", spec.id);
        }
        self.contexts.insert(spec.id.clone(), path);
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
