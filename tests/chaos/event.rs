//! What can be seen from outside.

use std::{collections::BTreeSet, fmt, time::Duration};

/// Time since the run began.
pub(crate) type At = Duration;

/// The module that each base has from somebody else.
pub(crate) const FOREIGN: &str = "foreign";

/// A module in a version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Module {
    pub(crate) fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// What a base was told to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Install(Module),
    /// `uninstallThenInstall`: all other versions go.
    Replace(Module),
    Uninstall(Module),
    Baseline(Vec<Module>),
}

impl Order {
    /// All that it names.
    pub(crate) fn modules(&self) -> &[Module] {
        match self {
            Self::Install(module) | Self::Replace(module) | Self::Uninstall(module) => std::slice::from_ref(module),
            Self::Baseline(modules) => modules,
        }
    }
}

/// What does not work as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The API server, or what it stands on: nobody sees Pods, the observer neither.
    ApiServer,
    /// The broker, a replica, its connections.
    Way,
    /// The same, and nobody tells whoever has it: what is dead is dead until it is noticed.
    DeadWay,
    /// One base, or its connection.
    Base(usize),
}

/// One thing that was observed.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A Pod, as the API server shows it.
    Pod { uid: String, name: String, base: Option<usize>, modules: Vec<Module>, wanted: bool, ready: bool },
    /// A Pod is not there any more.
    PodGone { uid: String },
    /// The versions that a base has active, of all.
    Active { base: usize, modules: BTreeSet<Module> },
    /// A base received an order.
    Told { base: usize, order: Order },
    /// The broker took a command: from whom, about what, and how.
    Sent { client: String, topic: String, qos: u8, retained: bool },
    /// The broker let somebody in who commands.
    Commands { who: String },
    /// Who leads; since when, by its own word.
    Leads { who: Option<String>, since: At },
    /// A replica wrote an object.
    Wrote { who: String, what: String, counts: bool },
    /// Something goes wrong,
    Begins { part: Part },
    /// and is well again, by itself.
    Ends { part: Part },
}
