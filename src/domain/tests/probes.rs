//! What probes decide: who is Ready, and what is started anew.

use std::{sync::Arc, time::Duration};

use super::{
    jvm::{MODES, Mode},
    world::{World, listed},
};
use crate::domain::{ModuleState::Activated, *};

fn probe() -> Probe {
    Probe {
        action: ProbeAction::TcpSocket { host: None, port: 8080 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 2,
        failure_threshold: 3,
    }
}

fn with(kinds: &[ProbeKind]) -> Arc<Probes> {
    let of = |kind| kinds.contains(&kind).then(probe);
    Arc::new(Probes {
        startup: of(ProbeKind::Startup),
        readiness: of(ProbeKind::Readiness),
        liveness: of(ProbeKind::Liveness),
    })
}

fn give(pod: &mut Pod, probes: &Arc<Probes>) {
    let Content::Modules(containers) = &mut pod.content else { panic!("no modules") };
    containers.iter_mut().for_each(|c| c.probes = Some(Arc::clone(probes)));
}

/// A Pod whose module is active and has these probes.
fn probed(mode: Mode, kinds: &[ProbeKind]) -> (World, PodUid) {
    let mut w = World::new(mode);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.change(&pod, |pod| give(pod, &with(kinds)));
    w.settle();
    (w, pod)
}

/// What is to be probed now.
fn targets(w: &mut World) -> Vec<ProbeTarget> {
    w.decide().probes
}

/// The prober has news of the first container that is probed.
fn news(w: &mut World, kind: ProbeKind, says: ProbeSays) -> Option<bool> {
    let target = targets(w).remove(0);
    tell(w, &target, kind, says)
}

fn tell(w: &mut World, target: &ProbeTarget, kind: ProbeKind, says: ProbeSays) -> Option<bool> {
    let ProbeTarget { pod, container, run, .. } = target.clone();
    let fact = ProbeFact { base: w.base.id.clone(), pod, container, run, kind, says };
    w.base.probed(&fact, w.now)
}

fn fails() -> ProbeSays {
    ProbeSays::Fails("HTTP probe failed with statuscode: 500".to_owned())
}

use ProbeKind::{Liveness, Readiness, Startup};
use ProbeSays::Succeeds;

#[test]
fn answers_count_when_enough_in_a_row_say_the_same() {
    let mut tally = Tally::default();
    let asked = probe();
    let mut count = |succeeded| tally.count(succeeded, &asked);
    let answers = [true, false, true, true, false, false, true, false, false, false, false, true, true];
    let come_to: Vec<_> = answers.into_iter().map(&mut count).collect();
    let (up, down) = (Some(true), Some(false));
    let expected = [None, None, None, up, None, None, None, None, None, down, down, None, up];
    assert_eq!(come_to, expected);
}

#[test]
fn ready_is_active_and_readiness() {
    for mode in MODES {
        let (mut w, pod) = probed(mode, &[Readiness]);
        assert!(!w.is_ready(&pod));
        let outcome = &w.outcomes[&pod].containers[0];
        assert_eq!((outcome.active(), outcome.started(), outcome.ready()), (true, true, false), "{mode:?}");
        assert_eq!(w.outcomes[&pod].phase, Phase::Running);
        for (says, ready) in [(Succeeds, true), (fails(), false), (Succeeds, true)] {
            assert_eq!(news(&mut w, Readiness, says), Some(false));
            w.settle();
            assert_eq!(w.is_ready(&pod), ready, "{mode:?}");
        }
        // One failure is told, and changes nothing.
        news(&mut w, Readiness, ProbeSays::Failed(String::new()));
        w.settle();
        assert!(w.is_ready(&pod));
        assert_eq!((w.installs(), w.uninstalls(), w.restarts(&pod)), (1, 0, 0));
    }
}

#[test]
fn startup_holds_what_comes_after_it() {
    let (mut w, pod) = probed(Mode::Default, &[Startup, Readiness]);
    let outcome = w.outcomes[&pod].containers[0].clone();
    assert_eq!((outcome.started(), outcome.ready()), (false, false));
    news(&mut w, Startup, Succeeds);
    w.settle();
    let outcome = w.outcomes[&pod].containers[0].clone();
    assert_eq!((outcome.started(), outcome.ready()), (true, false));
    news(&mut w, Readiness, Succeeds);
    w.settle();
    assert!(w.is_ready(&pod));
    let (mut w, pod) = probed(Mode::Default, &[Startup]);
    assert!(!w.is_ready(&pod));
    news(&mut w, Startup, Succeeds);
    w.settle();
    assert!(w.is_ready(&pod), "without a readiness probe it is ready when it has started");
}

#[test]
fn what_fails_its_liveness_is_installed_again_with_a_back_off_that_grows_and_ends() {
    for (mode, kind) in MODES.into_iter().flat_map(|mode| [(mode, Liveness), (mode, Startup)]) {
        let (mut w, pod) = probed(mode, &[kind]);
        let mut waited = Vec::new();
        for restarts in 1..=4 {
            assert_eq!(news(&mut w, kind, fails()), Some(true));
            w.step();
            let began = w.now;
            while w.restarts(&pod) < restarts || !w.outcomes[&pod].containers[0].active() {
                w.run_for(Duration::from_secs(1));
                assert!(w.now < began + Duration::from_secs(400), "{}", w.message(&pod));
            }
            let took = (w.now - began).as_secs();
            waited.push(took);
            assert!(w.ever_said(&pod, "Unhealthy"), "{mode:?}");
            assert_eq!(w.restarts(&pod), restarts);
            assert_eq!(w.on_base(), listed(&[("biz1:1", Activated)]));
        }
        let least = [0, 10, 20, 40];
        assert!(waited.iter().zip(least).all(|(took, least)| (least..least + 8).contains(took)), "{waited:?}");
        assert_eq!((w.installs(), w.uninstalls()), (5, 4));
        w.run_for(Duration::from_secs(700));
        news(&mut w, kind, fails());
        w.settle();
        assert_eq!((w.restarts(&pod), w.outcomes[&pod].containers[0].active()), (5, true), "it ran well in between");
    }
}

#[test]
fn an_answer_about_an_earlier_start_counts_no_more() {
    let (mut w, pod) = probed(Mode::Default, &[Readiness, Liveness]);
    let before = targets(&mut w).remove(0);
    tell(&mut w, &before, Readiness, Succeeds);
    tell(&mut w, &before, Liveness, fails());
    assert_eq!(tell(&mut w, &before, Liveness, fails()), Some(false), "it is started anew already");
    assert_eq!(w.decide().probes, [], "what goes is not asked");
    w.settle();
    assert!(!w.is_ready(&pod), "it has to show again that it is ready");
    for (kind, says) in [(Readiness, Succeeds), (Liveness, fails())] {
        assert_eq!(tell(&mut w, &before, kind, says), None);
    }
    w.settle();
    assert!(!w.is_ready(&pod) && w.restarts(&pod) == 1);
    let now = targets(&mut w).remove(0);
    assert!(now.run > before.run && !now.ready);
}

#[test]
fn what_was_there_before_its_pod_is_its_own() {
    let mut w = World::new(Mode::Default);
    w.jvm.list.insert(ModuleId::new("biz1", "1"), Activated);
    w.jvm.list.insert(ModuleId::new("by-hand", "1"), Activated);
    w.settle();
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.change(&pod, |pod| give(pod, &with(&[Liveness])));
    w.settle();
    assert!(w.is_ready(&pod));
    news(&mut w, Liveness, fails());
    w.settle();
    assert_eq!((w.installs(), w.uninstalls(), w.restarts(&pod)), (1, 1, 1));
    assert_eq!(w.on_base(), listed(&[("biz1:1", Activated), ("by-hand:1", Activated)]));
}

#[test]
fn another_process_goes_on_with_what_the_api_shows() {
    for kinds in [&[Readiness][..], &[Startup, Readiness, Liveness]] {
        let (mut w, pod) = probed(Mode::Default, kinds);
        news(&mut w, Startup, Succeeds);
        news(&mut w, Readiness, Succeeds);
        w.settle();
        assert!(w.is_ready(&pod));
        w.restart_controller_and_hear();
        w.outcomes.clear();
        w.settle();
        assert!(w.is_ready(&pod));
        let target = targets(&mut w).remove(0);
        assert_eq!((target.started, target.ready, target.active_for), (true, true, None));
        assert_eq!(tell(&mut w, &target, Readiness, fails()), Some(false));
        w.settle();
        assert!(!w.is_ready(&pod));
        w.restart_controller_and_hear();
        w.settle();
        assert!(!w.is_ready(&pod), "nor does it forget that it is not ready");
    }
}

#[test]
fn nothing_is_asked_of_what_cannot_answer_or_nobody_wants() {
    let (mut w, pod) = probed(Mode::Default, &[Readiness]);
    news(&mut w, Readiness, Succeeds);
    w.settle();
    w.silent = true;
    w.run_for(Duration::from_secs(60));
    assert_eq!(targets(&mut w), []);
    w.silent = false;
    w.run_for(Duration::from_secs(60));
    assert!(w.is_ready(&pod), "what was known before is still so");
    assert_eq!(targets(&mut w).len(), 1);
    w.change(&pod, |pod| pod.deleting = Some(Duration::from_secs(30)));
    assert_eq!(targets(&mut w), [], "its Pod goes");
    let (mut w, pod) = probed(Mode::Default, &[Readiness]);
    w.change(&pod, |pod| (pod.terminal, pod.superseded) = (true, true));
    assert_eq!(targets(&mut w), [], "its Pod has failed");
}

#[test]
fn an_older_version_gives_way_when_the_newer_one_is_active_whatever_its_probe_says() {
    for mode in [Mode::Default, Mode::ActivateNew] {
        let (mut w, old) = probed(mode, &[Readiness]);
        news(&mut w, Readiness, Succeeds);
        w.settle();
        let new = w.pod("a", 2, &[("biz1", "2")]);
        w.change(&new, |pod| give(pod, &with(&[Readiness])));
        w.settle();
        assert_eq!(w.outcomes[&old].phase, Phase::Failed, "{mode:?}");
        assert!(w.outcomes[&new].containers[0].active() && !w.is_ready(&new));
        news(&mut w, Readiness, Succeeds);
        w.settle();
        assert!(w.is_ready(&new));
    }
}

#[test]
fn what_fails_its_liveness_and_does_not_start_again_says_so() {
    let (mut w, pod) = probed(Mode::Default, &[Liveness]);
    w.jvm.broken.insert("1".into());
    news(&mut w, Liveness, fails());
    w.settle();
    assert_eq!(w.says(&pod), "InstallFailed");
    w.jvm.broken.clear();
    w.run_for(Duration::from_secs(30));
    assert!(w.is_ready(&pod));
    let (mut w, pod) = probed(Mode::Default, &[Liveness]);
    w.jvm.stuck = true;
    news(&mut w, Liveness, fails());
    w.run_for(Duration::from_secs(30));
    assert_eq!(w.says(&pod), "Unhealthy");
    w.delete(&pod);
    w.jvm.stuck = false;
    w.run_for(Duration::from_secs(60));
    assert!(!w.exists(&pod) && w.on_base().is_empty(), "its Pod can go meanwhile");
}
