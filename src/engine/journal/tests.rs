use super::*;

fn journal() -> Journal {
    Journal::new("modulet".into(), "dev".into(), "1".into())
}

fn base(name: &str) -> BaseId {
    BaseId::new(name)
}

fn biz(version: &str) -> ModuleId {
    ModuleId::new("biz1", version)
}

fn unreachable() -> WriteError {
    WriteError::Unreachable("no answer".into())
}

/// The next segment, with the reservations of these bases for the first version.
fn segment(journal: &mut Journal, likely: &[&str], now: Instant) -> Option<(Arc<str>, Installs)> {
    let due = journal.due(now)?;
    journal.sent(true);
    Some(journal.begin(&due, likely.iter().map(|name| (base(name), biz("1")))))
}

#[test]
fn what_many_bases_install_is_one_segment_and_goes_with_the_last_of_them() {
    let (mut journal, now) = (journal(), Instant::now());
    journal.want(&base("a"), &[biz("1"), biz("2")]);
    journal.want(&base("b"), &[biz("1")]);
    let (name, installs) = segment(&mut journal, &[], now).unwrap();
    assert_eq!(installs.values().map(Vec::len).sum::<usize>(), 3);
    assert!(journal.covers(&base("a"), &biz("1")) && !journal.has(&base("a"), &biz("1")));
    let told = journal.created(&name, Ok(Outcome::default()), now);
    assert_eq!(told, BTreeSet::from([base("a"), base("b")]));
    assert!(journal.has(&base("a"), &biz("1")) && journal.has(&base("b"), &biz("1")));
    let later = journal.next().unwrap();
    journal.settle(&base("a"), |install| *install == biz("2"), later);
    journal.settle(&base("b"), |_| false, later);
    assert_eq!(journal.segments[&name].state, State::Written);
    journal.settle(&base("a"), |_| false, later);
    assert_eq!(journal.segments[&name].state, State::Leaving);
    journal.deleted(&name, &Ok(Outcome::default()), later);
    assert!(journal.segments.is_empty() && journal.by_base.is_empty() && journal.count == 0);
}

#[test]
fn bases_that_may_be_next_are_on_record_until_it_is_known_that_they_are_not() {
    let (mut journal, now) = (journal(), Instant::now());
    journal.want(&base("a"), &[biz("1")]);
    let (name, installs) = segment(&mut journal, &["b", "c", "a"], now).unwrap();
    assert_eq!(installs, Installs::from(["a", "b", "c"].map(|name| (base(name), vec![biz("1")]))));
    journal.want(&base("b"), &[biz("1")]);
    assert!(!journal.has(&base("b"), &biz("1")), "not before it is written");
    let told = journal.created(&name, Ok(Outcome::default()), now);
    assert_eq!(told, BTreeSet::from([base("a"), base("b")]), "who waits for it");
    journal.settle(&base("c"), |_| false, now);
    assert!(journal.has(&base("c"), &biz("1")));

    let end = journal.next().unwrap();
    let mut ended = journal.end_reservations(|until| until <= end);
    ended.sort();
    assert_eq!(ended, ["a", "b", "c"].map(base));
    assert_eq!(journal.next(), None);
    ended.iter().for_each(|id| journal.settle(id, |_| *id == base("b"), end));
    assert!(journal.has(&base("b"), &biz("1")) && !journal.has(&base("c"), &biz("1")));
    assert_eq!(journal.count, 1);
}

#[test]
fn a_few_lone_installs_begin_reservations_and_the_next_ones_do_not() {
    let (mut journal, now) = (journal(), Instant::now());
    for number in 0..RESERVATIONS {
        assert!(journal.may_reserve(now), "{number}");
        let module = ModuleId::new(format!("biz{number}"), "1");
        journal.want(&base("a"), std::slice::from_ref(&module));
        let due = journal.due(now).unwrap();
        let (name, _) = journal.begin(&due, std::iter::once((base("b"), module)));
        journal.created(&name, Ok(Outcome::default()), now);
    }
    assert!(!journal.may_reserve(now));
    let end = journal.next().unwrap();
    journal.end_reservations(|until| until <= end);
    assert!(journal.may_reserve(end), "they have ended");
}

#[test]
fn a_segment_of_which_nothing_was_heard_is_written_anew_and_deleted() {
    let (mut journal, now) = (journal(), Instant::now());
    journal.want(&base("a"), &[biz("1")]);
    let (first, _) = segment(&mut journal, &["b"], now).unwrap();
    journal.created(&first, Err(unreachable()), now);
    assert_eq!(journal.segments[&first].state, State::Leaving);
    assert!(!journal.covers(&base("b"), &biz("1")), "nobody waits for that");
    assert!(segment(&mut journal, &[], now).is_none(), "not at once");
    let later = journal.next().unwrap();
    let (second, installs) = segment(&mut journal, &[], later).unwrap();
    assert!(second != first && installs == Installs::from([(base("a"), vec![biz("1")])]));
    journal.created(&second, Ok(Outcome::default()), later);
    journal.deleted(&first, &Err(unreachable()), later);
    assert!(journal.next().is_some(), "the deletion is tried again");
    assert!(journal.has(&base("a"), &biz("1")));
}

#[test]
fn where_it_is_not_allowed_nothing_is_covered_so_that_ledgers_are_saved_at_once() {
    let (mut journal, now) = (journal(), Instant::now());
    journal.want(&base("a"), &[biz("1")]);
    let (name, _) = segment(&mut journal, &["c"], now).unwrap();
    let refused = WriteError::Refused { code: 403, message: "forbidden".into() };
    assert_eq!(journal.created(&name, Err(refused), now), BTreeSet::from([base("a")]));
    journal.want(&base("b"), &[biz("1")]);
    assert!(["a", "b", "c"].iter().all(|name| !journal.covers(&base(name), &biz("1"))));
    assert_eq!(journal.count, 0);
}

#[test]
fn it_has_an_end() {
    let mut journal = journal();
    for n in 0..CAPACITY + 10 {
        journal.want(&base(&format!("{n:040}")), &[biz("1")]);
    }
    assert_eq!(journal.count, CAPACITY);
    assert!(!journal.covers(&base(&format!("{:040}", CAPACITY + 5)), &biz("1")));
    let (_, installs) = segment(&mut journal, &["x"], Instant::now()).unwrap();
    assert!(installs.len() < CAPACITY, "an object has an end, too");
    assert!(!journal.covers(&base("x"), &biz("1")), "no room for what is not wanted yet");
}

#[test]
fn what_the_process_before_left_is_known_and_goes_when_saved() {
    let mut journal = journal();
    let installs = Installs::from([(base("a"), vec![biz("1")])]);
    journal.restore(Some(vec![("old".to_owned(), installs), ("empty".to_owned(), Installs::new())]));
    assert_eq!(journal.of(&base("a")).collect::<Vec<_>>(), [&biz("1")]);
    assert!(journal.has(&base("a"), &biz("1")));
    journal.settle(&base("a"), |_| false, Instant::now());
    assert!(journal.segments.values().all(|s| s.state == State::Leaving));
}
