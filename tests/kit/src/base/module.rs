//! A module inside a base and its life.

use serde_json::{Value, json};

/// State of a module as the base reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BizState {
    /// Being started.
    Resolved,
    /// Serving.
    Activated,
    /// Loaded, not serving.
    Deactivated,
    /// Failed to start and kept.
    Broken,
}

impl BizState {
    /// As in `latestStateRecord`, `bizInfos` and health.
    pub fn upper(self) -> &'static str {
        match self {
            Self::Resolved => "RESOLVED",
            Self::Activated => "ACTIVATED",
            Self::Deactivated => "DEACTIVATED",
            Self::Broken => "BROKEN",
        }
    }

    /// As in `simpleBiz[].state`.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Activated => "activated",
            Self::Deactivated => "deactivated",
            Self::Broken => "broken",
        }
    }
}

/// One change of state.
#[derive(Clone, Debug)]
pub(super) struct StateRecord {
    pub(super) at_ms: u64,
    pub(super) state: BizState,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl StateRecord {
    pub(super) fn json(&self, empty: bool) -> Value {
        if empty {
            return json!({});
        }
        json!({"changeTime": self.at_ms, "state": self.state.upper(), "reason": self.reason, "message": self.message})
    }
}

/// One installed version of one module.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// Tells this start of the version from a later one.
    pub(super) serial: u64,
    pub(super) name: String,
    pub(super) version: String,
    /// The web context path that its manifest names;
    pub(super) context: String,
    /// and the one that it really serves at.
    pub(super) serves_at: String,
    pub(super) records: Vec<StateRecord>,
}

impl Module {
    pub(super) fn new(serial: u64, name: String, version: String, at_ms: u64) -> Self {
        let created = StateRecord { at_ms, state: BizState::Resolved, reason: "CREATED", message: String::new() };
        let context = name.clone();
        Self { serial, name, version, serves_at: context.clone(), context, records: vec![created] }
    }

    pub(super) fn state(&self) -> BizState {
        self.records.last().map_or(BizState::Resolved, |record| record.state)
    }

    pub(super) fn is(&self, name: &str, version: &str) -> bool {
        self.name == name && self.version == version
    }

    pub(super) fn turn(&mut self, at_ms: u64, state: BizState, reason: &'static str, message: String) {
        self.records.push(StateRecord { at_ms, state, reason, message });
    }
}
