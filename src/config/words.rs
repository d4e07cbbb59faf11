//! Words on the command line that are read in a way of their own.

use clap::ValueEnum;

use crate::k8s::names;

/// What becomes of a module name that Pods of several namespaces use on one base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SharedModuleNames {
    /// They take each other's place, as revisions do.
    Allow,
    /// Who comes later waits.
    Refuse,
}

/// Whether each base is a zone of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ZonePerBase {
    /// While no ordinary Node has a zone.
    Auto,
    /// Always.
    #[value(aliases = ["yes", "on", "1", "y", "t"])]
    True,
    /// Never.
    #[value(aliases = ["no", "off", "0", "n", "f"])]
    False,
}

pub(super) fn parse_env(env: &str) -> Result<String, String> {
    let env = if env.is_empty() { "dev".to_owned() } else { env.to_lowercase() };
    let fits = env.len() <= 30 && !env.contains('.') && names::is_label_value(&env) && !env.contains('_');
    if fits { Ok(env) } else { Err("use up to 30 letters, digits and '-': it becomes part of Node names".to_owned()) }
}

pub(super) fn parse_client_id(id: &str) -> Result<String, String> {
    if id.is_empty() {
        Err("it must not be empty; leave it out for a random one".to_owned())
    } else {
        Ok(id.to_owned())
    }
}

/// Unlike those of other controllers started at the same moment.
pub(super) fn random_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("modulet-{random:016x}")
}
