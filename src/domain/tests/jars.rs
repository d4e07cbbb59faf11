//! What a version is made from: another jar of it, and jars that cannot be fetched, or take long.

use std::time::Duration;

use super::{
    jvm::{MODES, Mode},
    world::{World, change_jar, listed},
};
use crate::domain::*;

use ModuleState::Activated;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_changed_image_of_the_same_version_is_installed_anew_and_counts_as_a_restart() {
    for mode in MODES {
        let mut w = World::new(mode);
        let pod = w.pod("a", 1, &[("biz1", "1")]);
        w.change(&pod, change_jar);
        w.settle();
        let first = w.jvm.urls.values().next().cloned();
        w.change(&pod, change_jar);
        w.settle();
        assert!(w.is_ready(&pod));
        assert_ne!(w.jvm.urls.values().next().cloned(), first);
        assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 1"]);
        assert_eq!(w.restarts(&pod), 1);
        w.run_for(10 * MINUTE);
        assert_eq!(w.orders().len(), 3);
        // Another process finds on record what it was made from.
        w.restart_controller_and_hear();
        w.run_for(10 * MINUTE);
        assert_eq!(w.orders().len(), 3);
    }
}

#[test]
fn a_pod_that_asks_for_another_jar_of_a_version_waits_until_the_other_pod_has_gone() {
    let (mut w, old) = World::serving(Mode::Default);
    let new = w.pod("a", 2, &[("biz1", "1")]);
    w.change(&new, change_jar);
    w.run_for(5 * MINUTE);
    assert!(w.is_ready(&old));
    assert_eq!(w.says(&new), "VersionInUse");
    assert!(w.message(&new).contains("a-1-1"), "{}", w.message(&new));
    assert_eq!(w.orders(), ["install 1"]);
    w.delete(&old);
    w.settle();
    assert!(w.is_ready(&new) && !w.exists(&old));
    assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 1"]);
    assert!(w.jvm.urls.values().all(|url| url.contains("fixed")));
}

#[test]
fn a_jar_that_cannot_be_fetched_a_second_time_takes_nothing_away() {
    let (mut w, old) = World::serving(Mode::Default);
    w.jvm.fetches.insert("2".into(), 1);
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(10 * MINUTE);
    assert!(w.is_ready(&old), "{}", w.says(&old));
    assert_eq!(w.says(&new), "InstallFailed");
    assert!(w.message(&new).contains("not there any more"), "{}", w.message(&new));
    assert!(!w.orders().contains(&"switch 2".to_owned()), "{:?}", w.orders());
    // As soon as it can be fetched again the update goes through.
    w.jvm.fetches.clear();
    w.run_for(6 * MINUTE);
    assert!(w.is_ready(&new));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
}

#[test]
fn a_base_that_says_nothing_of_what_it_has_already_is_switched_all_the_same() {
    let (mut w, old) = World::serving(Mode::Default);
    w.jvm.silent_repeats = true;
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(20));
    assert!(w.is_ready(&new), "{}: {:?}", w.says(&new), w.orders());
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.orders()[1..], ["install 2", "install 2", "install 2", "switch 2"]);
}

#[test]
fn a_jar_that_takes_long_to_fetch_is_switched_to_when_it_has_been_looked_at() {
    let (mut w, old) = World::serving(Mode::Default);
    w.slow = Some(Duration::from_secs(60));
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(150));
    assert!(w.is_ready(&old), "{:?}", w.orders());
    w.run_for(Duration::from_secs(60));
    assert!(w.is_ready(&new), "{}: {:?}", w.says(&new), w.orders());
    // The start, the look and the switch, each with one repeat that the base answers with "conflict".
    assert!(w.orders().len() <= 7, "{:?}", w.orders());
}
