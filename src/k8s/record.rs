//! modulet's record as `ConfigMap`s in its own namespace: modules that were ordered, and the ledgers of bases.
//!
//! It is not on the Nodes, so it outlives them; a release to thousands of bases is a few writes of a few objects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names;
use crate::domain::{BaseId, Ledger, ModuleId};

/// Modules that were ordered, with the bases that had them before and not by us.
pub type Ordered = BTreeMap<ModuleId, BTreeSet<BaseId>>;

/// How the record is written today. Whoever finds a later one cannot know what it says, and must not order anything.
const FORMAT: u32 = 1;

/// The entry of an object that has the ordered modules.
const ORDERED: &str = "ordered";

/// The entry that names who wrote it last.
const WRITER: &str = "writer";

/// What is kept of one base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its ledger.
    #[serde(rename = "l")]
    pub ledger: Ledger,
    /// The day (since 1970, UTC) on which its Node went, if it did. Only for cleaning up after many days.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub departed: Option<i64>,
}

/// Name of the object with the ordered modules.
pub fn ordered_name(env: &str) -> String {
    format!("modulet-ordered.{env}")
}

/// Name of the object with the ledgers of some bases.
pub fn ledgers_name(env: &str, number: usize) -> String {
    format!("modulet-ledgers.{env}.{number}")
}

/// The number in the name of an object with ledgers.
pub fn ledgers_number(env: &str, name: &str) -> Option<usize> {
    name.strip_prefix("modulet-ledgers.")?.strip_prefix(env)?.strip_prefix('.')?.parse().ok()
}

/// An object of the record with these entries.
pub fn record_object(env: &str, name: &str, entries: &BTreeMap<String, Value>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": { names::RECORD: env },
            "annotations": { names::RECORD_FORMAT: FORMAT.to_string() },
        },
        "data": entries,
    })
}

/// How an object is written, if that is not understood: by a later version, or by nobody knows whom.
pub fn foreign_format(object: &ConfigMap) -> Option<&str> {
    // The first versions did not say.
    let format = object.metadata.annotations.as_ref()?.get(names::RECORD_FORMAT)?;
    (!format.parse().is_ok_and(|format: u32| format <= FORMAT)).then_some(format)
}

/// The entry for these ordered modules.
pub fn ordered_entry(ordered: &Ordered) -> (String, Value) {
    let lines = ordered.iter().map(|(id, not_ours)| {
        let not_ours: Vec<_> = not_ours.iter().map(BaseId::as_str).collect();
        json!([id.name, id.version, not_ours])
    });
    (ORDERED.to_owned(), json!(lines.collect::<Value>().to_string()))
}

/// The entry for the process that writes.
pub fn writer_entry(me: &str) -> (String, Value) {
    (WRITER.to_owned(), json!(me))
}

/// Who wrote an object last, if it says so.
pub fn writer_of(object: &ConfigMap) -> Option<&str> {
    object.data.as_ref()?.get(WRITER).map(String::as_str)
}

/// The entry for a base; null takes it away.
pub fn ledger_entry(base: &BaseId, saved: &Saved) -> (String, Value) {
    let says_nothing = saved.ledger == Ledger::default();
    let text = serde_json::to_string(saved).ok().filter(|_| !says_nothing);
    (base.to_string(), text.map_or(Value::Null, Value::String))
}

/// The ordered modules that an object names. What nobody can read is passed over: it is not ours.
pub fn ordered_in(object: &ConfigMap) -> Ordered {
    let text = object.data.as_ref().and_then(|data| data.get(ORDERED)).map_or("[]", String::as_str);
    let lines: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let readable = lines.into_iter().filter_map(|line| serde_json::from_value(line).ok());
    readable
        .map(|(name, version, bases): (String, String, Vec<String>)| {
            (ModuleId::new(name, version), bases.into_iter().map(BaseId::new).collect())
        })
        .collect()
}

/// What an object keeps of bases, with the bytes of each entry.
pub fn ledgers_in(object: &ConfigMap) -> impl Iterator<Item = (BaseId, Saved, usize)> {
    object.data.iter().flatten().filter_map(|(base, text)| {
        Some((BaseId::new(base.as_str()), serde_json::from_str(text).ok()?, base.len().saturating_add(text.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(entries: &BTreeMap<String, Value>) -> ConfigMap {
        serde_json::from_value(record_object("dev", "x", entries)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ordered = Ordered::from([
            (ModuleId::new("biz1", "0.0.1"), BTreeSet::new()),
            (ModuleId::new("biz2", "1:0\"x"), BTreeSet::from([BaseId::new("base-1"), BaseId::new("b.2")])),
        ]);
        assert_eq!(ordered_in(&object(&BTreeMap::from([ordered_entry(&ordered)]))), ordered);

        let mut saved = Saved { departed: Some(20_000), ..Saved::default() };
        saved.ledger.install(&ModuleId::new("biz1", "0.0.1"));
        let (key, value) = ledger_entry(&BaseId::new("b.2"), &saved);
        let read: Vec<_> = ledgers_in(&object(&BTreeMap::from([(key, value)]))).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((&read[0].0, &read[0].1), (&BaseId::new("b.2"), &saved));
    }

    #[test]
    fn an_entry_that_nobody_can_read_does_not_hide_the_others() {
        let ordered = json!(r#"["what?", ["biz1", "1", ["base-2"]]]"#);
        let entries = BTreeMap::from([(ORDERED.to_owned(), ordered), ("base-1".to_owned(), json!("{"))]);
        let read = ordered_in(&object(&entries));
        assert_eq!(read, Ordered::from([(ModuleId::new("biz1", "1"), BTreeSet::from([BaseId::new("base-2")]))]));
        assert_eq!(ledgers_in(&object(&entries)).count(), 0);
    }

    #[test]
    fn what_a_later_version_writes_is_not_taken_for_ours() {
        let mut object = object(&BTreeMap::new());
        assert_eq!(foreign_format(&object), None);
        for later in ["2", "4294967296", "1.1", ""] {
            object.metadata.annotations = Some([(names::RECORD_FORMAT.to_owned(), later.to_owned())].into());
            assert_eq!(foreign_format(&object), Some(later));
        }
        object.metadata.annotations = None;
        assert_eq!(foreign_format(&object), None);
    }

    #[test]
    fn a_ledger_that_says_nothing_takes_no_room() {
        assert_eq!(ledger_entry(&BaseId::new("b"), &Saved::default()).1, Value::Null);
    }

    #[test]
    fn names_lead_back_to_their_numbers() {
        assert_eq!(ledgers_number("dev", &ledgers_name("dev", 12)), Some(12));
        assert_eq!(ledgers_number("dev", &ledgers_name("dev2", 1)), None);
        assert_eq!(ledgers_number("dev", &ordered_name("dev")), None);
    }

    #[test]
    fn a_ledger_of_an_earlier_version_says_which_modules_were_installed() {
        for (text, versions) in [
            (r#"{"l":{"biz1":{"installed":["1","2"]}}}"#, 2),
            (r#"{"l":{"biz1":{"installed":{"1":7,"2":null,"3":null}}}}"#, 3),
            (r#"{"l":{"biz1":{"claims":[]}}}"#, 0),
        ] {
            let entries = BTreeMap::from([("base-1".to_owned(), json!(text))]);
            let object = object(&entries);
            let (base, saved, _) = ledgers_in(&object).next().unwrap();
            assert_eq!((base.as_str(), saved.ledger.all_installed().count()), ("base-1", versions), "{text}");
        }
    }
}
