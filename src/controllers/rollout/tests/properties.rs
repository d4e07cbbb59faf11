//! Whatever happens in whatever order.

use proptest::prelude::*;

use super::start::{BASES, confirmed, installed};
use crate::k8s::rollout::Phase;

/// What somebody does, or what happens to us, in the middle.
#[derive(Clone, Copy, Debug)]
enum Does {
    Confirm,
    Template(&'static str),
    Dies,
    Abort,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => Just(Does::Confirm),
        2 => prop_oneof![Just("1"), Just("2"), Just("3")].prop_map(Does::Template),
        2 => Just(Does::Dies),
        1 => Just(Does::Abort),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Whatever is late and in whatever order: no base is ever without a version, and none is told of a revision that it
    /// was not released to. Where Kubernetes chooses the bases, by number, the first is so as long as nobody changes the
    /// release: on the way back Pods are not Ready for a moment, and a template after that has them deleted for good.
    #[test]
    fn never_fewer_bases_than_promised_and_none_outside_the_released(
        seed: u64,
        surge in prop_oneof![Just(BASES), Just(BASES), Just(1_usize), Just(3)],
        all in prop::collection::vec((50..400_usize, does()), 1..8),
    ) {
        let mut cluster = installed(surge, 0, confirmed(), seed);
        let (mut confirmed, mut is_changed) = (0, false);
        let full = |is_changed: bool, fewest| fewest == BASES || is_changed && surge < BASES;
        cluster.deployment.template = "2";
        let mut templates = 1;
        for (moments, does) in all {
            for _ in 0..moments {
                cluster.happens();
                prop_assert!(full(is_changed, cluster.fewest), "{} of {BASES}", cluster.fewest);
                // One base, and what was confirmed: of each of the templates.
                let most = match (templates, confirmed) { (1, 0) => 1, (1, 1) => 4, _ => BASES };
                let touched = cluster.touched.get("2").map_or(0, Vec::len);
                prop_assert!(touched <= most, "{} of {}: {:?}", touched, most, cluster.status());
            }
            is_changed |= matches!(does, Does::Template(_) | Does::Abort);
            match does {
                Does::Confirm => {
                    confirmed += 1;
                    cluster.says("confirm");
                }
                Does::Template(hash) => {
                    templates += usize::from(cluster.deployment.template != hash);
                    cluster.deployment.template = hash;
                }
                Does::Dies => cluster.begin(),
                Does::Abort => cluster.says("abort"),
            }
        }
        // It comes to an end.
        for _ in 0..4 {
            cluster.says("confirm-all");
            cluster.runs(100);
            if cluster.status().phase == Some(Phase::Blocked) {
                cluster.says("retry");
            }
        }
        let last = cluster.deployment.template;
        prop_assert_eq!(cluster.with(last), BASES, "{:?}", cluster.status());
        prop_assert!(full(is_changed, cluster.fewest), "{} of {BASES}", cluster.fewest);
        prop_assert!(matches!(cluster.status().phase, Some(Phase::Completed | Phase::Idle)), "{:?}", cluster.status());
    }
}
