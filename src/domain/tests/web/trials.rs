//! A version that nobody knows yet, of a module that is known to be a web module.

use super::*;

/// Two bases with version 1, which is known to be a web module, and Pods that ask both for version 3; the first is at
/// work on it for 5 s.
fn two_with_a_new_version() -> (World, World, PodUid) {
    let ((mut first, _), (mut other, _)) = (web_and_known(true), web_and_known(true));
    other.contexts = first.contexts.clone();
    first.slow = Some(Duration::from_secs(5));
    new(&mut first, "3", &[]);
    first.run_for(Duration::from_secs(1));
    assert_eq!(first.installs(), 2);
    (other.now, other.contexts) = (first.now, first.contexts.clone());
    other.base.liveness.heard(other.now);
    let waits = new(&mut other, "3", &[]);
    other.run_for(Duration::from_secs(2));
    assert_eq!((other.says(&waits), other.installs()), ("Installing", 1));
    assert!(other.message(&waits).contains("another base tries"), "{}", other.message(&waits));
    first.run_for(Duration::from_secs(10));
    (first, other, waits)
}

#[test]
fn one_base_tries_a_new_version_for_all() {
    let (first, mut other, waits) = two_with_a_new_version();
    other.contexts = first.contexts;
    other.run_for(10 * MINUTE);
    assert_eq!((other.says(&waits), other.installs()), ("WebContextInUse", 1));
}

#[test]
fn what_loads_on_one_base_is_installed_on_all() {
    let ((mut first, _), (mut other, _)) = (web_and_known(true), web_and_known(true));
    other.contexts = first.contexts.clone();
    (first.jvm.web, other.jvm.web) = (false, false); // its jar has another path
    let pod = new(&mut first, "3", &[]);
    first.run_for(Duration::from_secs(1));
    assert!(first.is_ready(&pod));
    (other.now, other.contexts) = (first.now, first.contexts.clone());
    let pod = new(&mut other, "3", &[]);
    other.run_for(Duration::from_secs(1));
    assert!(other.is_ready(&pod), "{}", other.message(&pod));
}

#[test]
fn a_base_that_tries_and_says_nothing_is_not_waited_for_for_ever() {
    let (_, mut other, waits) = two_with_a_new_version();
    other.run_for(Duration::from_secs(26));
    assert_eq!(other.installs(), 1);
    other.run_for(Duration::from_secs(5));
    assert_eq!((other.says(&waits), other.installs()), ("WebContextInUse", 2));
}
