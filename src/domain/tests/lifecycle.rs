//! The rows of the module lifecycle that users rely on.

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::{World, listed},
};
use crate::domain::*;

use ModuleState::Activated;

#[test]
fn one_install_and_one_uninstall_for_a_module_in_the_quiet_case() {
    for mode in MODES {
        let (mut w, pod) = World::serving(mode);
        assert!(w.is_ready(&pod));
        w.delete(&pod);
        w.settle();
        assert!(!w.exists(&pod));
        assert_eq!(w.on_base(), []);
        assert_eq!((w.installs(), w.uninstalls()), (1, 1));
        w.run_for(Duration::from_secs(3600));
        assert_eq!((w.installs(), w.uninstalls()), (1, 1));
    }
}

#[test]
fn of_two_workloads_the_later_takes_over_once_and_the_first_comes_back_when_it_goes() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let mut w = World::serving(mode).0;
        w.replaces = true;
        let second = w.pod("b", 1, &[("biz1", "2")]);
        w.run_for(Duration::from_secs(1800));
        assert!(w.is_ready(&second));
        assert_eq!(w.created, 3);
        let held = w.pods.iter().find(|p| p.uid.starts_with("a-")).unwrap().uid.clone();
        assert_eq!(w.says(&held), "Held");
        w.replaces = false;
        w.delete(&second);
        w.settle();
        assert!(w.is_ready(&held), "{}", w.says(&held));
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
    }
}

#[test]
fn a_replaced_pod_of_the_holder_finds_its_claim_unbroken() {
    let mut w = World::serving(Mode::ActivateNew).0;
    w.replaces = true;
    let second = w.pod("b", 1, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(120));
    let before = w.installs();
    w.delete(&second);
    w.step();
    w.deliver_command();
    w.deliver_answer(false);
    let replacement = w.pod("b", 1, &[("biz1", "2")]);
    w.settle();
    assert!(w.is_ready(&replacement));
    assert_eq!(w.installs(), before + 1, "no detour over the held version");
}

#[test]
fn two_pods_with_one_version_share_the_module_until_the_last_goes() {
    for mode in MODES {
        let (mut w, one) = World::serving(mode);
        let two = w.pod("b", 1, &[("biz1", "1")]);
        w.settle();
        assert!(w.is_ready(&one) && w.is_ready(&two));
        w.delete(&one);
        w.settle();
        assert!(!w.exists(&one) && w.is_ready(&two));
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
        w.delete(&two);
        w.settle();
        assert_eq!(w.on_base(), []);
        assert_eq!((w.installs(), w.uninstalls()), (1, 1));
    }
}

#[test]
fn a_pod_with_several_modules_is_ready_when_all_are() {
    let mut w = World::new(Mode::Default);
    w.jvm.broken.insert("bad".into());
    let pod = w.pod("a", 1, &[("biz1", "1"), ("biz2", "bad")]);
    w.settle();
    assert!(!w.is_ready(&pod));
    assert!(w.outcomes[&pod].containers[0].active());
    w.jvm.broken.clear();
    w.run_for(Duration::from_secs(20));
    assert!(w.is_ready(&pod));
    w.delete(&pod);
    w.settle();
    assert_eq!(w.on_base(), []);
}

#[test]
fn a_module_that_disappears_is_installed_again_and_counted() {
    let (mut w, pod) = World::serving(Mode::Default);
    w.jvm.list.clear();
    w.run_for(Duration::from_secs(30));
    assert!(w.is_ready(&pod));
    assert_eq!(w.outcomes[&pod].containers[0], ContainerOutcome::Active { restarts: 1, health: Health::Ready });
    assert_eq!(w.installs(), 2);
}

#[test]
fn modules_that_others_put_there_are_never_touched() {
    for mode in MODES {
        let mut w = World::new(mode);
        w.jvm.list.insert(ModuleId::new("by-hand", "1"), Activated);
        w.jvm.list.insert(ModuleId::new("biz1", "0"), Activated);
        let pod = w.pod("a", 1, &[("biz1", "1")]);
        w.run_for(Duration::from_secs(600));
        let state = |id: &str| w.on_base().into_iter().find(|(m, _)| m == id).map(|(_, s)| s);
        assert_eq!(state("by-hand:1"), Some(Activated));
        assert!(state("biz1:0").is_some(), "{mode:?}");
        if mode == Mode::Default {
            assert_eq!(w.says(&pod), "ForeignModule");
        } else {
            assert!(w.is_ready(&pod));
        }
        w.delete(&pod);
        w.settle();
        assert!(w.on_base().iter().all(|(id, _)| id == "by-hand:1" || id == "biz1:0"));
    }
}

#[test]
fn at_most_four_commands_are_in_flight_on_a_base() {
    let mut w = World::new(Mode::Default);
    for n in 0..10 {
        w.pod("a", 1, &[(&format!("biz{n}"), "1")]);
    }
    w.step();
    w.deliver_command();
    w.deliver_answer(false);
    w.step();
    assert_eq!(w.installs(), 4);
    w.step();
    assert_eq!(w.installs(), 4);
    w.settle();
    assert_eq!(w.installs(), 10);
}

#[test]
fn pre_stop_sleep_delays_the_uninstall() {
    let (mut w, pod) = World::serving(Mode::Default);
    w.pods[0].deleting = Some(Duration::from_secs(7));
    w.run_for(Duration::from_secs(6));
    assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
    w.run_for(Duration::from_secs(3));
    assert_eq!(w.on_base(), []);
    assert!(!w.exists(&pod));
}

#[test]
fn a_jar_that_is_another_module_is_removed_and_named() {
    let mut w = World::new(Mode::Default);
    let pod = w.pod("a", 1, &[("biz9", "9")]);
    w.step();
    w.deliver_command();
    w.deliver_answer(false);
    w.step();
    // As recorded: the reply names what was asked, `bizInfos` and the list what the jar holds.
    // It may be in the list already while it starts.
    w.to_base.clear();
    w.jvm.list.insert(ModuleId::new("biz1", "1"), Activated);
    let answer = Answer::Done { actual: Some(ModuleId::new("biz1", "1")) };
    w.base.replied(Reply { command: "installBiz", module: Some(ModuleId::new("biz9", "9")), answer, space: None });
    w.jvm.broken.insert("9".into());
    w.settle();
    assert_eq!(w.says(&pod), "ModuleMismatch");
    let message = w.message(&pod);
    assert!(message.contains("biz1:1") && message.contains("biz9:9"), "{message}");
    assert_eq!(w.on_base(), [], "the stray module is removed");
}
