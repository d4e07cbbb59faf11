//! A live show of what modulet does, all on this machine: `make demo`, or `make demo REAL=1` with JVMs.
//!
//! The parts are those of the tests. Everything that is started here ends with this process, however
//! that ends; a signal only makes it end in order.

mod bases;
mod batches;
mod cluster;
mod controller;
mod scene;
mod screen;
mod signals;
mod stage;
mod story;
mod way;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::{screen::Screen, signals::Signals, stage::Stage};

/// Shows modulet at work: a cluster, a broker or HTTP without one, three bases, a release and an update of a module.
///
/// Builds what is missing (a Kubernetes control plane, some minutes the first time), starts everything
/// on this machine as the user you are, tells what happens, and stays up for you to play with until
/// Ctrl-C. Nothing is left behind then.
///
/// With KUBECONFIG set it starts no control plane and uses that cluster: in a namespace "modulet-demo" and
/// with Nodes "vnode.base-1.demo" and so on, all of which it deletes in the end.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Options {
    /// Real bases: JVMs from examples/java-base (needs a JDK 17 or newer, and Maven to build them once)
    #[arg(long)]
    real: bool,

    /// What is shown
    #[arg(long, value_enum, default_value_t = Story::Update)]
    story: Story,

    /// End after the story instead of staying up
    #[arg(long)]
    exit: bool,

    /// Without a broker: modulet and the bases speak HTTP
    #[arg(long, conflicts_with = "broker_port")]
    http: bool,

    /// Port of this machine at which modulet takes heartbeats with --http
    #[arg(long, default_value_t = 17_777, value_name = "PORT", requires = "http", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: u16,

    /// Port of 127.0.0.1 for the MQTT broker
    #[arg(long, default_value_t = 11_883, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    broker_port: u16,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Story {
    /// A release and an update of a module
    Update,
    /// A release in three batches, with a confirmation, an error in the second, and the way back (simulated bases)
    Rollout,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let screen = Screen::new();
    match Box::pin(run(options, &screen)).await {
        Ok(code) => code,
        Err(error) => {
            screen.clear_status();
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the story, stays, and takes everything down, whatever happened before.
async fn run(options: Options, screen: &Screen) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let stay = !options.exit;
    let mut stage = Stage::new(options);
    let (told, mut code) = tokio::select! {
        told = story::tell(&mut stage, screen) => (told, ExitCode::SUCCESS),
        number = signals.next() => (Ok(()), ExitCode::from(128 + number)),
    };
    if stay && told.is_ok() && code == ExitCode::SUCCESS {
        tokio::select! {
            () = story::stay(&mut stage, screen) => {}
            _ = signals.next() => {}
        }
    }
    // The reason first: taking down takes a moment.
    if let Err(error) = told {
        screen.clear_status();
        eprintln!("demo: {error:#}");
        code = ExitCode::FAILURE;
    }
    tokio::select! {
        down = stage.take_down(screen) => down?,
        number = signals.insisted() => code = ExitCode::from(128 + number),
    }
    Ok(code)
}
