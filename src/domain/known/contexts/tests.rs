//! What is known of context paths: of what, for how long, and how much.

use std::collections::BTreeMap;

use super::*;
use crate::domain::Origin;

fn spec(name: &str, version: &str) -> ModuleSpec {
    let (url, args, envs) = (format!("https://modules.example.com/{name}-{version}"), Vec::new(), BTreeMap::new());
    ModuleSpec { id: ModuleId::new(name, version), origin: Origin::of(&url), url, args, envs, unresolved: None }
}

fn learn(contexts: &mut WebContexts, spec: &ModuleSpec, path: &str, fetched: Option<Instant>) -> bool {
    let lesson = contexts.lesson(spec, path, fetched);
    contexts.learn(lesson.as_slice(), Instant::now());
    lesson.is_some()
}

#[test]
fn a_path_is_read_from_what_web_servers_say_and_from_what_we_say_of_it() {
    let id = ModuleId::new("biz1", "2");
    for (said, path) in [
        ("java.lang.IllegalStateException: Child name [biz1] is not unique", Some("biz1")),
        ("addChild:  Child name '/a b' is not unique", Some("/a b")),
        ("Child name [] is not unique", Some("")),
        ("Child name biz1 is not unique", None),
        ("Child name [", None),
        ("Child name [a\u{1b}[31m] is not unique", None),
        ("", None),
    ] {
        assert_eq!(taken_path(said), path, "{said:?}");
    }
    let long = "x".repeat(LONGEST + 1);
    assert_eq!(taken_path(&format!("Child name [{long}] is not unique")), None);
    for holder in [None, Some(ModuleId::new("biz1", "1")), Some(ModuleId::new("other", "1"))] {
        let message = in_use(&id, holder.as_ref(), "/a");
        assert_eq!(path_in_use(&id, &message).as_deref(), Some("/a"), "{message}");
        assert_eq!(path_in_use(&ModuleId::new("biz1", "22"), &message), None);
        assert_eq!(path_in_use(&ModuleId::new("biz1", ""), &message), None);
    }
}

#[test]
fn what_is_known_is_of_exactly_what_was_refused() {
    let (mut contexts, tried) = (WebContexts::default(), spec("biz1", "2"));
    assert!(learn(&mut contexts, &tried, "biz1", None));
    assert!(contexts.of(&tried, &[]).is_some_and(|c| c.is_at("/biz1")));
    let mut other = tried.clone();
    other.args.push("--server.servlet.context-path=/x".to_owned());
    assert_eq!(contexts.of(&other, &[]), None);
    let mut other = tried.clone();
    other.envs.insert("SPRING_PROFILES_ACTIVE".to_owned(), "x".to_owned());
    assert_eq!(contexts.of(&other, &[]), None);
    assert_eq!(contexts.of(&spec("biz1", "3"), &[]), None);
}

#[test]
fn statuses_of_pods_that_do_not_agree_are_no_news_for_ever() {
    let (mut contexts, tried, now) = (WebContexts::default(), spec("biz1", "2"), Instant::now());
    assert!(learn(&mut contexts, &tried, "a", None));
    assert!(!learn(&mut contexts, &tried, "b", None));
    assert!(learn(&mut contexts, &tried, "b", Some(now)), "a base says so now");
    assert!(!learn(&mut contexts, &tried, "a", Some(now)));
    assert!(!learn(&mut contexts, &tried, "a", None));
    let known = contexts.of(&tried, &[]).unwrap();
    assert!(known.is_at("b") && known.was_fetched_lately(now + FETCHED_LATELY / 2));
    assert!(!known.was_fetched_lately(now + FETCHED_LATELY));
}

#[test]
fn others_wait_for_one_base_that_tries_and_no_longer_than_it_takes() {
    let (mut contexts, tried, start) = (WebContexts::default(), spec("biz1", "3"), Instant::now());
    assert!(!contexts.learn(&[contexts.trial(&tried)], start));
    assert_eq!(contexts.tried_until(&tried, start), Some(start + TRIAL));
    assert_eq!(contexts.tried_until(&spec("biz1", "4"), start), None);
    assert_eq!(contexts.tried_until(&tried, start + TRIAL), None);
    // The next one tries it then.
    assert!(!contexts.learn(&[contexts.trial(&tried)], start + TRIAL));
    assert_eq!(contexts.tried_until(&tried, start + TRIAL), Some(start + 2 * TRIAL));
    let refused = contexts.lesson(&tried, "biz1", Some(start)).unwrap();
    assert!(contexts.clone().learn(&[refused], start));
    let fine = contexts.loads_beside(&tried, start + TRIAL).unwrap();
    let fine = [fine];
    assert!(contexts.learn(&fine, start + TRIAL) && !contexts.learn(&fine, start + TRIAL));
    contexts.learn(&[contexts.trial(&tried)], start + TRIAL);
    assert_eq!(contexts.tried_until(&tried, start + TRIAL), None, "it is known to load");
    for version in 0..2 * TRIALS {
        contexts.learn(&[contexts.trial(&spec("biz2", &version.to_string()))], start);
    }
    assert_eq!(contexts.trials.len(), TRIALS);
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let (mut contexts, first) = (WebContexts::default(), spec("biz1", "0"));
    learn(&mut contexts, &first, "biz1", None);
    for version in 1..=MOST {
        learn(&mut contexts, &spec("biz1", &version.to_string()), "biz1", None);
    }
    assert_eq!(contexts.known.len(), MOST);
    assert_eq!(contexts.of(&first, &[]), None);
    assert!(contexts.of(&spec("biz1", "1"), &[]).is_some());
}
