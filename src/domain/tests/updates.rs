//! Newer versions of a module, and older ones again: who takes over, who is held, and what goes when.

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::{World, listed},
};
use crate::domain::*;

use ModuleState::{Activated, Deactivated};

#[test]
fn an_update_on_a_base_that_activates_new_versions_has_one_install_and_one_uninstall() {
    let (mut w, old) = World::serving(Mode::ActivateNew);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert!(w.is_ready(&new));
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.on_base(), listed(&[("biz1:1", Deactivated), ("biz1:2", Activated)]), "it may finish its requests");
    w.delete(&old);
    w.settle();
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
    assert_eq!((w.installs(), w.uninstalls()), (2, 1));
}

#[test]
fn an_update_on_a_base_with_default_settings_switches_once_the_new_version_has_started() {
    let (mut w, old) = World::serving(Mode::Default);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert!(w.is_ready(&new));
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
    let switch = w.sent.last().unwrap();
    assert!(switch.is_switch(), "{switch:?}");
    assert_eq!(
        (w.installs(), w.uninstalls()),
        (4, 0),
        "started, looked whether the jar can be fetched again, switched"
    );
}

#[test]
fn a_base_that_keeps_several_versions_active_has_both_pods_ready() {
    let (mut w, old) = World::serving(Mode::MultiActive);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(600));
    assert!(w.is_ready(&old) && w.is_ready(&new));
    w.delete(&old);
    w.settle();
    assert!(!w.exists(&old) && w.is_ready(&new));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
}

#[test]
fn a_broken_update_leaves_the_old_version_serving_and_backs_off() {
    for mode in MODES {
        let mut w = World::new(mode);
        w.jvm.broken.insert("2".into());
        let old = w.pod("a", 1, &[("biz1", "1")]);
        w.settle();
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.settle();
        assert!(w.is_ready(&old));
        assert_eq!(w.says(&new), "InstallFailed");
        let message = w.message(&new);
        assert!(message.contains("broken on purpose"), "{message}");
        w.run_for(Duration::from_secs(60));
        assert_eq!(w.installs(), 1 + 3, "at 0, 10 and 30 s");
        assert!(w.is_ready(&old));
        w.jvm.broken.clear();
        w.run_for(Duration::from_secs(60));
        assert!(w.is_ready(&new), "it is mended and tried again");
    }
}

#[test]
fn the_superseded_version_leaves_the_base_after_its_grace_and_its_pod_after_its_time_to_live() {
    let (mut w, old) = World::serving(Mode::ActivateNew);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(25));
    assert_eq!(w.on_base().len(), 2, "within the 30 s of grace");
    w.run_for(Duration::from_secs(20));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
    assert!(w.exists(&old));
    w.run_for(Duration::from_secs(30));
    assert!(!w.exists(&old));
    assert!(w.is_ready(&new));
    let late = w.pod("a", 1, &[("biz1", "1")]);
    w.run_for(Duration::from_secs(600));
    assert_eq!(w.says(&late), "Held", "what was superseded by whom is not forgotten with the Pod");
    assert!(w.is_ready(&new));
}

#[test]
fn replacements_of_an_old_revision_are_held_and_never_flip_the_base_back() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let mut w = World::serving(mode).0;
        w.replaces = true;
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.run_for(Duration::from_secs(1800));
        assert!(w.is_ready(&new));
        assert_eq!(w.created, 3, "one replacement, and no replacement of the replacement");
        let held = w.pods.iter().find(|p| p.uid.starts_with("a-1-")).unwrap().uid.clone();
        assert_eq!(w.says(&held), "Held");
        let message = w.message(&held);
        assert!(message.contains("biz1:2") && message.contains(&*new), "it names what it waits for: {message}");
        assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
    }
}

#[test]
fn rollout_undo_makes_the_older_version_active_again() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let mut w = World::serving(mode).0;
        w.replaces = true;
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.settle();
        w.replaces = false;
        // Undo: the old replica set becomes the newest revision; its held Pod has its turn.
        w.set_revision("a", 1, 3);
        w.settle();
        let held = w.pods.iter().find(|p| p.uid.starts_with("a-1-") && !p.terminal).unwrap().uid.clone();
        assert!(w.is_ready(&held), "{mode:?}: {}", w.says(&held));
        assert_eq!(w.says(&new), "Superseded");
        w.run_for(Duration::from_secs(600));
        assert!(w.is_ready(&held));
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
    }
}

#[test]
fn rollout_undo_counts_at_every_moment_of_the_update() {
    const MOMENTS: usize = 60;
    for (mode, moment) in [Mode::Default, Mode::ActivateNew].into_iter().flat_map(|m| (0..MOMENTS).map(move |n| (m, n)))
    {
        let mut w = World::serving(mode).0;
        w.replaces = true;
        w.pod("a", 2, &[("biz1", "2")]);
        for part in 0..moment {
            match part % 4 {
                0 => drop(w.step()),
                1 => w.deliver_command(),
                2 => w.deliver_answer(false),
                _ => w.write_status(),
            }
            w.save();
        }
        w.set_revision("a", 1, 3);
        w.settle();
        let live = w.pods.iter().find(|p| p.workload.revision == 3 && p.is_live()).unwrap().uid.clone();
        assert!(w.is_ready(&live), "{mode:?}, moment {moment}: {}", w.says(&live));
        w.run_for(Duration::from_secs(600));
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]), "{mode:?}, moment {moment}");
    }
}

#[test]
fn a_daemon_set_updates_by_uninstall_then_install() {
    let (mut w, old) = World::serving(Mode::Default);
    w.delete(&old);
    w.settle();
    assert_eq!(w.on_base(), []);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert!(w.is_ready(&new));
    assert_eq!((w.installs(), w.uninstalls()), (2, 1), "no switch is needed");
}

#[test]
fn a_pod_that_is_deleted_as_its_successor_becomes_ready_still_says_what_it_gave_way_to() {
    let (mut w, old) = World::serving(Mode::ActivateNew);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.pods[0].deleting = Some(Duration::from_secs(7));
    w.run_for(Duration::from_secs(6));
    assert!(w.is_ready(&new));
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.on_base().len(), 2, "it may finish its requests for as long as preStop.sleep lasts");
    w.run_for(Duration::from_secs(3));
    assert!(!w.exists(&old) && w.is_ready(&new));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
}

#[test]
fn a_module_without_a_successor_stays_though_its_pod_gave_way() {
    let mut w = World::new(Mode::ActivateNew);
    w.jvm.broken.insert("bad".into());
    let old = w.pod("a", 1, &[("biz1", "1"), ("biz2", "1")]);
    w.settle();
    let new = w.pod("b", 1, &[("biz1", "2"), ("biz2", "bad")]);
    w.run_for(Duration::from_secs(300));
    assert_eq!(w.says(&old), "Superseded");
    assert!(w.on_base().contains(&("biz2:1".to_owned(), Activated)), "{:?}", w.on_base());
    assert!(w.exists(&old));
    w.jvm.broken.clear();
    w.run_for(Duration::from_secs(600));
    assert!(w.is_ready(&new) && !w.exists(&old));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated), ("biz2:bad", Activated)]));
}

#[test]
fn a_version_that_came_back_and_is_wanted_no_more_goes_though_an_earlier_pod_of_it_gave_way() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let (mut w, old) = World::serving(mode);
        w.pod("a", 2, &[("biz1", "2")]);
        w.settle();
        assert_eq!(w.says(&old), "Superseded");
        let back = w.pod("a", 3, &[("biz1", "1")]);
        w.settle();
        assert!(w.is_ready(&back) && w.exists(&old), "{mode:?}");
        w.delete(&back);
        w.run_for(Duration::from_secs(600));
        assert_eq!((w.on_base(), w.pods.len()), (vec![], 0), "{mode:?}");
    }
}

#[test]
fn a_pod_that_gave_way_goes_in_time_though_its_version_serves_again() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let (mut w, old) = World::serving(mode);
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.settle();
        let back = w.pod("a", 3, &[("biz1", "1")]);
        w.settle();
        // One that waits for ever changes nothing.
        let held = w.pod("a", 2, &[("biz1", "2")]);
        w.run_for(Duration::from_secs(600));
        assert!(!w.exists(&old) && !w.exists(&new), "{mode:?}");
        assert_eq!((w.is_ready(&back), w.says(&held)), (true, "Held"), "{mode:?}");
        assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
    }
}

#[test]
fn a_module_that_the_next_version_does_without_goes_with_the_pod_that_gave_way() {
    let mut w = World::new(Mode::ActivateNew);
    let old = w.pod("a", 1, &[("biz1", "1"), ("biz2", "1")]);
    w.settle();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert_eq!(w.says(&old), "Superseded");
    assert!(w.on_base().contains(&("biz2:1".to_owned(), Activated)), "it may finish its requests");
    w.run_for(Duration::from_secs(600));
    assert!(w.is_ready(&new) && !w.exists(&old));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
}
