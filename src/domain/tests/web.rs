//! Web modules with one context path: what one base has shown of them is known on all others before anything is tried.

mod trials;

use std::time::Duration;

use super::{
    jvm::Mode,
    world::{World, spec},
};
use crate::domain::*;

use ModuleState::{Activated, Deactivated};

const MINUTE: Duration = Duration::from_secs(60);

/// A base of web modules with version 1 of biz1, and its Pod. `direct`: over HTTP, where lists name context paths.
fn web(direct: bool) -> (World, PodUid) {
    let mut w = World::new(Mode::Default);
    (w.jvm.web, w.direct, w.jvm.lists_paths) = (true, direct, direct);
    w.base.has_web_server = Some(true);
    let old = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&old));
    (w, old)
}

/// The same, where another base has refused version 2 beside version 1.
fn web_and_known(direct: bool) -> (World, PodUid) {
    let (mut first, _) = web(direct);
    let refused = first.pod("a", 2, &[("biz1", "2")]);
    first.run_for(MINUTE);
    assert_eq!((first.says(&refused), first.installs()), ("WebContextInUse", 2));
    let (mut w, old) = web(direct);
    w.contexts = first.contexts;
    (w, old)
}

/// A newer revision, with these args.
fn new(w: &mut World, version: &str, args: &[&str]) -> PodUid {
    let pod = w.pod("a", 2, &[("biz1", version)]);
    with_args(w, &pod, args);
    pod
}

fn with_args(w: &mut World, pod: &PodUid, args: &[&str]) {
    w.change(pod, |pod| {
        let Content::Modules(containers) = &mut pod.content else { panic!("no modules") };
        let Role::Module(spec) = &mut containers[0].role else { panic!("no module") };
        spec.args = args.iter().map(|&arg| arg.to_owned()).collect();
    });
}

#[test]
fn what_one_base_refused_no_other_is_told_to_install() {
    for direct in [false, true] {
        let (mut w, old) = web_and_known(direct);
        let pod = new(&mut w, "2", &[]);
        w.run_for(30 * MINUTE);
        assert_eq!(w.orders(), ["install 1"]);
        assert!(w.is_ready(&old));
        assert_eq!(w.says(&pod), "WebContextInUse");
        for words in ["biz1:2 cannot be loaded beside biz1:1", "context path biz1", "maxSurge 0", "replace"] {
            assert!(w.message(&pod).contains(words), "{}", w.message(&pod));
        }
        assert!(!w.ever_said(&pod, "Installing"), "{:?}", w.words);
        assert_eq!(w.restarts(&pod), 0);
        // The same words as where it was tried, so that a restart of ours changes nothing.
        let (mut tried, _) = web(direct);
        let refused = tried.pod("a", 2, &[("biz1", "2")]);
        tried.settle();
        assert_eq!(tried.message(&refused), w.message(&pod));

        w.delete(&old);
        w.settle();
        assert_eq!(w.orders()[1..], ["uninstall 1", "install 2"]);
        assert!(w.is_ready(&pod));
    }
}

#[test]
fn the_way_back_is_known_too() {
    for direct in [false, true] {
        let (mut w, _) = web_and_known(direct);
        w.delete(&w.pods[0].uid.clone());
        let newer = new(&mut w, "2", &[]);
        w.settle();
        assert!(w.is_ready(&newer));
        let undo = w.pod("a", 3, &[("biz1", "1")]);
        w.run_for(10 * MINUTE);
        assert_eq!(w.says(&undo), "WebContextInUse");
        assert!(w.message(&undo).contains("beside biz1:2"), "{}", w.message(&undo));
        assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 2"]);
    }
}

#[test]
fn a_pod_that_asks_for_room_gets_it_without_a_try_beside_while_its_jar_was_fetched_lately() {
    for direct in [false, true] {
        let (mut w, old) = web_and_known(direct);
        let pod = new(&mut w, "2", &[]);
        w.change(&pod, |pod| pod.replaces = true);
        w.run_for(Duration::from_millis(100));
        assert!(!w.is_ready(&old) && w.says(&pod) == "Replacing");
        w.run_for(MINUTE);
        assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 2"]);
        assert!(w.is_ready(&pod) && w.says(&old) == "Superseded");

        // Later the jar may be gone: that it can be fetched is looked at first, as ever.
        let (mut w, old) = web_and_known(direct);
        w.run_for(11 * MINUTE);
        w.jvm.fetches.insert("2".into(), 0);
        let pod = new(&mut w, "2", &[]);
        w.change(&pod, |pod| pod.replaces = true);
        w.run_for(MINUTE);
        assert!(w.is_ready(&old) && w.says(&pod) == "InstallFailed", "{:?}", w.orders());

        let (mut w, _) = web_and_known(direct);
        w.run_for(11 * MINUTE);
        let pod = new(&mut w, "2", &[]);
        w.change(&pod, |pod| pod.replaces = true);
        w.run_for(MINUTE);
        assert_eq!(w.orders(), ["install 1", "install 2", "uninstall 1", "install 2"]);
        assert!(w.is_ready(&pod));
    }
}

#[test]
fn a_version_that_does_not_start_in_the_place_gives_it_back() {
    let (mut w, old) = web_and_known(true);
    w.jvm.broken.insert("2".into());
    let pod = new(&mut w, "2", &[]);
    w.change(&pod, |pod| pod.replaces = true);
    w.run_for(30 * MINUTE);
    assert!(w.is_ready(&old));
    assert_eq!((w.says(&pod), w.uninstalls()), ("InstallFailed", 1));
    w.restart_controller_and_hear();
    w.run_for(30 * MINUTE);
    assert!(w.is_ready(&old));
    assert_eq!(w.uninstalls(), 1, "{:?}", w.orders());
}

#[test]
fn modules_with_one_path_that_are_no_web_modules_are_updated_as_ever() {
    for direct in [false, true] {
        let (mut w, _) = web_and_known(direct);
        // On the same base, with paths in the list; biz1 is known, and says nothing of others.
        let plain = |w: &mut World, version: &str, revision| {
            let pod = w.pod("b", revision, &[("biz2", version)]);
            w.settle();
            pod
        };
        w.jvm.web = false;
        plain(&mut w, "1", 1);
        let newer = plain(&mut w, "2", 2);
        assert!(w.is_ready(&newer), "{}", w.message(&newer));
        assert!(!w.ever_said(&newer, "WebContextInUse"));
    }
}

#[test]
fn a_base_without_a_web_server_for_modules_is_tried() {
    let (mut w, _) = web_and_known(false);
    w.jvm.web = false;
    w.base.has_web_server = Some(false);
    let pod = new(&mut w, "2", &[]);
    w.settle();
    assert!(w.is_ready(&pod), "{}", w.message(&pod));
}

#[test]
fn another_path_by_args_or_another_jar_loads_beside() {
    for (version, args) in [("2", vec!["--server.servlet.context-path=/biz1-v2"]), ("3", vec![])] {
        let (mut w, _) = web_and_known(true);
        if version == "3" {
            w.jvm.web = false; // its jar has another path: only the base knows
        }
        let pod = new(&mut w, version, &args);
        w.settle();
        assert!(w.is_ready(&pod), "{}", w.message(&pod));
        assert!(w.orders().contains(&format!("switch over {version}")), "{:?}", w.orders());
    }
}

/// `/biz1` loads beside `biz1`, takes its requests, and leaves the path to nobody when that goes (as recorded).
#[test]
fn a_path_that_differs_by_a_slash_alone_is_no_other_path() {
    for arg in ["--server.servlet.context-path=/biz1", "--server.servlet.contextPath=/biz1"] {
        let (mut w, old) = web_and_known(true);
        let pod = new(&mut w, "2", &[arg]);
        w.run_for(10 * MINUTE);
        assert_eq!((w.says(&pod), w.installs()), ("WebContextInUse", 1), "{:?}", w.orders());
        assert!(w.is_ready(&old));
        w.change(&pod, |pod| pod.replaces = true);
        w.run_for(MINUTE);
        assert_eq!(w.orders(), ["install 1", "uninstall 1", "install 2"]);
        assert!(w.is_ready(&pod));
    }
}

#[test]
fn what_is_loaded_at_the_path_of_another_is_not_switched_to() {
    let (known, _) = web_and_known(true);
    let (mut w, _) = web(true);
    w.jvm.stuck = true;
    let pod = new(&mut w, "2", &["--server.servlet.context-path=/biz1"]);
    w.settle();
    assert_eq!(w.on_base(), [("biz1:1".to_owned(), Activated), ("biz1:2".to_owned(), Deactivated)]);
    let before = w.orders().len();
    (w.contexts, w.jvm.stuck) = (known.contexts, false);
    w.run_for(MINUTE);
    assert_eq!(w.orders()[before..], ["install 2", "switch 2"]);
    assert!(w.is_ready(&pod));
}

#[test]
fn a_module_of_another_name_that_holds_the_path_is_named_and_waited_for() {
    let with_path = ["--server.servlet.context-path=/shop"];
    let scene = |contexts: Option<WebContexts>| {
        let mut w = World::new(Mode::Default);
        (w.jvm.web, w.direct, w.jvm.lists_paths) = (true, true, true);
        w.contexts = contexts.unwrap_or_default();
        let holder = w.pod("a", 1, &[("biz1", "1")]);
        with_args(&mut w, &holder, &with_path);
        w.settle();
        let pod = w.pod("b", 1, &[("biz2", "1")]);
        with_args(&mut w, &pod, &with_path);
        w.change(&pod, |pod| pod.replaces = true);
        w.run_for(MINUTE);
        (w, holder, pod)
    };
    let (first, holder, refused) = scene(None);
    assert_eq!(first.says(&refused), "WebContextInUse");
    let (w, known_holder, pod) = scene(Some(first.contexts.clone()));
    for words in ["biz2:1 cannot be loaded beside biz1:1", "context path /shop", "another path"] {
        assert!(w.message(&pod).contains(words), "{}", w.message(&pod));
    }
    assert!(!w.message(&pod).contains("maxSurge"), "nothing of another module makes room");
    assert_eq!((w.installs(), w.uninstalls()), (1, 0));
    for (mut w, holder, pod) in [(first, holder, refused), (w, known_holder, pod)] {
        w.delete(&holder);
        w.settle();
        assert!(w.is_ready(&pod), "{}", w.message(&pod));
    }
}

#[test]
fn what_pods_say_is_enough_for_another_process() {
    for direct in [false, true] {
        // On the base that has tried it, and on one that has not.
        for known in [false, true] {
            let (mut w, _) = if known { web_and_known(direct) } else { web(direct) };
            let pod = new(&mut w, "2", &[]);
            w.run_for(10 * MINUTE);
            let (installs, words) = (w.installs(), w.words.len());
            w.restart_controller_and_hear();
            w.base.has_web_server = Some(true);
            w.run_for(30 * MINUTE);
            assert_eq!((w.says(&pod), w.installs()), ("WebContextInUse", installs));
            assert_eq!(w.words.len(), words, "{:?}", w.words);
            // From there it comes to other bases.
            let (mut other, _) = web(direct);
            other.contexts = w.contexts;
            let there = new(&mut other, "2", &[]);
            other.run_for(MINUTE);
            assert_eq!((other.says(&there), other.installs()), ("WebContextInUse", 1));
        }
    }
}

#[test]
fn a_base_that_restarts_gets_what_ran_and_refuses_nothing() {
    let (mut w, old) = web_and_known(true);
    let pod = new(&mut w, "2", &[]);
    w.settle();
    w.restart_base(false);
    w.run_for(10 * MINUTE);
    assert_eq!(w.on_base(), [("biz1:1".to_owned(), Activated)]);
    assert!(w.is_ready(&old) && w.says(&pod) == "WebContextInUse");
    assert_eq!(w.orders(), ["install 1", "install 1"]);
}

#[test]
fn nothing_is_learned_twice() {
    let (mut w, _) = web_and_known(true);
    let pod = new(&mut w, "2", &[]);
    w.settle();
    assert!(w.step().lessons.is_empty());
    w.restart_controller_and_hear();
    w.settle();
    assert_eq!(w.says(&pod), "WebContextInUse");
    assert!(w.step().lessons.is_empty());
    assert!(w.contexts.of(&spec("biz1", "2"), &[]).is_some());
}
