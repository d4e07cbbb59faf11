use std::time::Duration;

use serde_json::json;

use super::{departed::DAYS, *};
use crate::k8s::{ledger_entry, record_object};

#[test]
fn the_ledgers_of_bases_that_went_long_ago_are_taken_out_of_their_objects() {
    let (now, mut record) = (Instant::now(), Record::new("m", "dev", "me"));
    let saved = |departed| {
        let mut saved = Saved { departed, ..Saved::default() };
        saved.ledger.install(&ModuleId::new("biz1", "1"));
        saved
    };
    let bases = [("old", Some(100)), ("lately", Some(140)), ("here", None)];
    let entries = bases.map(|(base, departed)| ledger_entry(&BaseId::new(base), &saved(departed)));
    let mut object = record_object("dev", &ledgers_name("dev", 0), &entries.into());
    object["metadata"]["resourceVersion"] = json!("7");
    record.seen(Seen::ListBegins, now);
    record.seen(Seen::Applied(serde_json::from_value(object).unwrap()), now);
    record.seen(Seen::ListEnds, now);
    record.begin([BaseId::new("here")].into_iter(), 100 + DAYS + 1, now);
    assert_eq!(record.departed().count(), 2);
    let mut out = Vec::new();
    record.plan(|_| None, now + Duration::from_secs(11), &mut out);
    let [Effect::Write(_, _, request)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(request.body(), json!({ "data": { "old": null } }));
    record.written(&ledgers_name("dev", 0), Ok(Outcome { resource_version: 8 }), now);
    let mut out = Vec::new();
    assert_eq!(record.plan(|_| None, now + Duration::from_secs(100), &mut out), None);
    assert!(out.is_empty());
}

/// It was told to install something, its process died before the ledger was written, and it is silent until its Node is
/// deleted and its Pods are gone: what it was told is kept for when it comes back.
#[test]
fn what_a_base_may_have_by_a_process_that_died_is_kept_when_the_base_is_forgotten() {
    let (now, mut record) = (Instant::now(), Record::new("m", "dev", "me"));
    let (module, silent, heard) = (ModuleId::new("biz1", "1"), BaseId::new("silent"), BaseId::new("heard"));
    let other = BaseId::new("has it by somebody else");
    let ordered = BTreeMap::from([(module.clone(), BTreeSet::from([other.clone()]))]);
    let mut object = record_object("dev", &ordered_name("dev"), &BTreeMap::from([ordered_entry(&ordered)]));
    object["metadata"]["resourceVersion"] = json!("7");
    record.seen(Seen::ListBegins, now);
    record.seen(Seen::Applied(serde_json::from_value(object).unwrap()), now);
    record.seen(Seen::ListEnds, now);
    record.begin([silent.clone(), heard.clone(), other.clone()].into_iter(), 100, now);
    record.ordered.listed(&heard, std::iter::empty(), &Ledger::default(), now);
    for base in [&silent, &heard, &other, &BaseId::new("came later")] {
        record.forget(base, Ledger::default(), 100, now);
    }
    assert!(record.take(&silent).is_some_and(|ledger| ledger.installed(&module)));
    for base in [&heard, &other, &BaseId::new("came later")] {
        assert_eq!(record.take(base), None, "{base}");
    }
}
