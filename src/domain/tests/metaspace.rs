//! Modules wait where their base's metaspace has no room for them. The base of these tests dies of one too many.

mod anything;
mod collected;

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::World,
};
use crate::domain::*;

const MIB: u64 = 1 << 20;
const MINUTE: Duration = Duration::from_secs(60);

/// A base with 256 MiB, and modules that take 30 each; what they need is known.
fn limited(mode: Mode, used: u64) -> World {
    let mut w = World::new(mode);
    w.jvm.metaspace = Some(Metaspace { used: used * MIB, max: 256 * MIB });
    for name in ["biz1", "biz2", "biz3", "biz4"] {
        w.jvm.takes.insert(name.to_owned(), 30 * MIB);
        w.needs.learn(Took { module: ModuleId::new(name, "1"), bytes: 30 * MIB });
    }
    w.hear_metaspace();
    w
}

fn uses(w: &mut World, used: u64) {
    w.jvm.metaspace = Some(Metaspace { used: used * MIB, max: 256 * MIB });
}

fn is_waiting(w: &World, pod: &PodUid, left: u64) {
    let expected =
        format!("needs about 30 MiB of metaspace, and {left} of 256 MiB are left for modules: restart base-1");
    assert_eq!(w.says(pod), "InsufficientMetaspace");
    assert!(w.message(pod).contains(&expected), "{}", w.message(pod));
}

#[test]
fn what_an_install_took_is_learned_if_it_ran_alone() {
    let mut w = limited(Mode::Default, 0);
    w.needs = Needs::default();
    w.slow = Some(Duration::from_secs(2));
    w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert_eq!(w.needs.of(&ModuleId::new("biz1", "1")), Some(30 * MIB));
    w.pod("b", 1, &[("biz2", "1")]);
    w.run_for(Duration::from_secs(1));
    w.pod("c", 1, &[("biz3", "1")]);
    w.run_for(MINUTE);
    assert_eq!(w.on_base().len(), 3);
    for other in ["biz2", "biz3"] {
        assert_eq!(w.needs.of(&ModuleId::new(other, "1")), None, "{other}");
    }
}

#[test]
fn a_module_that_will_not_fit_waits_and_goes_on_when_it_fits() {
    let mut w = limited(Mode::Default, 225);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    is_waiting(&w, &pod, 18); // up to 95 %
    assert_eq!((w.restarts(&pod), w.installs()), (0, 0));
    w.run_for(10 * MINUTE);
    assert_eq!(w.installs(), 0);
    uses(&mut w, 213);
    w.run_for(Duration::from_secs(21));
    assert!(w.is_ready(&pod));
}

#[test]
fn its_words_stay_while_what_is_left_comes_and_goes() {
    let mut w = limited(Mode::Default, 225);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    for used in [226, 240, 256, 230] {
        uses(&mut w, used);
        w.run_for(MINUTE);
        is_waiting(&w, &pod, 18);
    }
    let words: Vec<_> = w.words.iter().filter(|(_, word, _)| *word == "InsufficientMetaspace").collect();
    assert_eq!(words.len(), 1, "{words:?}");
}

#[test]
fn its_words_stay_while_another_version_goes() {
    for mode in MODES {
        let mut w = limited(mode, 190);
        let old = w.pod("a", 1, &[("biz1", "1")]);
        w.run_for(MINUTE);
        let new = w.pod("b", 1, &[("biz1", "2")]);
        w.run_for(MINUTE);
        w.delete(&old);
        w.run_for(MINUTE);
        assert!(!w.exists(&old));
        is_waiting(&w, &new, 23);
        assert!(!w.ever_said(&new, "Installing"));
    }
}

#[test]
fn nobody_waits_for_ever_for_a_base_that_says_nothing_of_its_metaspace_any_more() {
    let mut w = limited(Mode::Default, 240);
    w.jvm.says_no_metaspace = true;
    w.run_for(10 * MINUTE);
    uses(&mut w, 100);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.run_for(Duration::from_secs(110));
    assert_eq!((w.says(&pod), w.installs()), ("Installing", 0));
    w.run_for(Duration::from_secs(40));
    assert!(w.is_ready(&pod));
}

#[test]
fn those_that_come_at_once_are_let_in_as_far_as_they_fit_together() {
    for slow in [None, Some(Duration::from_secs(3))] {
        let mut w = limited(Mode::Default, 145);
        w.slow = slow;
        let pods: Vec<_> = ["biz1", "biz2", "biz3", "biz4"].map(|name| w.pod(name, 1, &[(name, "1")])).into();
        w.run_for(2 * MINUTE);
        let ready = pods.iter().filter(|pod| w.is_ready(pod)).count();
        assert_eq!((ready, w.says(&pods[3])), (3, "InsufficientMetaspace"));
        // A module that is smaller is not held up.
        w.jvm.takes.insert("small".to_owned(), 5 * MIB);
        w.needs.learn(Took { module: ModuleId::new("small", "1"), bytes: 5 * MIB });
        let small = w.pod("d", 1, &[("small", "1")]);
        w.run_for(MINUTE);
        assert!(w.is_ready(&small));
    }
}

#[test]
fn an_update_waits_while_the_old_version_serves_and_uninstalls_never_wait() {
    for mode in MODES {
        let mut w = limited(mode, 180);
        let (old, other) = (w.pod("a", 1, &[("biz1", "1")]), w.pod("b", 1, &[("biz2", "1")]));
        w.run_for(MINUTE);
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.run_for(MINUTE);
        is_waiting(&w, &new, 3);
        assert!(w.is_ready(&old) && w.is_ready(&other));
        w.delete(&other);
        w.settle();
        assert!(!w.exists(&other));
        assert_eq!(w.says(&new), "InsufficientMetaspace", "the JVM has not given anything back");
        uses(&mut w, 150);
        w.run_for(2 * MINUTE);
        assert!(w.is_ready(&new), "{mode:?}: {}", w.message(&new));
    }
}

#[test]
fn a_replacement_that_will_not_fit_takes_nothing_away() {
    let mut w = limited(Mode::ActivateNew, 192);
    w.jvm.web = true;
    let old = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.change(&new, |pod| pod.replaces = true);
    w.run_for(MINUTE);
    is_waiting(&w, &new, 21);
    assert!(w.is_ready(&old));
    assert!(!w.ever_said(&old, "Replacing"));
    uses(&mut w, 160);
    w.run_for(MINUTE);
    assert!(w.is_ready(&new), "{}", w.message(&new));
}

#[test]
fn what_ran_in_its_pod_is_not_kept_out_of_its_own_place() {
    let mut w = limited(Mode::Default, 100);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    uses(&mut w, 226);
    w.hear_metaspace();
    w.jvm.list.clear();
    w.run_for(MINUTE);
    assert!(w.is_ready(&pod));
    assert!(!w.ever_said(&pod, "InsufficientMetaspace"));
}

#[test]
fn who_says_so_does_not_wait() {
    let mut w = limited(Mode::Default, 225);
    w.jvm.takes.clear(); // it fits after all
    let (one, other) = (w.pod("a", 1, &[("biz1", "1")]), w.pod("b", 1, &[("biz2", "1")]));
    w.change(&one, |pod| pod.ignores_metaspace = true);
    w.run_for(MINUTE);
    assert!(w.is_ready(&one));
    assert_eq!(w.says(&other), "InsufficientMetaspace");

    let metaspace = MetaspaceRules { waits: false, ..MetaspaceRules::default() };
    let mut w = World::with(Mode::Default, Settings { metaspace, ..Settings::default() });
    w.jvm.metaspace = Some(Metaspace { used: 255 * MIB, max: 256 * MIB });
    w.needs.learn(Took { module: ModuleId::new("biz1", "1"), bytes: 30 * MIB });
    w.hear_metaspace();
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&pod));
}

#[test]
fn a_base_without_a_limit_and_a_module_that_nobody_knows_do_not_wait() {
    let mut w = limited(Mode::Default, 255);
    w.jvm.takes.clear();
    let unknown = w.pod("a", 1, &[("biz9", "1")]);
    w.settle();
    assert!(w.is_ready(&unknown));
    w.jvm.metaspace = None;
    w.base.measured(None, w.now);
    let pod = w.pod("b", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&pod));
}

#[test]
fn the_next_process_knows_from_the_pods_status_what_it_waits_for() {
    let mut w = limited(Mode::Default, 225);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    w.save();
    w.restart_controller_and_hear();
    w.base.jvm = Default::default();
    w.run_for(10 * MINUTE);
    is_waiting(&w, &pod, 18);
    assert_eq!(w.installs(), 0);
    let another = w.pod("b", 1, &[("biz1", "2")]);
    w.settle();
    is_waiting(&w, &another, 18);
    w.delete(&another);
    w.settle();
    w.jvm.says_no_metaspace = true;
    w.restart_controller_and_hear();
    w.base.jvm = Default::default();
    uses(&mut w, 0);
    w.run_for(MINUTE);
    assert_eq!(w.installs(), 0);
    w.run_for(2 * MINUTE);
    assert!(w.is_ready(&pod), "but not for ever: {} {}", w.says(&pod), w.message(&pod));
}

#[test]
fn a_jvm_that_is_new_lets_it_in() {
    for asks_for_baseline in [true, false] {
        let mut w = limited(Mode::Default, 192);
        let (one, other) = (w.pod("a", 1, &[("biz1", "1")]), w.pod("b", 1, &[("biz2", "1")]));
        w.run_for(MINUTE);
        assert!(w.is_ready(&one));
        is_waiting(&w, &other, 21);
        uses(&mut w, 100);
        w.restart_base(asks_for_baseline);
        w.run_for(MINUTE);
        assert!(w.is_ready(&one) && w.is_ready(&other), "{} {}", w.message(&one), w.message(&other));
    }
}

#[test]
fn what_a_status_says_is_read_back_and_nothing_else_is() {
    let id = ModuleId::new("biz1", "1");
    let mut w = limited(Mode::Default, 225);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    let message = w.message(&pod);
    assert_eq!(lack_of(&id, &message).map(|lack| lack.words(&id, "base-1")), Some(message.clone()));
    assert_eq!(lack_of(&ModuleId::new("biz1", "11"), &message), None);
    for wrong in ["", "biz1:1", "biz1:1 needs about much MiB of metaspace, and 1 of 2 MiB are left for modules"] {
        assert_eq!(lack_of(&id, wrong), None, "{wrong}");
    }
    assert_eq!(lack_of(&id, &message.replace(" 30 ", " 99999999999 ")), None);
}

#[test]
fn what_a_module_leaves_behind_is_what_it_took_and_the_base_did_not_give_back() {
    let mut w = limited(Mode::Default, 100);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.run_for(MINUTE);
    w.delete(&pod);
    w.run_for(MINUTE);
    assert_eq!(w.base.metaspace().1, Some(30 * MIB), "all of it");
    uses(&mut w, 110);
    w.hear_metaspace();
    assert_eq!(w.base.metaspace().1, Some(10 * MIB), "the JVM has collected it meanwhile");
    w.pod("b", 1, &[("biz2", "1")]);
    w.run_for(MINUTE);
    assert_eq!(w.base.metaspace(), (Some(Metaspace { used: 140 * MIB, max: 256 * MIB }), Some(10 * MIB)));
}
