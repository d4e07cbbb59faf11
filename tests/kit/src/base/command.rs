//! Commands as a base reads them, with its tolerance and its silence.

use serde_json::Value;

/// `installBiz`, or one element of a baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) url: Option<String>,
    pub(super) replace: bool,
    pub(super) args: Vec<String>,
}

/// A command that a base understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Install(Install),
    Uninstall {
        name: Option<String>,
        version: Option<String>,
    },
    /// Over HTTP only.
    Switch {
        name: Option<String>,
        version: Option<String>,
    },
    Baseline(Baseline),
    List,
    Health,
}

/// What came on the baseline topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    Elements(Vec<Install>),
    /// Nothing or `null`.
    Nothing,
    /// An array with something else than objects in it.
    Odd,
}

/// Why a base does not answer a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Unknown,
    Malformed,
}

/// Reads one message; `word` is the last level of its topic.
pub(super) fn read(word: &str, payload: &[u8]) -> Result<Command, Ignored> {
    let words = ["installBiz", "uninstallBiz", "switchBiz", "queryAllBiz", "health", "baseline", "batchInstallBiz"];
    if !words.contains(&word) {
        return Err(Ignored::Unknown);
    }
    // The base's JSON library reads an empty text as null.
    let value: Value = if payload.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(payload).map_err(|_| Ignored::Malformed)?
    };
    match (word, &value) {
        ("installBiz", Value::Object(_)) => Ok(Command::Install(install(&value))),
        ("uninstallBiz", Value::Object(_)) => {
            Ok(Command::Uninstall { name: text(&value, "bizName"), version: text(&value, "bizVersion") })
        }
        ("switchBiz", Value::Object(_)) => {
            Ok(Command::Switch { name: text(&value, "bizName"), version: text(&value, "bizVersion") })
        }
        ("queryAllBiz", Value::Object(_) | Value::Null) => Ok(Command::List),
        ("health", Value::Object(_) | Value::Null) => Ok(Command::Health),
        ("batchInstallBiz", Value::Object(fields)) => match fields.get("bizList") {
            None | Some(Value::Null) => Ok(Command::Baseline(Baseline::Nothing)),
            Some(Value::Array(elements)) => {
                Ok(Command::Baseline(Baseline::Elements(elements.iter().map(install).collect())))
            }
            Some(_) => Err(Ignored::Malformed),
        },
        ("baseline", Value::Null) => Ok(Command::Baseline(Baseline::Nothing)),
        ("baseline", Value::Array(elements)) => Ok(Command::Baseline(if elements.iter().all(Value::is_object) {
            Baseline::Elements(elements.iter().map(install).collect())
        } else {
            Baseline::Odd
        })),
        _ => Err(Ignored::Malformed),
    }
}

fn install(value: &Value) -> Install {
    let args = value.get("args").and_then(Value::as_array);
    Install {
        name: text(value, "bizName"),
        version: text(value, "bizVersion"),
        url: text(value, "bizUrl"),
        replace: value.get("installStrategy").and_then(Value::as_str) == Some("uninstallThenInstall"),
        args: args.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

impl Install {
    /// The fields' first fault, in the base's words.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if blank(self.url.as_deref()) {
            Some("bizUrl should not be blank")
        } else if blank(self.name.as_deref()) != blank(self.version.as_deref()) {
            Some("bizName and bizVersion should be both blank or both not blank.")
        } else {
            None
        }
    }

    /// Name and version if both were given.
    pub(super) fn asked(&self) -> Option<(&str, &str)> {
        self.name.as_deref().zip(self.version.as_deref()).filter(|(name, _)| !name.trim().is_empty())
    }
}

/// The fields' first fault of an uninstall, or of a switch.
pub(super) fn uninstall_fault(name: Option<&str>, version: Option<&str>) -> Option<&'static str> {
    if blank(name) {
        Some("bizName should not be blank")
    } else if blank(version) {
        Some("bizVersion should not be blank")
    } else {
        None
    }
}

fn blank(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.trim().is_empty())
}
