//! Releases as people know them.

use serde_json::json;

use super::start::{BASES, confirmed, installed, spec};
use crate::k8s::rollout::Phase;

#[test]
fn a_release_goes_base_by_base_and_nothing_is_touched_before_its_turn() {
    let mut cluster = installed(BASES, 0, confirmed(), 1);
    cluster.deployment.template = "2";
    for (released, phase) in [(1, Phase::Waiting), (4, Phase::Waiting), (BASES, Phase::Completed)] {
        cluster.runs(60);
        let status = cluster.status();
        assert_eq!((cluster.with("2"), status.phase), (released, Some(phase)), "{status:?}");
        assert_eq!(cluster.touched["2"].len(), released);
        cluster.says("confirm");
    }
    assert_eq!(cluster.fewest, BASES);
    let batches = cluster.told.iter().filter(|reason| **reason == "BatchDone").count();
    assert_eq!((batches, cluster.told.last()), (2, Some(&"ReleaseCompleted")), "{:?}", cluster.told);
}

#[test]
fn a_confirmation_is_of_one_batch_and_of_one_revision() {
    let mut cluster = installed(BASES, 0, confirmed(), 2);
    cluster.says("confirm"); // of the first version
    cluster.runs(5);
    cluster.deployment.template = "2";
    cluster.runs(60);
    assert_eq!(cluster.with("2"), 1);
    for _ in 0..3 {
        cluster.says("confirm");
    }
    cluster.runs(60);
    assert_eq!(cluster.with("2"), 4);
    cluster.says("confirm-all");
    cluster.runs(60);
    assert_eq!((cluster.with("2"), cluster.fewest), (BASES, BASES));
}

#[test]
fn a_failure_holds_what_is_left_and_the_way_back_is_open() {
    let mut cluster = installed(BASES, 0, confirmed(), 3);
    cluster.deployment.template = "2";
    cluster.runs(60);
    cluster.breaks("2");
    cluster.says("confirm");
    cluster.runs(60);
    let status = cluster.status();
    assert_eq!((status.phase, status.bases.failed), (Some(Phase::Paused), 3), "{status:?}");
    assert_eq!((cluster.with("2"), cluster.touched["2"].len(), cluster.fewest), (1, 4, BASES));
    cluster.says("abort");
    cluster.runs(120);
    let status = cluster.status();
    assert_eq!((status.phase, status.rejected_revision.as_deref()), (Some(Phase::Idle), Some("2")), "{status:?}");
    assert_eq!((cluster.with("1"), cluster.fewest), (BASES, BASES));
    // Git applies it again.
    cluster.deployment.template = "2";
    cluster.nodes.iter_mut().for_each(|node| node.jvm.broken.clear());
    cluster.runs(60);
    assert_eq!((cluster.status().phase, cluster.with("1")), (Some(Phase::Blocked), BASES));
    cluster.says("retry");
    cluster.runs(60);
    assert_eq!((cluster.status().phase, cluster.with("2")), (Some(Phase::Waiting), 1));
}

#[test]
fn what_failed_is_not_tried_again_where_git_insists_before_the_way_back_is_over() {
    for events in 0..12 {
        let mut cluster = installed(BASES, 0, confirmed(), 40 + events);
        cluster.deployment.template = "2";
        cluster.runs(60);
        cluster.breaks("2");
        cluster.says("confirm");
        cluster.runs(60);
        cluster.says("abort");
        while cluster.status().step > 0 {
            cluster.happens();
        }
        (0..10 * events).for_each(|_| cluster.happens());
        cluster.deployment.template = "2";
        cluster.runs(30);
        assert_eq!(cluster.status().phase, Some(Phase::Blocked), "after {events}");
        // It would come up now, but for that.
        cluster.nodes.iter_mut().for_each(|node| node.jvm.broken.clear());
        cluster.runs(400);
        let (status, with) = (cluster.status(), cluster.with("2"));
        assert!(with <= 1 && status.phase == Some(Phase::Blocked), "after {events}, {with}: {status:?}");
        assert_eq!(cluster.fewest, BASES, "after {events}");
    }
}

#[test]
fn what_is_mended_goes_on_by_a_retry_and_what_is_not_by_a_skip() {
    for word in ["retry", "skip"] {
        let mut wanted = confirmed();
        wanted["maxParallel"] = json!(1);
        let mut cluster = installed(BASES, 0, wanted, 4);
        cluster.breaks("2");
        cluster.deployment.template = "2";
        cluster.runs(60);
        assert_eq!(cluster.status().phase, Some(Phase::Paused));
        if word == "retry" {
            cluster.nodes.iter_mut().for_each(|node| node.jvm.broken.clear());
        }
        cluster.says(word);
        cluster.runs(400);
        let status = cluster.status();
        assert_eq!((status.phase, status.step), (Some(Phase::Waiting), 1), "{word}: {status:?}");
        assert_eq!((cluster.with("2"), cluster.fewest), (usize::from(word == "retry"), BASES));
        // What was passed over is not at work for ever.
        cluster.nodes.iter_mut().skip(1).for_each(|node| node.jvm.broken.clear());
        cluster.says("confirm-all");
        cluster.runs(120);
        let status = cluster.status();
        assert_eq!(status.phase, Some(Phase::Completed), "{word}: {status:?}");
        assert!(cluster.with("2") >= BASES - 1, "{word}: {status:?}");
    }
}

#[test]
fn failures_beyond_the_policy_roll_back() {
    let mut wanted = confirmed();
    wanted["failurePolicy"] = json!({ "maxFailures": 1, "action": "Rollback" });
    let mut cluster = installed(BASES, 0, wanted, 5);
    cluster.deployment.template = "2";
    cluster.runs(60);
    cluster.breaks("2");
    cluster.says("confirm");
    cluster.runs(120);
    let status = cluster.status();
    assert_eq!((status.phase, status.rejected_revision.as_deref()), (Some(Phase::Idle), Some("2")), "{status:?}");
    assert_eq!((cluster.with("1"), cluster.fewest), (BASES, BASES));
    assert!(cluster.told.contains(&"RollingBack") && cluster.told.contains(&"RolledBack"), "{:?}", cluster.told);
}

#[test]
fn a_pause_of_seconds_is_not_made_shorter_by_a_restart() {
    let steps = json!([{ "replicas": 1, "pause": { "durationSeconds": 100 } }, { "replicas": "100%" }]);
    let mut cluster = installed(BASES, 0, spec(steps), 6);
    cluster.deployment.template = "2";
    cluster.runs(20);
    let began = cluster.now;
    assert_eq!(cluster.status().phase, Some(Phase::Waiting));
    while cluster.touched["2"].len() < 2 {
        cluster.runs(1);
        if cluster.now.duration_since(began).as_secs() == 50 {
            cluster.begin();
        }
        assert!(cluster.now.duration_since(began).as_secs() < 200);
    }
    let waited = cluster.now.duration_since(began).as_secs();
    assert!((99..=135).contains(&waited), "{waited} s");
}

#[test]
fn not_more_bases_than_may_are_at_work_at_once() {
    let mut wanted = spec(json!([{ "replicas": "100%" }]));
    wanted["maxParallel"] = json!(2);
    let mut cluster = installed(BASES, 0, wanted, 7);
    cluster.deployment.template = "2";
    let mut most = 0;
    for _ in 0..60 {
        cluster.runs(1);
        let ready =
            cluster.deployment.pods.iter().filter(|pod| pod.ready && cluster.deployment.sets[pod.set].hash == "2");
        let touched = cluster.touched.get("2").map_or(0, Vec::len);
        most = most.max(touched.saturating_sub(ready.count()));
    }
    assert_eq!((cluster.with("2"), cluster.status().phase), (BASES, Some(Phase::Completed)));
    assert!((1..=2).contains(&most), "{most}");
}

#[test]
fn a_second_template_takes_over_and_what_was_released_before_stays_until_its_turn() {
    let mut cluster = installed(BASES, 0, confirmed(), 8);
    cluster.deployment.template = "2";
    cluster.runs(60);
    cluster.says("confirm");
    cluster.runs(60);
    assert_eq!(cluster.with("2"), 4);
    cluster.deployment.template = "3";
    cluster.runs(60);
    let status = cluster.status();
    assert_eq!((status.phase, status.step, status.stable_revision.as_deref()), (Some(Phase::Waiting), 1, Some("1")));
    assert_eq!((cluster.with("3"), cluster.fewest), (1, BASES));
    cluster.says("confirm-all");
    cluster.runs(120);
    assert_eq!((cluster.with("3"), cluster.fewest, cluster.status().phase), (BASES, BASES, Some(Phase::Completed)));
}

#[test]
fn by_number_where_the_scheduler_chooses() {
    for surge in [1, 3] {
        let mut cluster = installed(surge, 0, confirmed(), 9);
        cluster.deployment.template = "2";
        for released in [1, 4, BASES] {
            cluster.runs(120);
            assert_eq!(cluster.touched["2"].len(), released, "surge {surge}: {:?}", cluster.status());
            cluster.says("confirm");
        }
        assert_eq!((cluster.with("2"), cluster.fewest), (BASES, BASES), "surge {surge}");
        assert_eq!(cluster.status().phase, Some(Phase::Completed));
    }
}

#[test]
fn what_may_be_unavailable_holds_everything_and_is_told() {
    let mut cluster = installed(BASES, 2, confirmed(), 10);
    cluster.deployment.template = "2";
    cluster.runs(60);
    let status = cluster.status();
    assert_eq!(status.phase, Some(Phase::Blocked));
    let message = status.message.unwrap_or_default();
    assert!(message.contains("kubectl patch deployment d") && message.contains("\"maxUnavailable\":0"), "{message}");
    // Old Pods go, and what they ran stays: the promise is kept all the same.
    assert_eq!((cluster.touched.get("2"), cluster.fewest), (None, BASES));
}

#[test]
fn who_goes_away_releases_the_rest_in_order() {
    // In the middle of a batch, and while one waits.
    for (rounds, phase) in [(2, Phase::Progressing), (60, Phase::Waiting)] {
        let mut wanted = confirmed();
        wanted["maxParallel"] = json!(1);
        let mut cluster = installed(BASES, 0, wanted, 11);
        cluster.deployment.template = "2";
        cluster.runs(rounds);
        assert_eq!(cluster.status().phase, Some(phase));
        assert_eq!(cluster.object.metadata.finalizers.as_ref().map(Vec::len), Some(1));
        cluster.deletes();
        cluster.runs(120);
        assert_eq!((cluster.with("2"), cluster.fewest), (BASES, BASES));
        assert_eq!(cluster.object.metadata.finalizers.as_ref().map(Vec::len), Some(0));
    }
}

#[test]
fn what_is_blocked_and_deleted_comes_in_order_all_the_same() {
    for unavailable in [0, 2] {
        let mut wanted = confirmed();
        wanted["maxParallel"] = json!(2);
        let mut cluster = installed(BASES, unavailable, wanted, 12);
        cluster.deployment.template = "2";
        cluster.runs(60);
        cluster.says("abort");
        cluster.runs(120);
        cluster.deployment.template = "2";
        cluster.runs(60);
        assert_eq!((cluster.status().phase, cluster.with("1")), (Some(Phase::Blocked), BASES));
        cluster.deletes();
        let mut most = 0;
        for _ in 0..120 {
            cluster.runs(1);
            let ready =
                cluster.deployment.pods.iter().filter(|pod| pod.ready && cluster.deployment.sets[pod.set].hash == "2");
            most = most.max(cluster.touched.get("2").map_or(0, Vec::len).saturating_sub(ready.count()));
        }
        assert_eq!((cluster.with("2"), cluster.fewest), (BASES, BASES), "{:?}", cluster.status());
        assert!(most <= 2, "{most} at once");
        assert_eq!(cluster.object.metadata.finalizers.as_ref().map(Vec::len), Some(0));
    }
}

#[test]
fn numbers_are_of_all_bases_from_the_start() {
    for surge in [1, 3, BASES] {
        let mut cluster = installed(surge, 0, confirmed(), 13);
        cluster.deployment.template = "2";
        cluster.deployment.rolls();
        // No Pod is there yet.
        for _ in 0..10 {
            cluster.looks();
            cluster.writes();
        }
        let status = cluster.status();
        let message = status.message.clone().unwrap_or_default();
        assert!(message.contains(&format!("0 of {BASES} bases")), "{message}");
        cluster.runs(60);
        let status = cluster.status();
        let counts = (status.phase, status.bases.total, status.bases.done, status.bases.left);
        assert_eq!(counts, (Some(Phase::Waiting), 8, 1, 7), "surge {surge}");
        assert_eq!(status.done_of.as_deref(), Some("1/8"));
        cluster.says("confirm-all");
        cluster.runs(120);
        assert_eq!(cluster.status().done_of.as_deref(), Some("8/8"));
    }
}
