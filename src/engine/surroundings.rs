//! What the cluster around the bases is like, as far as their Nodes depend on it.

use crate::config::ZonePerBase;

/// Facts about the cluster.
#[derive(Debug)]
pub(super) struct Surroundings {
    zone_per_base: ZonePerBase,
    /// An ordinary Node has a zone. It stays so for as long as this process lives, also when that Node goes: zones that
    /// come and go with an autoscaler's Nodes would move other people's Pods.
    pub(super) zoned: bool,
    /// The version that Nodes say; no watch tells it.
    pub(super) kubelet_version: Option<String>,
    /// That Nodes of bases are given Pod CIDRs is in the log.
    pub(super) told_pod_cidrs: bool,
}

impl Surroundings {
    pub(super) fn new(zone_per_base: ZonePerBase) -> Self {
        Self { zone_per_base, zoned: false, kubelet_version: None, told_pod_cidrs: false }
    }

    /// Whether a base is a zone of its own. Where ordinary Nodes have zones that would stop hard spreads of other
    /// people's Pods, for no Pod of theirs may go to the bases' zones.
    pub(super) fn has_zone_per_base(&self) -> bool {
        match self.zone_per_base {
            ZonePerBase::Auto => !self.zoned,
            ZonePerBase::True => true,
            ZonePerBase::False => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_given_up_once_and_only_where_that_is_left_to_us() {
        for (option, before, after) in
            [(ZonePerBase::Auto, true, false), (ZonePerBase::True, true, true), (ZonePerBase::False, false, false)]
        {
            let mut around = Surroundings::new(option);
            assert_eq!(around.has_zone_per_base(), before, "{option:?}");
            around.zoned = true;
            assert_eq!(around.has_zone_per_base(), after, "{option:?}");
        }
    }
}
