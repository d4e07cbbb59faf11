//! Memory pressure of a Node: its base has too little metaspace left for modules.
//!
//! Kubernetes makes the taint `node.kubernetes.io/memory-pressure` (`NoSchedule`) from the condition, and takes it away
//! with it. A kubelet's word stands for a base's: what fills up is the JVM's memory for classes.

use k8s_openapi::api::core::v1::Node;

use crate::domain::Metaspace;

/// The reason of the condition and of the Events while metaspace is low.
pub const METASPACE_LOW: &str = "MetaspaceLow";
/// The reason while it is not.
pub const METASPACE_ENOUGH: &str = "BaseHasMemory";
/// The taint that Kubernetes makes from the condition.
pub const MEMORY_PRESSURE_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// What the condition says where metaspace is low; `before`: what it said until now, which stays for as long as the
/// limit is the same, so that the Node is not written for each class.
pub fn memory_pressure(metaspace: Option<Metaspace>, before: Option<&str>) -> Option<String> {
    let metaspace = metaspace.filter(|m| m.is_low(before.is_some()))?;
    let mib = |bytes: u64| bytes >> 20;
    let of = format!("of {} MiB of metaspace", mib(metaspace.max));
    if let Some(before) = before.filter(|said| said.contains(&of)) {
        return Some(before.to_owned());
    }
    let used = mib(metaspace.used);
    Some(format!("{used} {of} are used: modules may fail to start, or hang; restart the base to get it back"))
}

/// What the Node says of low metaspace, where it does.
pub fn node_says_metaspace_low(node: &Node) -> Option<&str> {
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let low = conditions.find(|c| c.type_ == "MemoryPressure" && c.status == "True")?;
    low.message.as_deref().filter(|_| low.reason.as_deref() == Some(METASPACE_LOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_begins_above_95_percent_and_ends_below_85_and_says_the_same_meanwhile() {
        let mut said: Option<String> = None;
        let steps = [
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
        ];
        for (used, max, expected) in steps {
            said = memory_pressure(Some(Metaspace { used: used * MIB, max: max * MIB }), said.as_deref());
            let words = expected.map(|used| format!("{used} of {max} MiB of metaspace are used"));
            assert_eq!(said.is_some(), words.is_some(), "{used} of {max}: {said:?}");
            assert!(said.iter().zip(&words).all(|(said, words)| said.starts_with(words)), "{used} of {max}: {said:?}");
        }
        assert_eq!(memory_pressure(None, Some("it was low")), None, "no limit");
        let most = Metaspace { used: u64::MAX, max: u64::MAX };
        assert!(memory_pressure(Some(most), None).is_some_and(|said| said.contains("restart the base")));
    }
}
