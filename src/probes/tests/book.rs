//! What is asked when, and what is told.

use super::*;

/// A book with one order, and how its facts read.
struct Desk {
    book: Book,
    now: Instant,
}

impl Desk {
    fn of(target: ProbeTarget) -> Self {
        let mut desk = Self { book: Book::default(), now: Instant::now() };
        desk.book.set(order("base-1", false, vec![target]), desk.now);
        desk
    }

    /// All that is due ends like that, once.
    fn round(&mut self, ends: &Outcome) -> Vec<String> {
        self.now = self.book.next().unwrap_or(self.now).max(self.now);
        let due: Vec<_> = std::iter::from_fn(|| self.book.due(self.now)).collect();
        let facts = due.iter().flat_map(|attempt| self.book.ended(attempt, ends.clone(), self.now));
        facts
            .map(|fact| {
                let says = match fact.says {
                    ProbeSays::Succeeds => "succeeds",
                    ProbeSays::Fails(_) => "fails",
                    ProbeSays::Failed(_) => "failed",
                    ProbeSays::Warns(_) => "warns",
                };
                format!("{} {says}", fact.kind.word())
            })
            .collect()
    }

    fn order(&mut self, busy: bool, targets: Vec<ProbeTarget>) {
        self.book.set(order("base-1", busy, targets), self.now);
    }
}

fn failure() -> Outcome {
    Outcome::Failure("503".to_owned())
}

fn all() -> Probes {
    let one = || Some(probe(get(1, "/")));
    Probes { startup: one(), readiness: one(), liveness: one() }
}

#[test]
fn only_what_changes_is_told() {
    let mut desk = Desk::of(target(readiness(get(1, "/"))));
    assert_eq!(desk.round(&failure()), ["readiness failed"], "not Ready is what it is thought to be");
    for _ in 0..10 {
        assert_eq!(desk.round(&failure()), [""; 0]);
    }
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
    for _ in 0..10 {
        assert_eq!(desk.round(&Outcome::Success), [""; 0]);
        assert_eq!(desk.round(&failure()), [""; 0], "said a moment ago");
        assert_eq!(desk.round(&Outcome::Unknown), [""; 0]);
    }
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&Outcome::Success), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness failed"]);
    assert_eq!(desk.round(&failure()), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness fails"]);
    assert_eq!(desk.round(&Outcome::Warning("w".to_owned())), ["readiness succeeds"]);
}

const SAID_AGAIN: Duration = Duration::from_secs(61);

#[test]
fn after_the_start_both_others_are_asked_and_what_fails_is_asked_no_more() {
    let mut desk = Desk::of(target(all()));
    assert_eq!(desk.round(&failure()), ["startup failed"]);
    assert_eq!(desk.round(&Outcome::Success), ["startup succeeds"]);
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&failure()), ["readiness failed", "liveness failed"]);
    assert_eq!(desk.round(&failure()), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness fails", "liveness fails"]);
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"], "liveness is not asked any more");
    // The next start of it.
    desk.order(false, vec![ProbeTarget { run: 1, ..target(all()) }]);
    assert_eq!(desk.round(&failure()), ["startup failed"]);
    desk.round(&failure());
    assert_eq!(desk.round(&failure()), ["startup fails"]);
    assert_eq!(desk.book.next(), None, "nothing is asked until it is started anew");
    desk.order(false, Vec::new());
    assert_eq!(desk.book.next(), None);
}

#[test]
fn while_a_base_is_at_work_for_us_its_failures_do_not_count_and_its_successes_do() {
    let mut desk = Desk::of(target(readiness(get(1, "/"))));
    let known = || vec![target(readiness(get(1, "/")))];
    desk.round(&Outcome::Success);
    desk.order(true, known());
    for _ in 0..10 {
        assert_eq!(desk.round(&failure()), [""; 0]);
    }
    desk.order(false, known());
    desk.round(&failure());
    desk.round(&failure());
    // What began while it was at work does not count either, nor does it begin anew.
    desk.order(true, known());
    let now = desk.book.next().unwrap();
    let attempt = desk.book.due(now).unwrap();
    desk.order(false, known());
    assert_eq!(desk.book.ended(&attempt, failure(), now), []);
    assert_eq!(desk.round(&failure()), ["readiness fails"]);
    desk.order(true, known());
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
}

#[test]
fn what_is_known_before_is_asked_at_any_moment_of_the_period_and_stays_until_enough_say_no() {
    let now = Instant::now();
    let mut book = Book::default();
    let period = Duration::from_secs(10);
    let slow = Probe { period, ..probe(get(1, "/")) };
    for base in 0..1000 {
        let probes = Probes { readiness: Some(slow.clone()), ..Probes::default() };
        let known = ProbeTarget { ready: true, active_for: None, ..target(probes) };
        book.set(order(&format!("base-{base}"), false, vec![known]), now);
    }
    let mut at_once = 0;
    for tenth in 1..=10 {
        let until = now + period * tenth / 10;
        let due: Vec<_> = std::iter::from_fn(|| book.due(until)).collect();
        assert!((50..200).contains(&due.len()), "{} in one tenth of the period", due.len());
        at_once += due.len();
        for attempt in due {
            assert!(book.ended(&attempt, Outcome::Success, until).is_empty(), "that is known");
        }
    }
    assert_eq!(at_once, 1000);
    // A fresh one waits for its initial delay, as far as it is not over.
    let delayed = Probe { initial_delay: Duration::from_secs(30), ..slow };
    let probes = Probes { liveness: Some(delayed), ..Probes::default() };
    let mut book = Book::default();
    let active_for = Some(Duration::from_secs(5));
    book.set(order("base-1", false, vec![ProbeTarget { active_for, ..target(probes) }]), now);
    assert_eq!(book.next(), Some(now + Duration::from_secs(25)));
}

#[test]
fn one_base_does_not_take_all_connections() {
    let now = Instant::now();
    let mut book = Book::default();
    let many = (0..50).map(|n| ProbeTarget { container: format!("biz{n}"), ..target(readiness(get(1, "/"))) });
    book.set(order("base-1", false, many.collect()), now);
    book.set(order("base-2", false, vec![target(readiness(get(1, "/")))]), now);
    let due: Vec<_> = std::iter::from_fn(|| book.due(now)).collect();
    assert_eq!(due.len(), 8 + 1);
    for attempt in &due {
        book.ended(attempt, Outcome::Success, now);
    }
    let mut asked = due.len();
    let mut at = now;
    while asked < 51 {
        at = book.next().unwrap().max(at);
        assert!(at < now + Duration::from_secs(5), "{asked} were asked");
        let due: Vec<_> = std::iter::from_fn(|| book.due(at)).collect();
        asked += due.len();
        due.iter().for_each(|attempt| drop(book.ended(attempt, Outcome::Success, at)));
    }
    // Another address is another base.
    book.set(ProbeOrder { address: "127.0.0.2".into(), ..order("base-2", false, vec![target(all())]) }, at);
    let due: Vec<_> = std::iter::from_fn(|| book.due(at)).collect();
    assert!(due.iter().any(|attempt| &*attempt.address == "127.0.0.2"));
}
