//! What a base cannot load beside what it has makes room: web modules with one context path, and one version twice.

use std::time::Duration;

use super::{
    jvm::Mode,
    world::{World, change_jar},
};
use crate::domain::*;

use ModuleState::Activated;

const MINUTE: Duration = Duration::from_secs(60);

/// A base of web modules with version 1 of biz1, and its Pod.
fn web() -> (World, PodUid) {
    let mut w = World::new(Mode::ActivateNew);
    w.jvm.web = true;
    let old = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&old));
    (w, old)
}

/// A newer revision that asks for room.
fn replacing(w: &mut World, version: &str) -> PodUid {
    let new = w.pod("a", 2, &[("biz1", version)]);
    w.change(&new, |pod| pod.replaces = true);
    new
}

fn is_on_base(w: &World, version: &str) {
    assert_eq!(w.on_base(), [(format!("biz1:{version}"), Activated)]);
}

#[test]
fn without_the_annotation_the_old_version_serves_on() {
    let (mut w, old) = web();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(10 * MINUTE);
    assert!(w.is_ready(&old));
    assert_eq!(w.says(&new), "WebContextInUse");
    assert_eq!(w.orders()[1..], ["install 2"]);
}

#[test]
fn the_old_pod_leaves_its_services_and_its_requests_end_before_it_makes_room() {
    for (drain, expected) in [(20, 20), (0, 5)] {
        let (mut w, old) = web();
        w.change(&old, |pod| pod.drain = Duration::from_secs(drain));
        let new = replacing(&mut w, "2");
        w.run_for(Duration::from_millis(100));
        assert!(!w.is_ready(&old), "it has left its Services");
        assert_eq!((w.says(&old), w.says(&new)), ("Active", "Replacing"));
        is_on_base(&w, "1");
        w.run_for(Duration::from_secs(expected - 1));
        is_on_base(&w, "1");
        w.run_for(Duration::from_secs(2));
        is_on_base(&w, "2");
        assert!(w.is_ready(&new));
        assert_eq!(w.says(&old), "Superseded");
        w.run_for(10 * MINUTE);
        assert_eq!(w.orders()[1..], ["install 2", "uninstall 1", "install 2"]);
        assert!(!w.ever_said(&new, "InstallFailed") && !w.ever_said(&new, "WebContextInUse"), "{:?}", w.words);
        assert_eq!(w.restarts(&new), 0);
    }
}

#[test]
fn it_does_not_leave_before_the_api_shows_that_it_is_not_ready() {
    let (mut w, old) = web();
    replacing(&mut w, "2");
    for _ in 0..200 {
        // Everything but statuses goes through.
        w.now += Duration::from_secs(1);
        w.step();
        while !(w.to_base.is_empty() && w.from_base.is_empty()) {
            w.deliver_command();
            w.deliver_answer(false);
        }
        w.save();
    }
    assert!(w.pods.iter().any(|p| p.uid == old && p.shown_ready));
    is_on_base(&w, "1");
    w.run_for(MINUTE);
    is_on_base(&w, "2");
}

#[test]
fn a_version_that_does_not_start_gives_the_place_back_and_is_not_tried_again() {
    let (mut w, old) = web();
    let new = replacing(&mut w, "2");
    w.settle();
    w.jvm.broken.insert("2".into());
    w.run_for(30 * MINUTE);
    is_on_base(&w, "1");
    assert!(w.is_ready(&old));
    assert_eq!(w.restarts(&old), 1);
    assert_eq!(w.says(&new), "InstallFailed");
    for words in ["broken on purpose", "is back"] {
        assert!(w.message(&new).contains(words), "{}", w.message(&new));
    }
    assert_eq!(w.orders()[1..], ["install 2", "uninstall 1", "install 2", "install 1"]);

    // Also not by a process that knows only what the Pods' statuses say.
    w.restart_controller_and_hear();
    w.run_for(30 * MINUTE);
    is_on_base(&w, "1");
    assert!(w.is_ready(&old));
    assert_eq!(w.uninstalls(), 1, "{:?}", w.orders());

    // A Pod of the next revision has its try.
    w.jvm.broken.clear();
    w.delete(&new);
    let next = w.pod("a", 3, &[("biz1", "3")]);
    w.change(&next, |pod| pod.replaces = true);
    w.run_for(MINUTE);
    is_on_base(&w, "3");
    assert!(w.is_ready(&next));
}

#[test]
fn a_jar_that_cannot_be_fetched_takes_nothing_away() {
    let (mut w, old) = web();
    w.jvm.fetches.insert("2".into(), 0);
    let new = replacing(&mut w, "2");
    w.run_for(10 * MINUTE);
    assert!(w.is_ready(&old));
    assert_eq!((w.says(&new), w.uninstalls()), ("InstallFailed", 0));
}

#[test]
fn an_uninstall_that_fails_ends_the_attempt() {
    let (mut w, old) = web();
    w.jvm.stuck = true;
    let new = replacing(&mut w, "2");
    w.run_for(MINUTE);
    assert!(w.is_ready(&old), "{}", w.says(&old));
    assert_eq!(w.says(&new), "InstallFailed");
    assert!(w.uninstalls() <= 2, "{:?}", w.orders());
}

#[test]
fn a_new_pod_that_goes_again_gives_everything_back() {
    for after in [1, 4, 6] {
        let (mut w, old) = web();
        w.change(&old, |pod| pod.drain = Duration::from_secs(5));
        let new = replacing(&mut w, "2");
        w.slow = Some(Duration::from_secs(3));
        w.run_for(Duration::from_secs(after));
        w.delete(&new);
        w.run_for(2 * MINUTE);
        is_on_base(&w, "1");
        assert!(w.is_ready(&old) && !w.exists(&new), "after {after} s: {:?}", w.orders());
    }
}

#[test]
fn a_restart_of_us_or_of_the_base_at_any_moment_ends_the_same() {
    for base in [false, true] {
        for after in 0..14 {
            let (mut w, old) = web();
            let new = replacing(&mut w, "2");
            w.slow = Some(Duration::from_secs(2));
            w.run_for(Duration::from_secs(after));
            if base {
                w.restart_base(true);
            } else {
                w.restart_controller_and_hear();
            }
            w.run_for(5 * MINUTE);
            is_on_base(&w, "2");
            assert!(w.is_ready(&new) && w.says(&old) == "Superseded", "{after} s: {:?}", w.orders());
        }
    }
}

#[test]
fn a_context_that_another_module_has_is_said_and_backs_off() {
    let mut w = World::new(Mode::ActivateNew);
    w.jvm.web = true;
    w.jvm.holds_context = Some("biz1".into());
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.change(&pod, |pod| pod.replaces = true);
    w.run_for(MINUTE);
    assert_eq!(w.says(&pod), "WebContextInUse");
    assert!(w.message(&pod).contains("another module"), "{}", w.message(&pod));
    assert!(w.installs() <= 4, "{} installs in a minute", w.installs());
}

#[test]
fn a_pod_that_asks_for_room_gets_it_also_from_the_same_version_and_only_once() {
    let mut w = World::new(Mode::Default);
    let old = w.pod("a", 1, &[("biz1", "1")]);
    w.change(&old, |pod| pod.replaces = true);
    w.settle();
    let new = replacing(&mut w, "1");
    w.change(&new, change_jar);
    w.run_for(10 * MINUTE);
    assert!(w.is_ready(&new));
    assert!(!w.is_ready(&old));
    assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 1"]);
    w.delete(&old);
    w.run_for(MINUTE);
    assert!(w.is_ready(&new) && !w.exists(&old));
    assert_eq!(w.orders().len(), 3);
}
