//! `$(NAME)` in the values of variables and in arguments.

use std::collections::BTreeMap;

use super::super::limits;
use crate::domain::printable;

/// `$(NAME)` becomes the variable's value, `$$` becomes `$`, and what is not known stays as it is
/// (Kubernetes convention for `env` and `args`). `what` is named where the outcome would be too long.
pub(super) fn expand(text: &str, envs: &BTreeMap<String, String>, what: &str) -> Result<String, String> {
    let mut out = Bounded(String::new());
    let mut rest = text;
    // Behind the last bracket that closes there is no reference any more: one look for it is enough.
    let from_last_bracket = text.len().saturating_sub(text.rfind(')').unwrap_or(0));
    let expanded = loop {
        let Some((before, behind)) = rest.split_once('$') else { break out.push(rest) };
        let reference = rest.get(before.len()..).unwrap_or(rest);
        let inner = behind.strip_prefix('(').filter(|inner| inner.len() >= from_last_bracket);
        let (part, after) = if let Some(after) = behind.strip_prefix('$') {
            ("$", after)
        } else if let Some((name, after)) = inner.and_then(|inner| inner.split_once(')')) {
            let unknown = reference.get(..reference.len().saturating_sub(after.len())).unwrap_or(reference);
            (envs.get(name).map_or(unknown, String::as_str), after)
        } else {
            ("$", behind)
        };
        if out.push(before).and_then(|()| out.push(part)).is_none() {
            break None;
        }
        rest = after;
    };
    expanded.map(|()| out.0).ok_or_else(|| {
        let what = printable(what, limits::QUOTE_MAX);
        format!("a value ({what}) has more than {} bytes once its $(...) are replaced", limits::VALUE_MAX)
    })
}

/// A text that does not grow beyond [`limits::VALUE_MAX`].
struct Bounded(String);

impl Bounded {
    fn push(&mut self, part: &str) -> Option<()> {
        let fits = part.len() <= limits::VALUE_MAX.saturating_sub(self.0.len());
        fits.then(|| self.0.push_str(part))
    }
}
