//! Options of metaspace.

use clap::Args;

use crate::domain::MetaspaceRules;

/// What is said and done about bases' metaspace.
#[derive(Args, Debug)]
pub(super) struct MetaspaceArgs {
    /// Share of its limit in percent above which a base's metaspace is low: its Node is under memory pressure until it is 10 below that
    #[arg(long, env = "MODULET_METASPACE_LOW", default_value_t = 95, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(50..=100))]
    metaspace_low: u64,

    /// Whether a module that will not fit into what is left of its base's metaspace waits. Off: it is installed all the same
    #[arg(long, env = "MODULET_METASPACE_WAIT", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    metaspace_wait: bool,

    /// Whether metrics have metaspace and classes of each base: four series for each
    #[arg(long, env = "MODULET_METRICS_PER_BASE", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) metrics_per_base: bool,
}

impl MetaspaceArgs {
    /// What is said and done.
    pub(super) fn rules(&self) -> MetaspaceRules {
        MetaspaceRules { low_above: self.metaspace_low, waits: self.metaspace_wait }
    }
}
