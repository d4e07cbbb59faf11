//! What comes out of a reconciliation.

use std::{collections::BTreeMap, time::Instant};

use super::{Command, Ledger, ModuleId, PodUid, replace::Replacement};

/// Everything to be done for one base now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages to the base, in order.
    pub commands: Vec<Command>,
    /// Installs that wait for being on record: one that nobody knows of after a death could never be undone.
    pub unrecorded: Vec<ModuleId>,
    /// What each Pod's status should say. A Pod that is missing here keeps the status it has.
    pub pods: Vec<PodOutcome>,
    /// Pods whose deletion can be completed: their modules are gone.
    pub finished: Vec<PodUid>,
    /// Superseded Pods whose time to live is over.
    pub expired: Vec<PodUid>,
    /// The ledger, where it differs from the base's.
    pub ledger: Option<Ledger>,
    /// When time alone changes the answer.
    pub wake: Option<Instant>,
    /// Updates that need the old version out of the way first, by module name.
    pub(super) replacements: BTreeMap<String, Replacement>,
}

impl Plan {
    /// Looks again at `at`, or earlier where that was asked already.
    pub(super) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// A Pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have run yet.
    Pending,
    /// All containers have run at some time.
    Running,
    /// Superseded by a newer version. Terminal.
    Failed,
}

/// What a Pod's status should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOutcome {
    /// Which Pod.
    pub uid: PodUid,
    /// Its phase.
    pub phase: Phase,
    /// One for each container of the Pod's spec, in that order. Empty: no container is ours.
    pub containers: Vec<ContainerOutcome>,
    /// The base can be reached. If not, what runs is not Ready.
    pub reachable: bool,
    /// The Pod is not taken: it has failed for good.
    pub rejected: Option<Rejection>,
    /// Its modules serve, and are about to make room for others: it is not Ready any more, so that requests end.
    pub leaving: Option<String>,
}

impl PodOutcome {
    /// All its modules are active, and that can be known.
    pub fn ready(&self) -> bool {
        self.reachable
            && self.leaving.is_none()
            && self.containers.iter().any(ContainerOutcome::active)
            && self.containers.iter().all(|c| c.active() || *c == ContainerOutcome::SideCar)
    }
}

/// Why a Pod is not taken at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One word, as a kubelet's.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a container's status should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerOutcome {
    /// The base lists exactly this module as activated.
    Active {
        /// Starts after the first.
        restarts: u32,
    },
    /// Not serving.
    Waiting {
        /// One CamelCase word.
        reason: Reason,
        /// For people.
        message: String,
        /// Starts after the first.
        restarts: u32,
    },
    /// No module: it is not run, and does not count.
    SideCar,
    /// Another version took over for good.
    Superseded {
        /// Names the new version.
        message: String,
    },
}

impl ContainerOutcome {
    /// Whether the module serves.
    pub fn active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}

/// Why a container waits, as `kubectl get pods` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The base was told, or will be told in a moment.
    Installing,
    /// The new version has started and takes over from the old one.
    Switching,
    /// A later claim on the same module name has the base.
    Held,
    /// The install failed; the next try comes after a back-off.
    InstallFailed,
    /// The jar's own name or version is not the Pod's.
    ModuleMismatch,
    /// The base has not reported since the controller started or since it came back.
    WaitingForBase,
    /// The container can't be a module.
    InvalidModule,
    /// Its environment refers to something that is not there (a kubelet's word).
    ConfigError,
    /// The Pod has no modules at all.
    NotAModule,
    /// The base no longer lists the module.
    ModuleGone,
    /// A version that was not installed by Kubernetes is active.
    ForeignModule,
    /// The base is told to uninstall it.
    Uninstalling,
    /// The base refuses to uninstall it.
    UninstallFailed,
    /// A web module's other version is loaded at the same context path.
    WebContextInUse,
    /// The base has this version from another jar, for another Pod.
    VersionInUse,
    /// One version makes room for the other, because the base cannot load both.
    Replacing,
    /// All places of the base are taken by commands that take long.
    BaseBusy,
}

impl Reason {
    /// The word in the container's status and in Events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "Installing",
            Self::Switching => "Switching",
            Self::Held => "Held",
            Self::InstallFailed => "InstallFailed",
            Self::ModuleMismatch => "ModuleMismatch",
            Self::WaitingForBase => "WaitingForBase",
            Self::InvalidModule => "InvalidModule",
            Self::ConfigError => "CreateContainerConfigError",
            Self::NotAModule => "NotAModule",
            Self::ModuleGone => "ModuleGone",
            Self::ForeignModule => "ForeignModule",
            Self::Uninstalling => "Uninstalling",
            Self::UninstallFailed => "UninstallFailed",
            Self::WebContextInUse => "WebContextInUse",
            Self::VersionInUse => "VersionInUse",
            Self::Replacing => "Replacing",
            Self::BaseBusy => "BaseBusy",
        }
    }
}
