//! `modulet check`: looks at a cluster and a broker and says what modulet will meet there. It changes nothing.
//!
//! [`look`] and [`crate::tunnel::probe`] are its edge: what they see becomes [`facts::Facts`], which [`judge`] turns into findings,
//! without I/O and without a clock.

mod facts;
mod finding;
mod judge;
mod look;
mod rights;

use std::{process::ExitCode, time::Duration};

use crate::{
    config::Config,
    tunnel::{Topics, probe},
};
use finding::Report;

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
    strict: bool,

    /// How to say it
    #[arg(long, default_value = "text", value_enum, value_name = "FORMAT")]
    output: Output,

    /// How long to listen for a base that proves that messages arrive, in seconds
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=600))]
    listen: u64,

    /// Judge the rights of this service account instead of one's own (needs the right to create subjectaccessreviews)
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_account)]
    service_account: Option<Account>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    namespace: String,
    name: String,
}

/// How findings are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// Looks, says what was seen, and returns the exit code: 0 all well, 1 something will not work, 2 could not look.
pub async fn run(config: &Config, args: &CheckArgs) -> ExitCode {
    // rustls wants to be told which cryptography to use; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let topics = Topics::new(&config.env);
    let broker = async {
        match &config.mqtt {
            // Another session than that of the controller, which may be running.
            Some(mqtt) => {
                let mqtt = crate::tunnel::mqtt::MqttConfig {
                    client_id: format!("{}-check-{}", mqtt.client_id, std::process::id()),
                    ..mqtt.clone()
                };
                Some(probe::probe(&mqtt, &topics, Duration::from_secs(args.listen)).await)
            }
            None => None,
        }
    };
    let (mut facts, broker) = tokio::join!(look::look(config, args.service_account.as_ref()), broker);
    facts.broker = broker;
    let report = Report::new(judge::all(&facts));
    match args.output {
        Output::Text => print!("{}", report.text(args.strict)),
        Output::Json => println!("{}", report.json(args.strict)),
    }
    ExitCode::from(report.exit_code(args.strict))
}

fn parse_account(text: &str) -> Result<Account, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("give it as NAMESPACE/NAME".to_owned()),
    }
}
