//! Memory pressure of a Node: how much metaspace its base has left for modules.
//!
//! Kubernetes makes the taint `node.kubernetes.io/memory-pressure` (`NoSchedule`) from the condition, and takes it away
//! with it. A kubelet's word stands for a base's: what fills up is the JVM's memory for classes.
//!
//! The Node is not written for each class: while metaspace is enough its use is told in tens of percent, and while it is
//! low the words stay.

use k8s_openapi::api::core::v1::Node;

use crate::domain::{Metaspace, MetaspaceRules};

/// The reason of the condition and of the Events while metaspace is low.
pub const METASPACE_LOW: &str = "MetaspaceLow";
/// The reason while it is not.
pub const METASPACE_ENOUGH: &str = "BaseHasMemory";
/// The taint that Kubernetes makes from the condition.
pub const MEMORY_PRESSURE_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Use is told in steps of so many percent,
const STEP: u64 = 10;
/// and another step only beyond so many: half a step, and some more so that it does not go back and forth.
const BEYOND: u64 = 8;
const ABOUT: &str = "about ";

/// What the condition says of a base whose metaspace has a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemoryPressure {
    /// There is.
    pub low: bool,
    /// In words.
    pub message: String,
}

/// What the condition says; `before`: what it said until now, which stays for as long as the limit is the same and what
/// is used is about the same.
pub fn memory_pressure(
    metaspace: Option<Metaspace>,
    rules: &MetaspaceRules,
    before: Option<&MemoryPressure>,
) -> Option<MemoryPressure> {
    let metaspace = metaspace?;
    let mib = |bytes: u64| bytes >> 20;
    let low = metaspace.is_low(rules, before.is_some_and(|before| before.low));
    let of = format!("of {} MiB of metaspace", mib(metaspace.max));
    let percent = metaspace.percent();
    let stays = |said: &&MemoryPressure| {
        let same = said.low == low && said.message.contains(&of);
        same && (low || said.percent().is_some_and(|said| said.abs_diff(percent) <= BEYOND))
    };
    if let Some(before) = before.filter(stays) {
        return Some(before.clone());
    }
    let message = if low {
        let used = mib(metaspace.used);
        format!("{used} {of} are used: modules may fail to start, or hang; restart the base to get it back")
    } else {
        let about = (percent.saturating_add(STEP / 2) / STEP).saturating_mul(STEP);
        format!("{ABOUT}{about} % {of} are used")
    };
    Some(MemoryPressure { low, message })
}

impl MemoryPressure {
    /// What it says of the use, while that is enough.
    fn percent(&self) -> Option<u64> {
        self.message.strip_prefix(ABOUT)?.split_once(' ')?.0.parse().ok()
    }
}

/// What the Node says of metaspace, where it does.
pub fn node_says_of_metaspace(node: &Node) -> Option<MemoryPressure> {
    let condition = node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "MemoryPressure")?;
    let low = condition.status == "True";
    let message = condition.message.clone()?;
    let said = MemoryPressure { low, message };
    let ours = if low { condition.reason.as_deref() == Some(METASPACE_LOW) } else { said.percent().is_some() };
    ours.then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn turns(rules: &MetaspaceRules, steps: &[(u64, u64, Option<u64>)]) {
        let mut said: Option<MemoryPressure> = None;
        for (used, max, expected) in steps {
            let metaspace = Metaspace { used: used * MIB, max: max * MIB };
            said = memory_pressure(Some(metaspace), rules, said.as_ref());
            let low = said.as_ref().filter(|said| said.low).map(|said| &said.message);
            let words = expected.map(|used| format!("{used} of {max} MiB of metaspace are used"));
            assert_eq!(low.is_some(), words.is_some(), "{used} of {max}: {said:?}");
            assert!(low.iter().zip(&words).all(|(low, words)| low.starts_with(words)), "{used} of {max}: {said:?}");
        }
    }

    #[test]
    fn it_begins_above_95_percent_and_ends_below_85_and_says_the_same_meanwhile() {
        let rules = MetaspaceRules::default();
        turns(
            &rules,
            &[
                (0, 200, None),
                (100, 200, None),
                (190, 200, None), // exactly 95 %
                (191, 200, Some(191)),
                (200, 200, Some(191)),
                (171, 200, Some(191)),
                (170, 200, Some(191)), // exactly 85 %
                (169, 200, None),
                (190, 200, None),
                (205, 200, Some(205)), // more than there is
                (245, 256, Some(245)), // another limit
                (230, 256, Some(245)),
                (0, 256, None),
            ],
        );
        assert_eq!(memory_pressure(None, &rules, None), None, "no limit");
        let most = Metaspace { used: u64::MAX, max: u64::MAX };
        assert!(
            memory_pressure(Some(most), &rules, None).is_some_and(|said| said.message.contains("restart the base"))
        );
    }

    #[test]
    fn the_threshold_is_an_option_and_the_way_back_follows_it() {
        let of = |low_above| MetaspaceRules { low_above, ..MetaspaceRules::default() };
        turns(&of(70), &[(70, 100, None), (71, 100, Some(71)), (60, 100, Some(71)), (59, 100, None), (70, 100, None)]);
        turns(&of(100), &[(100, 100, None), (101, 100, Some(101)), (90, 100, Some(101)), (89, 100, None)]);
    }

    #[test]
    fn what_is_used_is_told_in_steps_that_do_not_go_back_and_forth() {
        let rules = MetaspaceRules::default();
        let mut said: Option<MemoryPressure> = None;
        for (used, about) in [(0, 0), (4, 0), (8, 0), (9, 10), (2, 10), (1, 0), (45, 50), (42, 50), (58, 50), (59, 60)]
        {
            said = memory_pressure(Some(Metaspace { used: used * MIB, max: 100 * MIB }), &rules, said.as_ref());
            let expected = format!("about {about} % of 100 MiB of metaspace are used");
            assert_eq!(said.as_ref().map(|said| &said.message), Some(&expected), "{used}");
        }
        let no_room_at_all = Metaspace { used: 0, max: 0 };
        assert!(memory_pressure(Some(no_room_at_all), &rules, None).is_some());
    }
}
