use super::*;
use crate::domain::ModuleId;

const PATH: &str = "/api/v1/namespaces/m/configmaps";

fn base(number: usize) -> BaseId {
    BaseId::new(format!("base-{number}"))
}

fn ledger(bytes: usize) -> impl Fn(&BaseId) -> (Saved, u64) {
    move |_| {
        let mut saved = Saved::default();
        saved.ledger.install(&ModuleId::new("biz1", "1".repeat(bytes)));
        (saved, 1)
    }
}

fn nothing(_: &BaseId) -> (Saved, u64) {
    (Saved::default(), 2)
}

/// All that is due is written, and answered.
fn flush(ledgers: &mut Ledgers, content: impl Fn(&BaseId) -> (Saved, u64), now: Instant) -> usize {
    let (writes, _) = ledgers.due("dev", PATH, content, now);
    for number in 0..ledgers.len() {
        ledgers.written(number, 1);
    }
    writes.len()
}

#[test]
fn a_release_to_a_fleet_is_a_few_writes_of_a_few_objects() {
    let (now, mut ledgers) = (Instant::now(), Ledgers::default());
    (0..5_000).for_each(|number| assert!(ledgers.changed(&base(number), || 60, now + COLLECTS)));
    assert!(ledgers.due("dev", PATH, ledger(10), now).0.is_empty(), "more may come");
    let writes = flush(&mut ledgers, ledger(10), now + COLLECTS);
    assert!((2..=5).contains(&writes), "{writes}");
    assert_eq!(ledgers.unsaved(), 0);
}

#[test]
fn no_object_grows_beyond_what_an_api_server_takes() {
    let (mut now, mut ledgers) = (Instant::now(), Ledgers::default());
    for round in 1..6 {
        (0..200).for_each(|number| assert!(ledgers.changed(&base(number), || 100, now)));
        for _ in 0..3 {
            now += Duration::from_secs(100);
            let (writes, _) = ledgers.due("dev", PATH, ledger(round * 10_000), now);
            for (_, request) in &writes {
                let bytes = request.body().to_string().len();
                assert!(bytes < 900 * 1024, "{bytes} in one write");
            }
            (0..ledgers.len()).for_each(|number| drop(ledgers.written(number, 1)));
        }
        assert!(ledgers.shards.iter().all(|shard| shard.bytes < 900 * 1024), "round {round}");
    }
}

#[test]
fn one_that_is_too_large_does_not_keep_the_others_from_being_written() {
    let (now, mut ledgers) = (Instant::now(), Ledgers::default());
    let content = |id: &BaseId| if *id == base(1) { ledger(LARGEST)(id) } else { ledger(5)(id) };
    (0..3).for_each(|number| assert!(ledgers.changed(&base(number), || 60, now)));
    let (writes, _) = ledgers.due("dev", PATH, content, now);
    let body = writes[0].1.body();
    assert!(body["data"]["base-0"].is_string() && body["data"]["base-2"].is_string());
    assert!(body["data"]["base-1"].is_null());
}

#[test]
fn what_says_nothing_any_more_is_taken_away_and_a_lost_object_comes_back_whole() {
    let (now, mut ledgers) = (Instant::now(), Ledgers::default());
    (0..3).for_each(|number| assert!(ledgers.changed(&base(number), || 60, now)));
    assert_eq!(flush(&mut ledgers, ledger(5), now), 1);
    ledgers.changed(&base(0), || 60, now);
    let (writes, _) = ledgers.due("dev", PATH, nothing, now);
    assert_eq!(writes[0].1.body(), serde_json::json!({ "data": { "base-0": null } }));
    ledgers.failed(0, Some(false), now);
    let (writes, _) = ledgers.due("dev", PATH, ledger(5), now + Duration::from_secs(1));
    let data = writes[0].1.body()["data"].clone();
    assert!(data["base-1"].is_string() && data["base-2"].is_string(), "{data}");
}

#[test]
fn a_write_that_fails_is_made_again() {
    let (now, mut ledgers) = (Instant::now(), Ledgers::default());
    ledgers.changed(&base(1), || 60, now);
    assert_eq!(ledgers.due("dev", PATH, ledger(1), now).0.len(), 1);
    ledgers.failed(0, None, now);
    assert_eq!(ledgers.unsaved(), 1);
    let (none, again) = ledgers.due("dev", PATH, ledger(1), now);
    assert!(none.is_empty());
    assert_eq!(ledgers.due("dev", PATH, ledger(1), again.unwrap()).0.len(), 1);
}
