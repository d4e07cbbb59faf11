//! Restarts of the controller and of the base, at every point.

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::{World, listed, spec},
};
use crate::domain::*;

use ModuleState::Activated;

#[test]
fn force_deleted_pods_leave_nothing_behind_also_over_a_restart() {
    for restart in [false, true] {
        let mut w = World::serving(Mode::Default).0;
        w.pods.clear();
        if restart {
            w.restart_controller();
        }
        w.run_for(Duration::from_secs(30));
        assert_eq!(w.on_base(), [], "restart: {restart}");
    }
}

#[test]
fn an_install_is_ordered_when_it_is_on_record_and_not_before() {
    let mut w = World::new(Mode::Default);
    w.pod("a", 1, &[("biz1", "1")]);
    w.decide();
    w.deliver_command();
    w.deliver_answer(false);
    let plan = w.decide();
    assert_eq!((plan.commands, plan.unrecorded), (vec![], vec![ModuleId::new("biz1", "1")]));
    w.record();
    assert_eq!(w.decide().commands, [Command::Install(spec("biz1", "1"), Strategy::InstallOnly)]);
}

#[test]
fn a_death_right_after_an_install_was_ordered_leaves_nothing_behind() {
    let mut w = World::new(Mode::Default);
    w.pod("a", 1, &[("biz1", "1")]);
    w.step();
    w.deliver_command();
    w.deliver_answer(false);
    w.step();
    w.deliver_command();
    assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
    // Neither the answer nor any other record is there yet, and the Pod is gone at once.
    w.pods.clear();
    w.restart_controller();
    w.settle();
    assert_eq!(w.on_base(), []);
}

#[test]
fn no_uninstall_before_the_base_has_reported() {
    let mut w = World::serving(Mode::Default).0;
    w.pods.clear();
    w.restart_controller_and_hear();
    let plan = w.step();
    assert_eq!(plan.commands, [Command::QueryModules]);
}

#[test]
fn a_base_that_asks_for_its_baseline_gets_all_its_modules_in_one_batch() {
    let mut w = World::new(Mode::Default);
    for n in 0..20 {
        w.pod("a", 1, &[(&format!("biz{n:02}"), "1")]);
    }
    w.settle();
    let sent = w.sent.len();
    w.restart_base(true);
    w.settle();
    let [Command::Baseline(specs)] = &w.sent[sent..] else { panic!("{:?}", &w.sent[sent..]) };
    assert_eq!(specs.len(), 20);
    assert_eq!(w.on_base().len(), 20);
    assert!(w.pods.iter().all(|p| w.is_ready(&p.uid)));
}

#[test]
fn a_restarted_base_that_asks_nothing_is_made_whole_too() {
    for mode in MODES {
        let (mut w, old) = World::serving(mode);
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.run_for(Duration::from_secs(200));
        w.restart_base(false);
        w.run_for(Duration::from_secs(30));
        assert!(w.is_ready(&new), "{mode:?}");
        if mode == Mode::MultiActive {
            assert!(w.is_ready(&old));
        }
    }
}

#[test]
fn an_update_survives_a_restart_of_the_controller_at_every_point() {
    for mode in MODES {
        for point in 0..12 {
            let (mut w, old) = World::serving(mode);
            let new = w.pod("a", 2, &[("biz1", "2")]);
            for _ in 0..point {
                w.step();
                if point % 2 == 0 {
                    w.deliver_command();
                }
                w.deliver_answer(false);
            }
            w.restart_controller();
            w.run_for(Duration::from_secs(60));
            assert!(w.is_ready(&new), "{mode:?} {point}: {}", w.says(&new));
            match mode {
                Mode::MultiActive => assert!(w.is_ready(&old)),
                _ => assert_eq!(w.says(&old), "Superseded", "{mode:?} {point}"),
            }
        }
    }
}

#[test]
fn a_baseline_brings_modules_before_their_pods_and_takes_them_back_if_none_comes() {
    for comes in [true, false] {
        let mut w = World::new(Mode::Default);
        w.settle();
        w.base.asked_for_baseline(vec![spec("biz1", "1")], w.now);
        w.settle();
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
        if comes {
            let pod = w.pod("daemons", 1, &[("biz1", "1")]);
            w.settle();
            assert!(w.is_ready(&pod), "it adopts what runs");
        }
        w.run_for(Duration::from_secs(100));
        assert_eq!(w.on_base().is_empty(), !comes);
        assert_eq!(w.installs(), 0, "the baseline was all");
    }
}

#[test]
fn a_module_that_came_with_a_baseline_goes_with_its_pod() {
    let mut w = World::new(Mode::Default);
    w.settle();
    w.base.asked_for_baseline(vec![spec("biz1", "1")], w.now);
    w.settle();
    let pod = w.pod("daemons", 1, &[("biz1", "1")]);
    w.settle();
    w.delete(&pod);
    w.settle();
    assert!(!w.exists(&pod));
    assert_eq!(w.on_base(), []);
}

#[test]
fn an_update_survives_a_kill_before_anything_is_on_record() {
    let (mut w, old) = World::serving(Mode::ActivateNew);
    let new = w.pod("b", 1, &[("biz1", "2")]);
    w.step();
    w.deliver_command();
    w.saved = Ledger::default();
    w.restart_controller();
    w.run_for(Duration::from_secs(10));
    assert!(w.is_ready(&new));
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.installs(), 2, "{:?}", w.sent);
}

/// It is larger than what the broker takes, or than what we send; or it is lost with the connection.
#[test]
fn a_baseline_that_does_not_arrive_is_installed_one_by_one_and_is_one_restart() {
    for refused in [true, false] {
        let mut w = World::new(Mode::Default);
        let pods: Vec<_> = (0..6).map(|n| w.pod("a", 1, &[(&format!("biz{n}"), "1")])).collect();
        w.settle();
        w.restart_base(true);
        let sent = w.sent.len();
        w.step();
        assert!(matches!(&w.sent[sent..], [Command::Baseline(specs)] if specs.len() == 6), "{:?}", &w.sent[sent..]);
        w.to_base.clear();
        if refused {
            let baseline = w.sent[sent].clone();
            w.base.undeliverable(&baseline, "it has many bytes", w.now);
        } else {
            w.base.connection_lost(w.now);
            w.now += Duration::from_secs(1);
            w.base.connection_back(w.now);
        }
        w.run_for(Duration::from_secs(20));
        assert_eq!(w.sent[sent + 1..].len(), 6, "{:?}", &w.sent[sent..]);
        for pod in &pods {
            assert!(w.is_ready(pod), "refused: {refused}");
            assert_eq!(w.restarts(pod), 1, "refused: {refused}");
        }
        // Another JVM is another restart.
        w.restart_base(true);
        w.settle();
        assert!(pods.iter().all(|pod| w.is_ready(pod) && w.restarts(pod) == 2));
    }
}
