//! A base that is away, and comes back.

use std::time::Duration;

use super::{jvm::Mode, world::World};
use crate::domain::*;

/// Time passes, and we look each second; the base says what it can.
fn pass(w: &mut World, seconds: u64) -> Vec<Command> {
    let mut questions = Vec::new();
    for _ in 0..seconds {
        w.now += Duration::from_secs(1);
        questions.extend(w.step().commands);
        while !(w.to_base.is_empty() && w.from_base.is_empty()) {
            w.deliver_command();
            w.deliver_answer(false);
        }
        while !w.unwritten.is_empty() {
            w.write_status();
        }
    }
    questions
}

fn count(commands: &[Command], what: &Command) -> usize {
    commands.iter().filter(|c| *c == what).count()
}

/// A base with a module, which has fallen silent and was given up.
fn away() -> (World, PodUid) {
    let (mut w, pod) = World::serving(Mode::Default);
    assert!(w.is_ready(&pod));
    w.silent = true;
    pass(&mut w, 60);
    assert_eq!(w.base.reachability(w.now), Reachability::Unreachable);
    assert!(!w.is_ready(&pod));
    (w, pod)
}

#[test]
fn a_base_that_is_away_is_asked_for_a_sign_of_life_only_and_ever_more_seldom() {
    let (mut w, _) = away();
    let asked = pass(&mut w, 3600);
    assert_eq!(count(&asked, &Command::QueryModules), 0, "for its list not at all");
    let alive = count(&asked, &Command::QueryHealth);
    assert!((20..=60).contains(&alive), "{alive} in an hour");
    let alive = count(&pass(&mut w, 12 * 3600), &Command::QueryHealth);
    assert!((140..=160).contains(&alive), "{alive} in half a day");
}

#[test]
fn it_is_asked_on_also_where_nothing_but_our_own_wish_wakes_us() {
    let (mut w, _) = away();
    let end = w.now + Duration::from_secs(6 * 3600);
    let (mut asked, mut steps) = (0, 0);
    while w.now < end {
        let plan = w.step();
        w.to_base.clear();
        asked += count(&plan.commands, &Command::QueryHealth);
        w.now = plan.wake.expect("something is to come").max(w.now + Duration::from_millis(1));
        steps += 1;
    }
    assert!(asked >= 6 * 12, "{asked} questions in six hours");
    assert!(steps < 1_000, "{steps} looks");
}

#[test]
fn when_it_is_back_it_is_asked_at_once_and_its_old_list_is_not_believed() {
    for (kept, heard_by_list) in [(true, false), (false, false), (true, true)] {
        let (mut w, pod) = away();
        if !kept {
            w.jvm.list.clear();
        }
        w.silent = false;
        w.base.liveness.heard(w.now);
        if heard_by_list {
            // An answer to a question from long ago.
            let listed = ListedModule {
                id: ModuleId::new("biz9", "1"),
                state: ModuleState::Activated,
                context_path: None,
                message: None,
            };
            w.base.listed(vec![listed], w.now);
        }
        let plan = w.step();
        assert_eq!(count(&plan.commands, &Command::QueryModules), 1, "at once");
        assert!(!plan.pods.iter().any(PodOutcome::ready), "{:?}", plan.pods);
        assert_eq!(w.installs(), 1);
        w.settle();
        assert!(w.is_ready(&pod));
        assert_eq!((w.installs(), w.uninstalls()), (if kept { 1 } else { 2 }, 0), "{kept}");
    }
}

#[test]
fn a_pod_that_goes_meanwhile_is_done_with_when_the_list_says_so() {
    let (mut w, pod) = away();
    w.delete(&pod);
    pass(&mut w, 60);
    w.jvm.list.clear();
    w.silent = false;
    w.base.liveness.beat(w.now);
    let plan = w.step();
    assert!(plan.finished.is_empty(), "its old list has it, and its new one is not there");
    w.settle();
    assert!(!w.exists(&pod));
    assert_eq!(w.uninstalls(), 0, "there is nothing left to uninstall");
}

#[test]
fn a_command_that_was_open_is_sent_again_at_once_if_the_list_does_not_show_it() {
    let mut w = World::new(Mode::Default);
    w.settle();
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.step();
    w.silent = true;
    pass(&mut w, 40);
    assert_eq!((w.base.reachability(w.now), w.installs()), (Reachability::Unreachable, 1));
    w.silent = false;
    w.base.liveness.beat(w.now);
    w.run_for(Duration::from_secs(1));
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 2);
}

#[test]
fn a_jvm_that_was_away_is_asked_what_it_is() {
    let (mut w, _) = away();
    assert!(!w.base.knows_its_jvm());
    w.silent = false;
    w.base.liveness.beat(w.now);
    let asked = pass(&mut w, 10);
    assert!(count(&asked, &Command::QueryHealth) >= 1);
}

#[test]
fn a_list_that_suddenly_has_none_of_ours_is_another_jvms() {
    let id = |name: &str| ModuleId::new(name, "1");
    for (brings_its_own, uninstalled, is_new) in
        [(false, false, true), (true, false, true), (false, true, false), (true, true, false)]
    {
        let mut w = World::new(Mode::Default);
        if brings_its_own {
            w.jvm.list.insert(id("built-in"), ModuleState::Activated);
        }
        let pod = w.pod("a", 1, &[("biz1", "1")]);
        w.settle();
        assert!(w.base.knows_its_jvm());
        if uninstalled {
            w.delete(&pod);
            w.settle();
        } else {
            w.jvm.list.remove(&id("biz1"));
        }
        w.run_for(Duration::from_secs(25));
        assert_eq!(w.base.knows_its_jvm(), !is_new, "{brings_its_own} {uninstalled}");
        assert_eq!(w.exists(&pod) && w.is_ready(&pod), !uninstalled, "installed again");
    }
}

#[test]
fn what_was_sent_to_a_jvm_that_restarted_without_a_word_is_sent_to_the_new_one_at_once() {
    let mut w = World::serving(Mode::Default).0;
    let other = w.pod("b", 1, &[("biz2", "1")]);
    w.step();
    // It dies before it gets the command.
    w.to_base.clear();
    w.jvm.list.clear();
    w.run_for(Duration::from_secs(7));
    assert!(w.is_ready(&other), "{}", w.says(&other));
}
