//! Whatever comes and goes, in any order.

use std::time::Duration;

use proptest::prelude::{Strategy, *};

use super::{super::jvm::MODES, MIB, MINUTE, limited};
use crate::domain::{ModuleId, Took};

#[derive(Clone, Debug)]
enum Step {
    /// A Pod of that module and version comes.
    Comes(usize, i64),
    /// A Pod goes.
    Goes(usize),
    /// The JVM collects what is not loaded any more.
    Collects,
    Passes(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, 1..4_i64).prop_map(|(module, version)| Step::Comes(module, version)),
        1 => (0..8_usize).prop_map(Step::Goes),
        1 => Just(Step::Collects),
        2 => (0..90_u64).prop_map(Step::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The base of the test panics when it is out of metaspace.
    #[test]
    fn whatever_comes_and_goes_the_base_does_not_die_of_it(
        mode in prop::sample::select(MODES.to_vec()), slow in any::<bool>(), leaks in any::<bool>(), used in 0..256_u64,
        sizes in prop::array::uniform4(1..60_u64), steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut w = limited(mode, used);
        w.slow = slow.then(|| Duration::from_secs(4));
        w.jvm.collects_to = (!leaks).then_some(used * MIB);
        let names = ["biz1", "biz2", "biz3", "biz4"];
        for (name, size) in names.iter().zip(sizes) {
            w.jvm.takes.insert((*name).to_owned(), size * MIB);
            w.needs.learn(Took { module: ModuleId::new(*name, "1"), bytes: size.max(30) * MIB });
        }
        for step in steps {
            match step {
                Step::Comes(module, version) => {
                    w.pod(names[module], version, &[(names[module], &version.to_string())]);
                }
                Step::Goes(index) => {
                    let uid = w.pods.get(index).map(|pod| pod.uid.clone());
                    uid.iter().for_each(|uid| w.delete(uid));
                }
                Step::Collects => w.jvm.collect(),
                Step::Passes(seconds) => w.run_for(Duration::from_secs(seconds)),
            }
        }
        w.run_for(10 * MINUTE);
    }
}
