//! What the metrics say of bases and Pods.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    domain::{BaseId, ModuleState::Activated},
    tunnel::{Health, Message},
};

const LIST: &str = "modulet_oldest_list_seconds";
const LEASE: &str = "modulet_oldest_lease_renewal_seconds";

fn says(scene: &mut Scene, series: &str) -> f64 {
    let now = scene.now;
    scene.state.figures(now);
    let text = scene.state.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
}

#[track_caller]
fn assert_says(scene: &mut Scene, all: &[(&str, u32)]) {
    for (series, value) in all {
        let said = says(scene, series);
        assert!((said - f64::from(*value)).abs() < 0.001, "{series} is {said}, not {value}");
    }
}

#[test]
fn ages_grow_while_nothing_comes_and_who_stands_by_has_none() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("u1", "base-1", "biz1:1", None);
    assert_says(&mut scene, &[(LIST, 0), (LEASE, 0), ("modulet_bases{name=\"online\"}", 1)]);
    scene.pass(Duration::from_secs(7));
    assert_says(&mut scene, &[(LIST, 7), (LEASE, 7)]);
    scene.pass(Duration::from_secs(13));
    scene.beats("base-1");
    scene.settle();
    assert_says(&mut scene, &[(LIST, 20), (LEASE, 0)]);
    scene.lists("base-1", &[("biz1:1", Activated)]);
    assert_says(&mut scene, &[(LIST, 0)]);

    scene.stands_by();
    scene.beats("base-1");
    scene.pass(Duration::from_secs(300));
    assert_says(&mut scene, &[(LIST, 0), (LEASE, 0)]);
    scene.beats("base-1");
    scene.takes_over();
    scene.pass(Duration::from_secs(4));
    assert_says(&mut scene, &[(LIST, 4), (LEASE, 4)]);
}

#[test]
fn a_pod_is_counted_for_what_it_waits_for_and_since_when_it_should_be_ready() {
    let mut scene = Scene::of(&["base-1"]);
    scene.serving("u1", "base-1", "biz1:1", None);
    scene.pod("u2", "base-1", "biz2:1", None);
    scene.settle();
    for _ in 0..3 {
        scene.pass(Duration::from_secs(1));
        scene.settle();
    }
    let of = |metric: &str, reason: &str| format!("modulet_{metric}{{reason=\"{reason}\"}}");
    let (ready, waits) = (of("pods_by_reason", "Ready"), of("oldest_wait_seconds", "Installing"));
    let installing = of("pods_by_reason", "Installing");
    assert_says(&mut scene, &[(&ready, 1), (&installing, 1), (&waits, 3), ("modulet_pods", 2)]);
    scene.done("base-1", "installBiz", "biz2:1");
    scene.settle();
    scene.lists("base-1", &[("biz1:1", Activated), ("biz2:1", Activated)]);
    scene.settle();
    assert_says(&mut scene, &[(&ready, 2), (&installing, 0), (&waits, 0), ("modulet_foreign_pods", 0)]);
    // One that goes, and comes again, waits from then on.
    scene.pass(Duration::from_secs(100));
    scene.beats("base-1");
    scene.lists("base-1", &[("biz1:1", Activated)]);
    scene.settle();
    assert_says(&mut scene, &[(&ready, 1)]);
    scene.pass(Duration::from_secs(5));
    let waits: f64 = ["Installing", "ModuleGone"].iter().map(|r| says(&mut scene, &of("oldest_wait_seconds", r))).sum();
    assert!((waits - 5.0).abs() < 0.001, "{waits}");
}

#[test]
fn metaspace_is_told_of_the_fullest_base_and_of_each_where_that_is_asked_for() {
    let used = "modulet_base_metaspace_used_bytes{base=\"base-1\"}";
    let health = |mib: u64, limited: bool| {
        let max_metaspace = limited.then_some(200 << 20);
        let (java_version, used_metaspace) = (Some("17".to_owned()), Some(mib << 20));
        let loaded_classes = Some(9000);
        let health = Health { max_metaspace, used_metaspace, loaded_classes, java_version, ..Health::default() };
        Message::Health(health)
    };
    for each in [false, true] {
        let options = if each { &["--metrics-per-base"][..] } else { &[] };
        let mut scene = Scene::with(&["base-1", "base-2"], options);
        scene.say("base-1", health(196, true));
        scene.say("base-2", health(50, true));
        scene.settle();
        assert_says(&mut scene, &[("modulet_bases_metaspace_low", 1)]);
        assert!((says(&mut scene, "modulet_fullest_metaspace_ratio") - 0.98).abs() < 0.001);
        assert_eq!(scene.state.metrics.render().contains(used), each);
        if each {
            assert_says(&mut scene, &[(used, 196 << 20), ("modulet_base_loaded_classes{base=\"base-2\"}", 9000)]);
            scene.say("base-2", health(50, false)); // without a limit now
            scene.state.forget_base(&BaseId::new("base-1"), scene.now);
            assert!(!scene.state.metrics.render().contains("base=\"base-"));
        }
    }
}
