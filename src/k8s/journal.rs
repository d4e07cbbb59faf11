//! A segment of the journal: installs of many bases on record in one object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::names;
use crate::domain::{BaseId, ModuleId};

/// Installs by base.
pub type Installs = BTreeMap<BaseId, Vec<ModuleId>>;

/// The `ConfigMap` that has these installs on record.
pub fn journal_segment(name: &str, env: &str, installs: &Installs) -> Value {
    let line = |modules: &Vec<ModuleId>| {
        let pairs: Vec<_> = modules.iter().map(|m| (&m.name, &m.version)).collect();
        json!(pairs).to_string()
    };
    let data: BTreeMap<_, _> = installs.iter().map(|(base, modules)| (base.as_str(), line(modules))).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { names::JOURNAL: env } },
        "immutable": true,
        "data": data,
    })
}

/// What a segment says. Entries that nobody can read are passed over: they are not ours.
pub fn journal_installs(segment: &ConfigMap) -> Installs {
    let entry = |(base, line): (&String, &String)| {
        let pairs: Vec<(String, String)> = serde_json::from_str(line).ok()?;
        let modules = pairs.into_iter().map(|(name, version)| ModuleId::new(&name, &version)).collect();
        Some((BaseId::new(base.as_str()), modules))
    };
    segment.data.iter().flatten().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let modules = vec![ModuleId::new("biz1", "0.0.1"), ModuleId::new("biz2", "1:0\"x")];
        let installs = Installs::from([
            (BaseId::new("base-1"), modules),
            (BaseId::new("b.2"), vec![ModuleId::new("biz1", "0.0.1")]),
        ]);
        let object = serde_json::from_value(journal_segment("a", "dev", &installs)).unwrap();
        assert_eq!(journal_installs(&object), installs);
    }

    #[test]
    fn an_entry_that_nobody_can_read_does_not_hide_the_others() {
        let data = BTreeMap::from([
            ("base-1".to_owned(), "what?".to_owned()),
            ("base-2".to_owned(), r#"[["biz1","1"]]"#.to_owned()),
        ]);
        let object = ConfigMap { data: Some(data), ..ConfigMap::default() };
        assert_eq!(
            journal_installs(&object),
            Installs::from([(BaseId::new("base-2"), vec![ModuleId::new("biz1", "1")])])
        );
    }
}
