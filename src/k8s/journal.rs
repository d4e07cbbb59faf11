//! A segment of the journal: installs of many bases on record in one object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::names;
use crate::domain::{BaseId, ModuleId};

/// Installs by base.
pub type Installs = BTreeMap<BaseId, Vec<ModuleId>>;

/// The `ConfigMap` that has these installs on record: one entry for each module, with all bases in one text, which
/// is far cheaper for the API server than an entry for each base.
pub fn journal_segment(name: &str, env: &str, installs: &Installs) -> Value {
    let mut by_module = BTreeMap::<&ModuleId, Vec<&str>>::new();
    for (base, modules) in installs {
        for module in modules {
            by_module.entry(module).or_default().push(base.as_str());
        }
    }
    let lines = by_module.iter().map(|(module, bases)| json!([module.name, module.version, bases]).to_string());
    let data: BTreeMap<_, _> = lines.enumerate().map(|(number, line)| (number.to_string(), line)).collect();
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
    let mut installs = Installs::new();
    for line in segment.data.iter().flat_map(BTreeMap::values) {
        let Ok((name, version, bases)) = serde_json::from_str::<(String, String, Vec<String>)>(line) else { continue };
        for base in bases {
            installs.entry(BaseId::new(base.as_str())).or_default().push(ModuleId::new(&name, &version));
        }
    }
    installs
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
            ("0".to_owned(), "what?".to_owned()),
            ("1".to_owned(), r#"["biz1","1",["base-2"]]"#.to_owned()),
        ]);
        let object = ConfigMap { data: Some(data), ..ConfigMap::default() };
        assert_eq!(
            journal_installs(&object),
            Installs::from([(BaseId::new("base-2"), vec![ModuleId::new("biz1", "1")])])
        );
    }
}
