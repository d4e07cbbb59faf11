//! Words that all sections share.

use crate::check::{
    facts::{Blind, Look},
    finding::{Finding, Level},
};

pub(super) const API_SERVER: &str = "API server";
pub(super) const RIGHTS: &str = "rights";
pub(super) const DAEMON_SETS: &str = "DaemonSets";
pub(super) const ZONES: &str = "zones";
pub(super) const POD_CIDRS: &str = "Pod CIDRs";
pub(super) const CONTROLLERS: &str = "other controllers";
/// Names in one line.
const NAMED: usize = 5;

/// What was seen, or the finding that it was not.
pub(super) fn seen<'l, T>(section: &'static str, look: &'l Look<T>) -> Result<&'l T, Finding> {
    look.as_ref().map_err(|blind| match blind {
        Blind::Needs(right) => Finding::new(section, Level::CannotLook, format!("needs the right to {right}")),
        Blind::Failed(why) => Finding::new(section, Level::CannotLook, why.clone()),
    })
}

/// The first few names.
pub(super) fn some<'n, S: AsRef<str> + 'n>(names: impl IntoIterator<Item = &'n S>) -> String {
    let mut names = names.into_iter().map(AsRef::as_ref);
    let shown: Vec<&str> = names.by_ref().take(NAMED).collect();
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}
