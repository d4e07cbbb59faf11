//! Why a container waits, in one word.

/// Why a container waits, as `kubectl get pods` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The base was told, or will be told in a moment.
    Installing,
    /// The new version has started and takes over from the old one.
    Switching,
    /// A later claim on the same module name has the base.
    Held,
    /// Its base has not had its turn in a release.
    AwaitingBatch,
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
    /// It will not fit into what is left of the base's metaspace.
    InsufficientMetaspace,
    /// A probe failed, so it is started anew (a kubelet's word).
    Unhealthy,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Installing,
        Self::Switching,
        Self::Held,
        Self::AwaitingBatch,
        Self::InstallFailed,
        Self::ModuleMismatch,
        Self::WaitingForBase,
        Self::InvalidModule,
        Self::ConfigError,
        Self::NotAModule,
        Self::ModuleGone,
        Self::ForeignModule,
        Self::Uninstalling,
        Self::UninstallFailed,
        Self::WebContextInUse,
        Self::VersionInUse,
        Self::Replacing,
        Self::BaseBusy,
        Self::InsufficientMetaspace,
        Self::Unhealthy,
    ];

    /// The one with this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Somebody has to do something about it: trying again does not mend it, or did not so far.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::InstallFailed
                | Self::ModuleMismatch
                | Self::InvalidModule
                | Self::ConfigError
                | Self::ForeignModule
                | Self::UninstallFailed
                | Self::WebContextInUse
                | Self::VersionInUse
                | Self::InsufficientMetaspace
                | Self::Unhealthy
        )
    }

    /// The word in the container's status and in Events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "Installing",
            Self::Switching => "Switching",
            Self::Held => "Held",
            Self::AwaitingBatch => "AwaitingBatch",
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
            Self::InsufficientMetaspace => "InsufficientMetaspace",
            Self::Unhealthy => "Unhealthy",
        }
    }
}
