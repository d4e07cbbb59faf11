//! The `modulet` binary.

use std::process::ExitCode;

use clap::Parser;
use modulet::{
    app,
    config::{Args, Config},
    telemetry,
};

fn main() -> ExitCode {
    let config = Config::from(Args::parse());
    let run = || {
        telemetry::init(&config.log, config.log_format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(app::run(config.clone()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("modulet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
