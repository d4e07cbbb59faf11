//! Pods whose base has not had its turn in a release.

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::{World, listed},
};
use crate::domain::{Command, ModuleState::Activated, PodUid};

fn held_back(w: &mut World, uid: &PodUid, waits: bool) {
    w.change(uid, |pod| pod.held_back = waits.then(|| "its batch".into()));
}

/// Revision 1 serves, and a Pod of revision 2 awaits its batch.
fn waiting(mode: Mode) -> (World, PodUid, PodUid) {
    let (mut w, old) = World::serving(mode);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    held_back(&mut w, &new, true);
    w.run_for(Duration::from_secs(600));
    (w, old, new)
}

#[test]
fn a_pod_waits_for_its_batch_without_a_command_and_comes_with_its_release() {
    for mode in MODES {
        let (mut w, old, new) = waiting(mode);
        assert_eq!((w.installs(), w.says(&new), &*w.message(&new)), (1, "AwaitingBatch", "its batch"), "{mode:?}");
        assert!(w.is_ready(&old));
        held_back(&mut w, &new, false);
        w.settle();
        assert!(w.is_ready(&new), "{mode:?}");
    }
}

#[test]
fn the_last_version_stays_though_its_pod_is_deleted_and_ends_with_the_release() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let (mut w, old, new) = waiting(mode);
        w.delete(&old);
        w.run_for(Duration::from_secs(600));
        assert!(!w.exists(&old), "its Pod need not wait");
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]), "{mode:?}");
        w.restart_controller_and_hear();
        w.run_for(Duration::from_secs(600));
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]), "{mode:?}");
        held_back(&mut w, &new, false);
        w.run_for(Duration::from_secs(60));
        assert!(w.is_ready(&new));
        assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]), "{mode:?}");
    }
}

#[test]
fn what_stays_for_a_successor_goes_with_it() {
    let (mut w, old, new) = waiting(Mode::ActivateNew);
    w.delete(&old);
    w.run_for(Duration::from_secs(60));
    w.delete(&new);
    w.run_for(Duration::from_secs(60));
    assert_eq!((w.on_base(), w.pods.len()), (vec![], 0));
}

#[test]
fn nothing_stays_for_a_pod_of_another_workload_that_waits() {
    let (mut w, old) = World::serving(Mode::ActivateNew);
    let other = w.pod("b", 2, &[("biz1", "2")]);
    held_back(&mut w, &other, true);
    w.settle();
    w.delete(&old);
    w.run_for(Duration::from_secs(60));
    assert_eq!(w.on_base(), []);
}

#[test]
fn a_base_that_restarts_gets_what_it_had() {
    for asks in [true, false] {
        let (mut w, old, new) = waiting(Mode::ActivateNew);
        w.restart_base(asks);
        w.run_for(Duration::from_secs(120));
        assert!(w.is_ready(&old), "asks: {asks}");
        assert_eq!(w.says(&new), "AwaitingBatch");
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
        let news = |c: &Command| c.installs().iter().any(|spec| spec.id.version == "2");
        assert!(!w.sent.iter().any(news), "asks: {asks}");
    }
}

#[test]
fn a_stable_pod_that_comes_back_finds_what_stayed_for_its_successor() {
    let (mut w, old, new) = waiting(Mode::ActivateNew);
    w.delete(&old);
    w.run_for(Duration::from_secs(60));
    let back = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&back));
    assert_eq!((w.installs(), w.says(&new)), (1, "AwaitingBatch"));
}

#[test]
fn a_web_module_is_not_replaced_before_its_turn() {
    let (mut w, old) = World::serving(Mode::Default);
    w.jvm.web = true;
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.change(&new, |pod| pod.replaces = true);
    held_back(&mut w, &new, true);
    w.run_for(Duration::from_secs(600));
    assert!(w.is_ready(&old));
    assert_eq!((w.installs(), w.uninstalls(), w.says(&new)), (1, 0, "AwaitingBatch"));
}

#[test]
fn what_was_deleted_before_its_successor_came_waits_for_it_for_a_time() {
    for (mode, comes) in [(Mode::Default, true), (Mode::ActivateNew, true), (Mode::ActivateNew, false)] {
        let (mut w, pod) = World::serving(mode);
        w.change(&pod, |pod| pod.lingers = true);
        w.delete(&pod);
        w.run_for(Duration::from_secs(60));
        assert!(w.exists(&pod), "it is not done before");
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
        if comes {
            let back = w.pod("a", 2, &[("biz1", "2")]);
            w.run_for(Duration::from_secs(40));
            assert!(w.is_ready(&back) && !w.exists(&pod), "{mode:?}");
            assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
        } else {
            w.run_for(Duration::from_secs(70));
            assert_eq!((w.on_base(), w.pods.len()), (vec![], 0), "not for ever");
        }
    }
}
