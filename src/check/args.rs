//! The command line of the check.

/// What to do instead of running.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Look at the cluster and the broker, say what modulet will meet there, and change nothing.
    ///
    /// Takes the options of the controller too. Exit code: 0 all well, 1 something will not work, 2 could not look.
    Check(CheckArgs),
}

/// How to look, and how to say what was seen.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Count warnings as failures: exit code 1
    #[arg(long)]
    pub(super) strict: bool,

    /// How to say it
    #[arg(long, default_value = "text", value_enum, value_name = "FORMAT")]
    pub(super) output: Output,

    /// How long to listen for a base that proves that messages arrive, in seconds
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(super) listen: u64,

    /// Judge the rights of this service account instead of one's own (needs the right to create subjectaccessreviews)
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_account)]
    pub(super) service_account: Option<Account>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// How findings are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

fn parse_account(text: &str) -> Result<Account, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("give it as NAMESPACE/NAME".to_owned()),
    }
}
