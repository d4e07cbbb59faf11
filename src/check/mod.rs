//! `modulet check`: looks at a cluster and a broker and says what modulet will meet there. It changes nothing.
//!
//! `look` and [`crate::tunnel::probe`] are its edge: what they see becomes facts, which `judge` turns into findings, without
//! I/O and without a clock.

mod args;
mod facts;
mod finding;
mod judge;
mod look;
mod rights;

use std::{process::ExitCode, time::Duration};

use futures::future::OptionFuture;

use crate::{
    config::Config,
    tunnel::{Topics, http, mqtt::MqttConfig, probe},
};
pub use args::{CheckArgs, Subcommand};

use args::Output;
use facts::Heartbeats;
use finding::Report;

/// Looks, says what was seen, and returns the exit code: 0 all well, 1 something will not work, 2 could not look.
pub async fn run(config: &Config, args: &CheckArgs) -> ExitCode {
    // rustls wants to be told which cryptography to use; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let topics = Topics::new(&config.env);
    let mqtt = config.mqtt.as_ref().map(|mqtt| {
        // Another session than that of the controller, which may be running.
        let client_id = format!("{}-check-{}", mqtt.client_id, std::process::id());
        MqttConfig { client_id, ..mqtt.clone() }
    });
    let listens = Duration::from_secs(args.listen);
    let broker = OptionFuture::from(mqtt.as_ref().map(|mqtt| probe::probe(mqtt, &topics, listens)));
    let (mut facts, broker) = tokio::join!(look::look(config, args.service_account.as_ref()), broker);
    facts.broker = broker;
    facts.heartbeats = match &config.http_tunnel {
        // The port is open for a moment only.
        Some(tunnel) => Some(Heartbeats { tunnel: tunnel.clone(), opened: http::listen(tunnel).await.map(drop) }),
        None => None,
    };
    let report = Report(judge::all(&facts));
    match args.output {
        Output::Text => print!("{}", report.text(args.strict)),
        Output::Json => println!("{}", report.json(args.strict)),
    }
    ExitCode::from(report.exit_code(args.strict))
}
