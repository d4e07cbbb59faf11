//! A base with nothing between it and us: it can be told to switch, and what is lost on the way to it is told of.

use std::time::Duration;

use super::{
    jvm::Mode,
    world::{World, listed},
};
use crate::domain::*;

use ModuleState::{Activated, Deactivated};

fn direct() -> (World, PodUid) {
    let mut w = World::new(Mode::Default);
    w.direct = true;
    let old = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&old));
    (w, old)
}

#[test]
fn a_version_that_has_started_is_switched_to_and_its_jar_is_fetched_once() {
    let (mut w, old) = direct();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert!(w.is_ready(&new));
    assert_eq!(w.says(&old), "Superseded");
    assert_eq!(w.on_base(), listed(&[("biz1:1", Deactivated), ("biz1:2", Activated)]), "it may finish its requests");
    assert_eq!(w.orders(), ["install 1", "install 2", "switch over 2"]);
    w.delete(&old);
    w.run_for(Duration::from_secs(3600));
    assert_eq!(w.on_base(), listed(&[("biz1:2", Activated)]));
    assert_eq!(w.orders(), ["install 1", "install 2", "switch over 2", "uninstall 1"]);
}

#[test]
fn an_undo_is_a_switch_back_to_a_version_that_starts_anew() {
    let (mut w, old) = direct();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    w.delete(&old);
    w.settle();
    let back = w.pod("a", 3, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&back));
    assert_eq!(w.says(&new), "Superseded");
    assert_eq!(w.orders(), ["install 1", "install 2", "switch over 2", "uninstall 1", "install 1", "switch over 1"]);
}

#[test]
fn a_switch_that_is_refused_leaves_the_old_version_and_backs_off() {
    let (mut w, old) = direct();
    w.jvm.stuck = true;
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.run_for(Duration::from_secs(60));
    assert!(w.is_ready(&old));
    assert_eq!(w.says(&new), "InstallFailed");
    let switches = w.orders().iter().filter(|order| *order == "switch over 2").count();
    assert!((2..=4).contains(&switches), "{:?}", w.orders());
    w.jvm.stuck = false;
    w.run_for(Duration::from_secs(120));
    assert!(w.is_ready(&new));
}

#[test]
fn what_was_taken_away_before_the_switch_is_installed_anew() {
    let (mut w, _old) = direct();
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.step();
    w.record();
    w.step();
    while !w.to_base.iter().any(|command| matches!(command, Command::Switch(_))) {
        w.deliver_command();
        w.deliver_answer(false);
        w.step();
    }
    w.jvm.list.remove(&ModuleId::new("biz1", "2"));
    w.settle();
    assert!(w.is_ready(&new));
    assert_eq!(w.orders(), ["install 1", "install 2", "switch over 2", "install 2", "switch over 2"]);
}

#[test]
fn a_question_that_stays_open_has_nothing_sent_again_but_what_is_told_to_be_lost_is() {
    let (mut w, _old) = direct();
    w.pod("b", 1, &[("biz2", "1")]);
    w.step();
    w.record();
    w.silent = true;
    w.run_for(Duration::from_secs(12));
    w.silent = false;
    w.run_for(Duration::from_secs(3));
    assert_eq!(w.orders(), ["install 1", "install 1"], "it may be at work on it");
    // Its connection broke, and the list does not show it.
    w.base.command_uncertain();
    w.settle();
    assert_eq!(w.orders(), ["install 1", "install 1", "install 1"]);
}

/// Its list may look the same: a JVM can bring modules of its own.
#[test]
fn a_jvm_that_runs_since_later_than_the_one_before_is_another_one() {
    let (mut w, _old) = direct();
    let minute = Duration::from_secs(60);
    w.base.runs_for(minute, w.now);
    w.run_for(Duration::from_secs(10));
    let asked = |w: &mut World| w.step().commands.contains(&Command::QueryModules);
    w.base.runs_for(minute + Duration::from_secs(10), w.now);
    assert!(!asked(&mut w), "the same one");
    w.base.runs_for(minute + Duration::from_secs(5), w.now);
    assert!(!asked(&mut w), "the same one, whose answer took some seconds");
    w.base.runs_for(Duration::from_secs(3), w.now);
    assert!(asked(&mut w));
}

/// Its list told of the restart, and its module was ordered anew; what it says of its JVM tells of the same one.
#[test]
fn a_restart_that_its_list_has_told_of_is_not_another_one_when_its_health_tells_of_it() {
    let (mut w, _old) = direct();
    w.base.runs_for(Duration::from_secs(60), w.now);
    w.run_for(Duration::from_secs(1));
    w.restart_base(false);
    w.base.listed(Vec::new(), w.now);
    let installs = |w: &mut World| w.step().commands.iter().flat_map(Command::installs).count();
    assert_eq!(installs(&mut w), 1);
    w.base.runs_for(Duration::from_secs(2), w.now);
    w.base.listed(Vec::new(), w.now + Duration::from_millis(9));
    assert_eq!(installs(&mut w), 0, "it is at work on it");
    w.base.runs_for(Duration::from_secs(1), w.now + Duration::from_secs(30));
    w.base.listed(Vec::new(), w.now + Duration::from_secs(30));
    assert_eq!(installs(&mut w), 1, "another JVM, which never had the command");
}
