use super::*;
use crate::domain::{ModuleId, ModuleSpec, Origin, Strategy};

fn id(name: &str) -> BaseId {
    BaseId::new(name)
}

fn spec(number: usize) -> ModuleSpec {
    ModuleSpec {
        id: ModuleId::new(format!("biz{number}"), "1"),
        origin: Origin::default(),
        url: "https://modules.example.com/biz.jar".into(),
        args: Vec::new(),
        envs: std::collections::BTreeMap::new(),
        unresolved: None,
    }
}

#[test]
fn a_flood_is_read_at_the_pace_of_its_allowance() {
    let (start, mut budgets) = (Instant::now(), Budgets::default());
    for (kind, burst, in_a_minute) in
        [(Kind::Heart, 60, 60), (Kind::SimpleBiz, 60, 60), (Kind::BizOperation, 200, 60), (Kind::QueryBaseline, 20, 12)]
    {
        let read = (0..60_000_u64)
            .filter(|ms| budgets.admits(&id("loud"), kind, 100, start + Duration::from_millis(*ms)))
            .count();
        assert!((burst + in_a_minute - 1..=burst + in_a_minute).contains(&read), "{kind:?}: {read}");
    }
    assert!(budgets.admits(&id("quiet"), Kind::Heart, 100, start));
}

#[test]
fn what_was_asked_for_is_read_however_much_it_is() {
    let (now, mut budgets, base) = (Instant::now(), Budgets::default(), id("base-1"));
    // All that it may say unasked is used up.
    while budgets.admits(&base, Kind::BizOperation, 100, now) {}
    while budgets.admits(&base, Kind::SimpleBiz, 100, now) {}
    for number in 0..1000 {
        budgets.asked(&base, &Command::Install(spec(number), Strategy::InstallOnly), now);
        budgets.asked(&base, &Command::QueryModules, now);
    }
    // All at the end, as when the link was away: a reply each, and two lists.
    for _ in 0..1000 {
        assert!(budgets.admits(&base, Kind::BizOperation, 12_000, now));
        assert!(budgets.admits(&base, Kind::SimpleBiz, 100_000, now));
        assert!(budgets.admits(&base, Kind::SimpleBiz, 100, now));
    }
    assert!(!budgets.admits(&base, Kind::BizOperation, 100, now));
    budgets.asked(&base, &Command::Baseline((0..1000).map(spec).collect()), now);
    assert!((0..1000).all(|_| budgets.admits(&base, Kind::BizOperation, 100, now)));
    assert!(budgets.admits(&base, Kind::BatchInstallBizResponse, 1_000_000, now));
}

#[test]
fn a_base_that_is_asked_again_after_a_refusal_is_read() {
    let (now, mut budgets, base) = (Instant::now(), Budgets::default(), id("base-1"));
    while budgets.admits(&base, Kind::SimpleBiz, 4 << 20, now) {}
    // The question after next, 20 s later at most.
    let later = now + Duration::from_secs(20);
    budgets.asked(&base, &Command::QueryModules, later);
    assert!(budgets.admits(&base, Kind::SimpleBiz, 4 << 20, later));
}

#[test]
fn a_heart_of_any_generation_is_always_read() {
    let (start, mut budgets) = (Instant::now(), Budgets::default());
    let read = |budgets: &mut Budgets, seconds| {
        budgets.admits(&id("base-1"), Kind::Heart, 400, start + Duration::from_secs(seconds))
    };
    assert!((0..3600).all(|beat| read(&mut budgets, 10 * beat)));
}

#[test]
fn accounts_are_bounded_whoever_invents_identities() {
    let (start, mut budgets) = (Instant::now(), Budgets::default());
    for number in 0..100_000_u64 {
        let now = start + Duration::from_micros(100 * number);
        assert!(budgets.admits(&id(&format!("invented-{number}")), Kind::Heart, 400, now));
        assert!(budgets.accounts.len() <= ACCOUNTS);
    }
    // Quiet ones go first: nobody else loses an account.
    let mut budgets = Budgets::default();
    for number in 0..ACCOUNTS - 1 {
        budgets.admits(&id(&format!("quiet-{number}")), Kind::Heart, 400, start);
    }
    let now = start + Duration::from_secs(600);
    while budgets.admits(&id("loud"), Kind::QueryBaseline, 400, now) {}
    assert!(budgets.admits(&id("one-more"), Kind::Heart, 400, now));
    assert!(!budgets.admits(&id("loud"), Kind::QueryBaseline, 400, now));
    assert_eq!(budgets.accounts.len(), 2);
}

#[test]
fn refusals_are_told_once_a_minute_for_a_base_and_not_too_many_in_all() {
    let (start, mut budgets) = (Instant::now(), Budgets::default());
    let logged: Vec<_> = (0..600_000_u64)
        .step_by(10)
        .filter_map(|ms| budgets.logs(&id("loud"), start + Duration::from_millis(ms)))
        .collect();
    assert_eq!(logged.len(), 10);
    assert_eq!(logged[..3], [1, 6000, 6000]);
    let now = start + Duration::from_secs(1000);
    let logged = (0..10_000).filter(|n| budgets.logs(&id(&format!("invented-{n}")), now).is_some()).count();
    assert_eq!(logged, 50);
}
