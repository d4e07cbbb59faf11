//! Options of reports of failures.

use std::{fmt, path::PathBuf};

use clap::Args;

use crate::api::Hooks;

/// Who is told of failures.
#[derive(Args)]
pub(super) struct ReportArgs {
    #[arg(
        long,
        help = "URLs that each failure of a module is posted to, separated by ';': as JSON, or as a message of DingTalk where the path ends with /robot/send. They are secrets: better given by the variable or a file",
        env = "REPORT_HOOKS",
        value_name = "URL;…",
        hide_env_values = true,
        conflicts_with = "report_hooks_file"
    )]
    report_hooks: Option<String>,

    /// File with these URLs, also one a line, read again for each failure
    #[arg(long, env = "REPORT_HOOKS_FILE", value_name = "FILE")]
    report_hooks_file: Option<PathBuf>,
}

/// Without what is secret.
impl fmt::Debug for ReportArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportArgs").field("report_hooks_file", &self.report_hooks_file).finish_non_exhaustive()
    }
}

impl ReportArgs {
    /// None: nobody is told.
    pub(super) fn hooks(self) -> Option<Hooks> {
        self.report_hooks.map(Hooks::Given).or_else(|| self.report_hooks_file.map(Hooks::File))
    }
}
