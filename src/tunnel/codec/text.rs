//! Text from bases: all that leaves the codec has gone through here. URLs in it have no user and password any more: bases
//! repeat what they were told to fetch.

use crate::domain::{ModuleId, printable, without_credentials};

/// Root causes are cut to this many characters.
pub(super) const MAX_MESSAGE: usize = 1000;
/// What a base says of itself, and why it can't be read, to this many.
pub(super) const MAX_TEXT: usize = 300;

/// What a base says of itself.
pub(super) fn text(said: &str) -> String {
    printable(&without_credentials(said), MAX_TEXT).into_owned()
}

/// The same, where it says anything.
pub(super) fn text_if_any(said: Option<String>) -> Option<String> {
    said.filter(|said| !said.is_empty()).map(|said| text(&said))
}

/// None where it is too long to be anybody's module. A name with control characters is nobody's either: what is shown
/// of it is no name that could be asked for.
pub(super) fn module_id(name: Option<String>, version: Option<String>) -> Option<ModuleId> {
    let (name, version) = name.zip(version)?;
    let shown = |part: String| printable(&part, MAX_MESSAGE).into_owned();
    (name.len() + version.len() <= MAX_MESSAGE).then(|| ModuleId::new(shown(name), shown(version)))
}

/// The deepest `Caused by:` of a Java stack trace, or its first line, cut to a readable length.
pub(super) fn root_cause(trace: &str) -> String {
    let cause = trace.rsplit_once("Caused by: ").map_or(trace, |(_, cause)| cause);
    let line = cause.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    printable(&without_credentials(line), MAX_MESSAGE).into_owned()
}
