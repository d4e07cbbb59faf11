//! The `modulet` binary.

use std::process::ExitCode;

use modulet::{
    app,
    check::{self, Subcommand},
    config::{Args, Config},
    domain::printable,
    telemetry,
};

/// Gives what is free back to the system within seconds, by a thread of its own. With the C library's, a fleet that has had
/// modules keeps twice what it needs for ever.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    let subcommand = args.subcommand();
    let config = Config::from(args);
    let run = || {
        if subcommand.is_none() {
            telemetry::init(&config.log, config.log_format)?;
        }
        // One thread: 5,000 bases take a fifth of it, and a second one would cost more by waking the first than it takes
        // over (measured: 15 to 25 % of the CPU).
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = match subcommand {
            Some(Subcommand::Check(args)) => Ok(runtime.block_on(check::run(&config, &args))),
            None => runtime.block_on(app::run(config)).map(|()| ExitCode::SUCCESS),
        };
        // A name that is being looked up must not keep a process from its end.
        runtime.shutdown_background();
        end
    };
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("modulet: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Characters of each part of the last line.
const TEXT_MAX: usize = 4096;

/// Libraries repeat the cause in the message, and quote what they could not read over several lines.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.lines().next().unwrap_or_default();
        if !line.contains(text) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&printable(text, TEXT_MAX));
        }
    }
    line
}
