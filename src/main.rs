//! The `modulet` binary.

use std::process::ExitCode;

use modulet::{
    app,
    config::{Args, Config},
    telemetry,
};

fn main() -> ExitCode {
    let config = Config::from(Args::from_command_line());
    let run = || {
        telemetry::init(&config.log, config.log_format)?;
        // One thread: 5,000 bases take a fifth of it, and a second one would cost more by waking the first than it takes
        // over (measured: 15 to 25 % of the CPU).
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(app::run(config.clone()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("modulet: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Libraries repeat the cause in the message, and quote what they could not read over several lines.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.lines().next().unwrap_or_default();
        if !line.contains(text) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(text);
        }
    }
    line
}
