//! Modules (the wire calls a module a *biz*) and the commands about them.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::without_credentials;

/// Name and version of a module, its whole identity on a base.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId {
    /// `bizName` on the wire; the container's name in a Pod.
    pub name: String,
    /// `bizVersion` on the wire.
    pub version: String,
}

impl ModuleId {
    /// A module's identity from its two parts.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// Tells what a module was made from: a hash of its jar's URL. Two Pods may ask for one version of a module and yet not
/// for the same. Args and environment do not count: who changes these alone starts nothing anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin(u64);

impl Origin {
    /// Two commands for one version, made from different things, may both be on their way: whatever is loaded by
    /// them is nothing that a Pod asks for.
    pub(super) const UNCERTAIN: Self = Self(u64::MAX);

    /// From a jar's URL. The value is kept on record, so it must be the same in every build: FNV-1a.
    pub fn of(url: &str) -> Self {
        let mixed = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(url.bytes().fold(0xcbf2_9ce4_8422_2325, mixed))
    }
}

/// All that a base needs to install a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSpec {
    /// What the Pod asks for; the jar's own name and version may turn out to differ.
    pub id: ModuleId,
    /// Tells it from another jar of the same version.
    pub origin: Origin,
    /// Where the base fetches the jar.
    pub url: String,
    /// Program arguments of the module.
    pub args: Vec<String>,
    /// Environment of the module, as far as the wire carries it.
    pub envs: BTreeMap<String, String>,
    /// Why `args` and `envs` are not known yet: it is wanted, but not installed before.
    pub unresolved: Option<String>,
}

impl ModuleSpec {
    /// The context path that its args give it, whatever its jar says.
    pub(in crate::domain) fn context_path_by_args(&self) -> Option<&str> {
        self.args.iter().rev().find_map(|arg| {
            let (key, path) = arg.strip_prefix("--")?.split_once('=')?;
            // Spring reads `contextPath` and `context_path` as the same.
            let key: String = key.chars().filter(|c| !matches!(c, '-' | '_')).collect();
            key.eq_ignore_ascii_case("server.servlet.contextpath").then_some(path)
        })
    }

    /// Its URL as it may be shown: without user and password.
    pub fn shown_url(&self) -> Cow<'_, str> {
        without_credentials(&self.url)
    }
}

/// A module's state in the base's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ModuleState {
    /// Being started.
    Resolved,
    /// Serving. The only state that makes a Pod Ready.
    Activated,
    /// Started, but another version serves.
    Deactivated,
    /// Failed to start and was kept by the base.
    Broken,
    /// A state that this version of the controller does not know: present, not serving.
    Unknown,
}

/// One entry of a base's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModule {
    /// Name and version as the base has them.
    pub id: ModuleId,
    /// Its state.
    pub state: ModuleState,
    /// The context path in its jar, where the base says it. Modules that are no web modules have one too.
    pub context_path: Option<Box<str>>,
    /// What the base says about the state; a stack trace for broken modules.
    pub message: Option<String>,
}

/// How a base deals with other versions of a module at an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Start beside the other versions. The base decides which one is active.
    InstallOnly,
    /// First remove **all** versions of that name, then fetch and start (protocol fact).
    UninstallThenInstall,
}

/// A message to a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Install a module.
    Install(ModuleSpec, Strategy),
    /// Have a version that has started and is deactivated take over, where the base offers it.
    Switch(ModuleSpec),
    /// Uninstall a module.
    Uninstall(ModuleId),
    /// Answer to a base that asked which modules belong on it.
    Baseline(Vec<ModuleSpec>),
    /// Ask for the list of modules.
    QueryModules,
    /// Ask for health: capacity, and a sign of life.
    QueryHealth,
}

impl Command {
    /// The name of [`Self::Switch`].
    pub const SWITCH: &'static str = "switchBiz";

    /// The command's name on the wire, also the label of its metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Install(..) => "installBiz",
            Self::Switch(_) => Self::SWITCH,
            Self::Uninstall(_) => "uninstallBiz",
            Self::Baseline(_) => "baseline",
            Self::QueryModules => "queryAllBiz",
            Self::QueryHealth => "health",
        }
    }

    /// It asks, and changes nothing.
    pub fn is_question(&self) -> bool {
        matches!(self, Self::QueryModules | Self::QueryHealth)
    }

    /// The modules that it brings to the base.
    pub(crate) fn installs(&self) -> &[ModuleSpec] {
        match self {
            Self::Install(spec, _) => std::slice::from_ref(spec),
            Self::Baseline(specs) => specs,
            Self::Switch(_) | Self::Uninstall(_) | Self::QueryModules | Self::QueryHealth => &[],
        }
    }

    /// A switch: the new version has started and is to take over.
    pub fn is_switch(&self) -> bool {
        matches!(self, Self::Switch(_) | Self::Install(_, Strategy::UninstallThenInstall))
    }
}
