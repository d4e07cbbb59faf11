//! Probes: what a container is asked, and what its answers in a row mean. As a kubelet's.

use std::time::Duration;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// It has started; before that the others are not asked.
    Startup,
    /// It may have requests.
    Readiness,
    /// It need not be started anew.
    Liveness,
}

impl ProbeKind {
    /// As people write it at the beginning of a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The same inside a sentence, and as a label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// How it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// A request for a page.
    HttpGet {
        /// Over TLS; the certificate is not looked at.
        tls: bool,
        /// Where; none: at the base's address.
        host: Option<String>,
        /// Its port.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
    },
    /// A connection that is made and closed.
    TcpSocket {
        /// Where; none: at the base's address.
        host: Option<String>,
        /// Its port.
        port: u16,
    },
    /// The health service of gRPC (`grpc.health.v1.Health/Check`), without TLS, at the base's address.
    Grpc {
        /// Its port.
        port: u16,
        /// Whose health; empty: the server's.
        service: String,
    },
}

/// One probe of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How it is asked.
    pub action: ProbeAction,
    /// Not before so long after the start.
    pub initial_delay: Duration,
    /// How often.
    pub period: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many successes in a row count.
    pub success_threshold: u32,
    /// So many failures in a row count.
    pub failure_threshold: u32,
}

/// The probes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `readinessProbe`.
    pub readiness: Option<Probe>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
}

impl Probes {
    /// The one of that kind.
    pub fn of(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }
}

/// Answers in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    last: Option<bool>,
    in_a_row: u32,
}

impl Tally {
    /// One more answer. What it comes to, where enough in a row say the same.
    pub fn count(&mut self, succeeded: bool, probe: &Probe) -> Option<bool> {
        let before = if self.last.replace(succeeded) == Some(succeeded) { self.in_a_row } else { 0 };
        self.in_a_row = before.saturating_add(1);
        let needed = if succeeded { probe.success_threshold } else { probe.failure_threshold };
        (self.in_a_row >= needed).then_some(succeeded)
    }

    /// The last answer was the first of its kind.
    pub fn has_turned(&self) -> bool {
        self.in_a_row == 1
    }
}

/// How far a module is that is active on its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its startup probe has not succeeded yet.
    Starting,
    /// Its readiness probe does not succeed.
    NotReady,
    /// Nothing is in its way.
    Ready,
}
