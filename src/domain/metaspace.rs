//! The room for classes in a base's JVM, and what of it a module needs.

use std::cmp::Ordering;

use super::module::ModuleId;

/// Metaspace that was low is enough again when so much less than the threshold is used, in percent of the limit,
const ENOUGH_BELOW: u64 = 10;
/// and it is watched when so much less is.
const WATCHED_ABOVE: u64 = 20;

/// What is said and done about metaspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaspaceRules {
    /// Above this share of its limit it is low, in percent.
    pub low_above: u64,
    /// A module that will not fit waits.
    pub waits: bool,
}

impl Default for MetaspaceRules {
    fn default() -> Self {
        Self { low_above: 95, waits: true }
    }
}

/// The metaspace of a JVM that has a limit for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metaspace {
    /// Bytes that are used.
    pub used: u64,
    /// The limit, in bytes.
    pub max: u64,
}

impl Metaspace {
    /// Whether there is too little left for modules. What was low stays so until there is clearly more.
    pub fn is_low(self, rules: &MetaspaceRules, before: bool) -> bool {
        if before {
            self.compared_with(rules.low_above.saturating_sub(ENOUGH_BELOW)).is_ge()
        } else {
            self.compared_with(rules.low_above).is_gt()
        }
    }

    /// Whether it may be low soon, without an install.
    pub(in crate::domain) fn is_watched(self, rules: &MetaspaceRules) -> bool {
        self.compared_with(rules.low_above.saturating_sub(WATCHED_ABOVE)).is_gt()
    }

    /// Bytes that are left for modules: until it is low. A JVM cannot fill its metaspace to the last byte, and what runs
    /// loads classes too: the web server for its first request, and hangs if it cannot.
    pub(in crate::domain) fn left(self, rules: &MetaspaceRules) -> u64 {
        let enough = u128::from(self.max).saturating_mul(rules.low_above.into()) / 100;
        u64::try_from(enough).unwrap_or(u64::MAX).saturating_sub(self.used)
    }

    /// How much of it is used, in percent.
    pub fn percent(self) -> u64 {
        let percent = u128::from(self.used).saturating_mul(100).checked_div(self.max.into());
        percent.and_then(|percent| u64::try_from(percent).ok()).unwrap_or(100)
    }

    /// How what is used compares with so many percent of the limit.
    fn compared_with(self, percent: u64) -> Ordering {
        u128::from(self.used).saturating_mul(100).cmp(&u128::from(self.max).saturating_mul(percent.into()))
    }
}

/// What a module needs and its base has not, in MiB: what it needs rounded up, what is left rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    need: u32,
    left: u32,
    max: u32,
}

const MIB: u64 = 1 << 20;
const NEEDS: &str = " needs about ";
const AND_THERE_ARE: &str = " MiB of metaspace, and ";
const OF: &str = " of ";
const ARE_LEFT: &str = " MiB are left for modules";

impl Lack {
    pub(in crate::domain) fn new(need: u64, left: u64, max: u64) -> Self {
        let mib = |mib: u64| u32::try_from(mib).unwrap_or(u32::MAX);
        Self { need: mib(need.div_ceil(MIB)), left: mib(left / MIB), max: mib(max / MIB) }
    }

    /// Bytes that the module needs, about.
    pub(in crate::domain) fn need(self) -> u64 {
        u64::from(self.need).saturating_mul(MIB)
    }

    /// Whether it differs from another one by nothing but what others took or gave back meanwhile.
    pub(in crate::domain) fn is_like(self, other: Self) -> bool {
        (self.need, self.max) == (other.need, other.max)
    }

    /// In the words that the Pod's status has.
    pub(in crate::domain) fn words(self, id: &ModuleId, base: &str) -> String {
        let Self { need, left, max } = self;
        format!(
            "{id}{NEEDS}{need}{AND_THERE_ARE}{left}{OF}{max}{ARE_LEFT}: restart {base}, see docs/kubelet.md#metaspace"
        )
    }
}

/// What the status of a Pod says of its module: the memory that survives a restart.
pub fn lack_of(id: &ModuleId, message: &str) -> Option<Lack> {
    let (need, rest) = message.strip_prefix(&id.to_string())?.strip_prefix(NEEDS)?.split_once(AND_THERE_ARE)?;
    let (left, rest) = rest.split_once(OF)?;
    let (max, _) = rest.split_once(ARE_LEFT)?;
    Some(Lack { need: need.parse().ok()?, left: left.parse().ok()?, max: max.parse().ok()? })
}
