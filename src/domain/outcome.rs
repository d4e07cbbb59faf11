//! What the status of a Pod should say.

use super::{Health, PodUid, Reason};

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

impl Phase {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Failed => "Failed",
        }
    }
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
    /// Of a Pod that is taken and makes room for none, on a base that can be reached.
    pub fn new(uid: PodUid, phase: Phase, containers: Vec<ContainerOutcome>) -> Self {
        Self { uid, phase, containers, reachable: true, rejected: None, leaving: None }
    }

    /// All its modules are active and their probes succeed, and that can be known.
    pub fn ready(&self) -> bool {
        self.reachable
            && self.leaving.is_none()
            && self.containers.iter().any(ContainerOutcome::ready)
            && self.containers.iter().all(|c| c.ready() || *c == ContainerOutcome::SideCar)
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
        /// What its probes say.
        health: Health,
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

    /// It serves, and its startup probe has succeeded.
    pub fn started(&self) -> bool {
        matches!(self, Self::Active { health: Health::NotReady | Health::Ready, .. })
    }

    /// It serves, and its readiness probe succeeds.
    pub fn ready(&self) -> bool {
        matches!(self, Self::Active { health: Health::Ready, .. })
    }
}
