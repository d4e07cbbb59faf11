//! Lists of modules.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::Value;

use super::text::{module_id, root_cause, text_if_any};
use crate::domain::{ListedModule, ModuleState};

/// A list with more entries is refused, and not read to its end. A base has up to a thousand modules.
const MAX_MODULES: usize = 10_000;

/// A bounded list.
#[derive(Default)]
pub(super) struct RawList(pub(super) Vec<ListedModule>);

impl<'de> Deserialize<'de> for RawList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = RawList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of modules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<RawList, A::Error> {
        let mut modules = Vec::new();
        let mut count = 0_usize;
        while let Some(raw) = elements.next_element::<RawModule>()? {
            count += 1;
            if count > MAX_MODULES {
                return Err(A::Error::custom(format_args!("a list of more than {MAX_MODULES} modules")));
            }
            modules.extend(module(raw));
        }
        Ok(RawList(modules))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModule {
    #[serde(alias = "bizName")]
    name: Option<String>,
    #[serde(alias = "bizVersion")]
    version: Option<String>,
    #[serde(alias = "bizState")]
    state: Option<String>,
    latest_state_record: Option<RawRecord>,
    /// Over HTTP alone. Whatever stands there: a list without it is still a list.
    web_context_path: Option<Value>,
    /// Over HTTP: all of them, the oldest first.
    biz_state_records: Option<Vec<RawRecord>>,
}

#[derive(Deserialize)]
struct RawRecord {
    message: Option<String>,
}

fn module(raw: RawModule) -> Option<ListedModule> {
    let state = match raw.state.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
        "resolved" => ModuleState::Resolved,
        "activated" => ModuleState::Activated,
        "deactivated" => ModuleState::Deactivated,
        "broken" => ModuleState::Broken,
        _ => ModuleState::Unknown,
    };
    let record = raw.latest_state_record.or_else(|| raw.biz_state_records.into_iter().flatten().next_back());
    let message = record.and_then(|record| record.message).filter(|text| !text.is_empty());
    let id = module_id(raw.name, raw.version)?;
    let context_path = raw.web_context_path.and_then(|path| text_if_any(path.as_str().map(str::to_owned)));
    let context_path = context_path.map(String::into_boxed_str);
    Some(ListedModule { id, state, context_path, message: message.map(|text| root_cause(&text)) })
}
