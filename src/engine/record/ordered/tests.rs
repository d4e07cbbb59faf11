use super::*;

fn id(version: usize) -> ModuleId {
    ModuleId::new("biz1", version.to_string())
}

fn base(number: usize) -> BaseId {
    BaseId::new(format!("base-{number}"))
}

fn want(set: &mut OrderedSet, number: usize, version: usize, now: Instant) -> bool {
    set.want(&base(number), &id(version), BTreeSet::new, now)
}

#[test]
fn of_a_release_only_the_first_waits_and_one_write_is_made() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    assert!(!want(&mut set, 1, 1, now));
    assert!(set.due(now).0.is_some());
    assert!(!want(&mut set, 2, 1, now), "the write is on its way");
    assert_eq!(set.written(1), BTreeSet::from([base(1), base(2)]));
    assert!(want(&mut set, 3, 1, now));
    assert_eq!(set.due(now).0, None);
}

#[test]
fn an_id_leaves_when_the_ledgers_have_it_and_no_base_is_likely_to_follow() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    want(&mut set, 1, 1, now);
    set.due(now);
    set.written(1);
    let later = now + Duration::from_secs(60);
    assert_eq!(set.due(later), (None, None), "the ledger has not been written");
    set.saved(&base(1));
    assert_eq!(set.due(later).0, None, "nobody waits");
    assert_eq!(set.due(later + LAZY).0, Some(Ordered::new()));
}

#[test]
fn what_is_on_a_list_and_was_ordered_by_the_process_before_is_ours_and_an_exception_is_not() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    set.restore(Ordered::from([(id(1), BTreeSet::from([base(2)]))]), now);
    set.expect_reports([base(1), base(2)].into_iter(), now);
    let listed =
        |set: &mut OrderedSet, number| set.listed(&base(number), [id(1), id(2)].iter(), &Ledger::default(), now);
    assert_eq!(listed(&mut set, 1), [id(1)]);
    assert_eq!(listed(&mut set, 2), []);
    assert_eq!(listed(&mut set, 3), [], "it was not there at the start: somebody else's");
    set.due(now + LATE);
    assert_eq!(listed(&mut set, 1), [], "no command is that late");
}

#[test]
fn what_somebody_else_installs_while_we_look_is_an_exception_for_the_next_process() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    want(&mut set, 1, 1, now);
    set.due(now);
    set.written(1);
    set.listed(&base(9), [id(1)].iter(), &Ledger::default(), now);
    let written = set.due(now + LAZY).0;
    assert_eq!(written, Some(Ordered::from([(id(1), BTreeSet::from([base(9)]))])));
}

#[test]
fn many_modules_one_after_the_other_do_not_wait_for_each_other() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    for version in 0..200 {
        want(&mut set, 1, version, now);
        assert!(set.due(now).0.is_some(), "{version}");
        set.written(1);
    }
}

#[test]
fn the_set_is_bounded_and_has_room_again() {
    let (now, mut set) = (Instant::now(), OrderedSet::default());
    (0..MOST).for_each(|version| assert!(!want(&mut set, 1, version, now)));
    assert!(!want(&mut set, 1, MOST, now));
    assert_eq!(set.len(), MOST);
    set.due(now);
    set.written(1);
    set.saved(&base(1));
    set.due(now + KEPT);
    assert_eq!(set.len(), 0);
}

#[test]
fn where_the_write_fails_it_is_tried_again_and_where_the_object_is_taken_away_it_is_written_anew() {
    let (mut now, mut set) = (Instant::now(), OrderedSet::default());
    want(&mut set, 1, 1, now);
    assert!(set.due(now).0.is_some());
    set.failed(None, now);
    let (nothing, again) = set.due(now);
    assert_eq!(nothing, None);
    now = again.unwrap();
    assert!(set.due(now).0.is_some());
    set.written(1);
    set.lost(now);
    assert!(!want(&mut set, 2, 1, now), "it is not on record any more");
    assert!(set.due(now).0.is_some());
}
